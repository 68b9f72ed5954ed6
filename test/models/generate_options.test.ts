/** Options of one call of `generate` and `stream`: the sampler, how a text ends, and names that were misspelled. */
import * as tf from '@tensorflow/tfjs';
import {type Ending, type Gemma3CausalLM, type GenerateOptions, samplers} from '../../src';
import {expectNoLeak} from '../support/numbers';
import {smallModel} from '../support/small_model';

let lm: Gemma3CausalLM;
beforeAll(() => {
  lm = smallModel();
  tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]}));
});
afterAll(() => lm.dispose());
afterEach(() => lm.compile());

const options = {maxNewTokens: 12, stopTokenIds: null, stripPrompt: true} satisfies GenerateOptions;

describe('the sampler of a call', () => {
  test.each<[GenerateOptions, samplers.Sampler]>([
    [{sampler: 'top_k', topK: 9, temperature: 3, seed: 4}, new samplers.TopKSampler({k: 9, temperature: 3, seed: 4})],
    [{topK: 9, seed: 4}, new samplers.TopKSampler({k: 9, seed: 4})],
    [{topP: 0.99, topK: 50, seed: 4}, new samplers.TopPSampler({p: 0.99, k: 50, seed: 4})],
    [{temperature: 3, seed: 4}, new samplers.RandomSampler({temperature: 3, seed: 4})],
    [{seed: 4, minP: 0.01}, new samplers.RandomSampler({minP: 0.01, seed: 4})],
    [{repetitionPenalty: 2}, new samplers.GreedySampler({repetitionPenalty: 2})],
    [{sampler: 'beam', temperature: 2}, new samplers.BeamSampler({temperature: 2})],
    [{sampler: new samplers.RandomSampler({seed: 8})}, new samplers.RandomSampler({seed: 8})],
  ])('%j draws as the compiled sampler does', async (call, sampler) => {
    const once = await lm.generate('Hi', {...options, ...call});
    expect(lm.sampler.constructor).toBe(samplers.GreedySampler);
    let streamed = '';
    const again = call.sampler instanceof samplers.Sampler ? new samplers.RandomSampler({seed: 8}) : call.sampler;
    for await (const piece of lm.stream('Hi', {...options, ...call, sampler: again})) streamed += piece;
    lm.compile({sampler});
    expect(await lm.generate('Hi', options)).toBe(once);
    expect(streamed).toBe(once);
  });

  test('changes the arguments of the compiled one', async () => {
    lm.compile({sampler: new samplers.TopKSampler({k: 30, temperature: 3, seed: 1})});
    const changed = await lm.generate('Hi', {...options, seed: 6, temperature: 2});
    lm.compile({sampler: new samplers.TopKSampler({k: 30, temperature: 2, seed: 6})});
    expect(await lm.generate('Hi', options)).toBe(changed);
  });

  test.each<[object, RegExp]>([
    [{sampler: new samplers.GreedySampler(), topK: 3}, /name together with `topK`.*Pass the settings to its class/],
    [{sampler: 'greedy', temperature: 0.5}, /"greedy" does not read `temperature`/],
    [{sampler: 'top_k', topP: 0.5, seed: 2}, /"top_k" does not read `topP`. With it, use topK, temperature/],
    [{sampler: 'speculative', seed: 1}, /does not read `seed`. Pass them to its `baseSampler`/],
    [{sampler: 'best', seed: 1}, /one of "beam", .*Received: "best"/],
    [{sampler: 'best'}, /one of "beam", .*Received: "best"/],
    [{temperature: 0}, /temperature to be above 0.* use the sampler "greedy"/],
    [{topP: 2}, /p in \(0, 1\]/],
    [{topK: 1.5}, /k/],
  ])('refuses %j', async (call, message) => {
    await expectNoLeak(() => expect(lm.generate('Hi', {...options, ...call})).rejects.toThrow(message));
  });

  test('must be named together with settings if the compiled one is of another class', async () => {
    class First extends samplers.Sampler {
      override getNextToken = () => 5;
    }
    lm.compile({sampler: new First()});
    await expect(lm.generate('Hi', {seed: 1})).rejects.toThrow('Expected `sampler` together with `seed`');
    expect(await lm.generate('Hi', {...options, sampler: 'random', seed: 1})).toEqual(expect.any(String));
  });
});

describe('how a text ended', () => {
  const draw = {sampler: 'random', temperature: 3, seed: 5} as const;

  test('is in the result with `details`', async () => {
    await expectNoLeak(async () => {
      const prompts = ['Hi', 'Hi there'];
      const [first, second] = await lm.generate(prompts, {...options, ...draw, details: true});
      const counts = (await lm.preprocessor!.promptTokens(prompts)).tokens.map(({length}) => length);
      expect(first).toEqual({
        text: (await lm.generate(prompts, {...options, ...draw}))[0],
        finishReason: 'length',
        usage: {promptTokens: counts[0], newTokens: 12},
      });
      expect(second!.usage.promptTokens).toBe(counts[1]);

      const {tokens, ...whole} = await lm.generate('Hi', {...options, ...draw, details: true, logprobs: 0});
      expect(whole.finishReason).toBe('length');
      expect(tokens).toHaveLength(whole.usage.newTokens);
      const stopped = await lm.generate('Hi', {...options, ...draw, stopTokenIds: [tokens[3]!.id], details: true});
      expect(stopped.finishReason).toBe('stop');
      expect(stopped.usage.newTokens).toBe(1 + tokens.findIndex(({id}) => id === tokens[3]!.id));
      const text = await lm.generate('Hi', {...options, ...draw, stopStrings: whole.text.slice(4, 7), details: true});
      expect(text.finishReason).toBe('stop');
      expect(text.usage.newTokens).toBeLessThanOrEqual(12);
      expect(whole.text.startsWith(text.text)).toBe(true);
    });
  });

  test.each(['greedy', 'beam', 'speculative', 'contrastive'] as const)(
    'is known with the sampler %s',
    async sampler => {
      const {finishReason, usage} = await lm.generate('Hi', {...options, sampler, details: true});
      expect([finishReason, usage.newTokens]).toEqual(['length', 12]);
    },
  );

  test('is reported to `onFinish`: once, also when the loop is left or aborted, not after a failure', async () => {
    const endings: [Ending, number][] = [];
    const onFinish = (ending: Ending, row: number) => endings.push([ending, row]);
    const {length: promptTokens} = (await lm.preprocessor!.promptTokens('Hi')).tokens[0]!;
    const reported = () =>
      endings.splice(0).map(([{finishReason, usage}, row]) => [finishReason, usage.newTokens, row]);

    for await (const piece of lm.stream('Hi', {...options, ...draw, onFinish})) void piece;
    expect(endings[0]![0].usage.promptTokens).toBe(promptTokens);
    expect(reported()).toEqual([['length', 12, 0]]);
    await lm.generate(['Hi', 'There'], {...options, onFinish});
    expect(reported()).toEqual([
      ['length', 12, 0],
      ['length', 12, 1],
    ]);
    const piecesOf = lm.stream('Hi', {...options, ...draw, stripPrompt: true, onFinish});
    await piecesOf.next();
    await piecesOf.return();
    expect(reported()).toEqual([['aborted', expect.any(Number), 0]]);
    const controller = new AbortController();
    const onPrefill = () => controller.abort(new Error('enough'));
    const {signal} = controller;
    await expect(lm.generate('Hi', {...options, signal, onPrefill, onFinish})).rejects.toThrow('enough');
    await expect(lm.generate('Hi', {...options, signal, onFinish})).rejects.toThrow('enough');
    expect(reported()).toEqual([
      ['aborted', 0, 0],
      ['aborted', 0, 0],
    ]);
    class Failing extends samplers.Sampler {
      override getNextToken(): number {
        throw new Error('no token');
      }
    }
    await expect(lm.generate('Hi', {...options, sampler: new Failing(), onFinish})).rejects.toThrow('no token');
    await expect(lm.generate('Hi', {maxLength: 1, onFinish})).rejects.toThrow('at most 1 tokens');
    expect(reported()).toEqual([]);
    await expect(lm.generate('Hi', {onFinish: 3 as never})).rejects.toThrow('Expected onFinish to be a function');
    await expect(lm.generate('Hi', {details: 3 as never})).rejects.toThrow('`details` to be true or false');
  });

  test('of answers in a conversation', async () => {
    const chat = lm.startChat();
    const endings: Ending[] = [];
    await chat.send('Hi', {...draw, maxNewTokens: 4, onFinish: ending => endings.push(ending)});
    expect(endings).toEqual([{finishReason: 'length', usage: {promptTokens: chat.promptLength, newTokens: 4}}]);
    chat.dispose();
  });
});

test.each([
  ['max_length', 'maxLength'],
  ['max_new_tokens', 'maxNewTokens'],
  ['maxTokens', 'maxNewTokens'],
  ['max_tokens', 'maxNewTokens'],
  ['maxOutputTokens', 'maxNewTokens'],
  ['top_k', 'topK'],
  ['top_p', 'topP'],
  ['stop', 'stopStrings'],
  ['stop_strings', 'stopStrings'],
  ['stop_token_ids', 'stopTokenIds'],
  ['strip_prompt', 'stripPrompt'],
  ['abortSignal', 'signal'],
  ['frequency_penalty', 'frequencyPenalty'],
  ['do_sample', 'sampler'],
  ['toString', undefined],
])('an option %s is refused; meant is %s', async (name, meant) => {
  const message = `generate has no argument "${name}"`;
  const refused = lm.generate('Hi', {[name]: 3}).then(() => '', String);
  expect(await refused).toContain(message);
  if (meant) expect(await refused).toMatch(new RegExp(`Did you mean "${meant}"\\?$`));
});
