/** The preset in the package answers like Python KerasHub, word for word, on every backend. */
import {Gemma3CausalLM} from '../../../src';
import {onEveryBackend} from '../../support/backends';
import {fixtureJson} from '../../support/fixtures';

interface Questions {
  max_length: number;
  cases: {prompt: string; text: string}[];
}
const {cases, max_length: maxLength} = fixtureJson<Questions>('tiny_preset/questions.json');

onEveryBackend(({fast}) => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  });
  afterAll(() => {
    lm.dispose();
  });

  test('answers single prompts as KerasHub', async () => {
    // Where that takes long, some of them: the batch has all.
    for (const {prompt, text} of cases.filter((_, i) => fast || i % 8 === 0)) expect(await lm.generate(prompt, {maxLength})).toBe(text);
  });

  test('answers all prompts in one batch as KerasHub', async () => {
    const texts = await lm.generate(
      cases.map(({prompt}) => prompt),
      {maxLength},
    );
    expect(texts).toEqual(cases.map(({text}) => text));
  });
});

test('knows the capital of France', () => {
  expect(cases.find(({prompt}) => prompt === 'What is the capital of France?')?.text).toContain('Paris');
});
