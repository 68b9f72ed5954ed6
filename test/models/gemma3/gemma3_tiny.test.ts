/** The preset in the package: what Python KerasHub answers with it, word for word, on both backends. */
import {readFileSync} from 'node:fs';
import {Gemma3CausalLM, useBackend} from '../../../src';
import {fixture} from '../../support/fixtures';

interface Questions {
  max_length: number;
  cases: {prompt: string; text: string}[];
}
const path = fixture('tiny_preset/questions.json');
const {cases, max_length: maxLength} = JSON.parse(readFileSync(path, 'utf8')) as Questions;

describe.each(['simd', 'cpu'] as const)('on %s', backend => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    await useBackend(backend);
    lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  });
  afterAll(() => {
    lm.dispose();
  });

  test('answers one by one as KerasHub', async () => {
    for (const {prompt, text} of cases) expect(await lm.generate(prompt, {maxLength})).toBe(text);
  });

  test('answers all together as KerasHub', async () => {
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
