/** Speculative decoding gives the same text as its base sampler or, if that is random, the same distribution. */
import fc from 'fast-check';
import {Gemma3CausalLM, samplers, useBackend} from '../../src';
import {lookUp} from '../../src/generation/samplers/prompt_lookup';
import {collect} from '../support/collect';
import {FakeDecoder} from '../support/fake_decoder';
import {expectNoLeak} from '../support/numbers';

/** A draft that is right some of the time: it has the model's logits, except after texts of some lengths. */
class Guessing extends FakeDecoder {
  override logitsOf(text: readonly number[]): number[] {
    return text.length % 3 === 0 ? super.logitsOf([...text, 99]) : super.logitsOf(text);
  }
}

test.each(['lookup', 'draft'])('gives the greedy text, with guesses by %s', async by => {
  const cases = fc.record({
    vocabulary: fc.integer({min: 1, max: 4}),
    seed: fc.nat(1000),
    numSpeculativeTokens: fc.integer({min: 1, max: 6}),
    maxLength: fc.integer({min: 2, max: 25}),
    lengths: fc.array(fc.integer({min: 1, max: 9}), {minLength: 1, maxLength: 4}),
    stop: fc.array(fc.integer({min: 0, max: 4}), {maxLength: 1}),
    frequencyPenalty: fc.constantFrom(0, 0.5),
  });
  await fc.assert(
    fc.asyncProperty(cases, async ({vocabulary, seed, lengths, maxLength, stop, ...rest}) => {
      const prompts = lengths.map((length, row) => Array.from({length}, (_, t) => (row + 2 * t) % vocabulary));
      const request = {prompts, maxLength, stopTokenIds: stop, logprobs: 1};
      const baseSampler = new samplers.GreedySampler({frequencyPenalty: rest.frequencyPenalty});
      const decoder = new FakeDecoder(vocabulary, {seed});
      const expected = await collect(decoder, {...request, sampler: baseSampler});
      const {numSpeculativeTokens} = rest;
      const draft = new Guessing(vocabulary, {seed});
      const sampler = new samplers.SpeculativeSampler({
        numSpeculativeTokens,
        baseSampler,
        ...(by === 'draft' ? {draft} : {lookup: [3, 1] as const}),
      });
      const received = await collect(decoder, {...request, sampler});
      expect(received.tokens).toEqual(expected.tokens);
      expect(received.logprobs).toEqual(expected.logprobs);
      expect([decoder.open, draft.open]).toEqual([0, 0]);
    }),
    {numRuns: 60},
  );
});

test('needs fewer passes if its guesses are better', async () => {
  const request = {prompts: [[1]], maxLength: 61, stopTokenIds: null};
  const passes = async (draft: FakeDecoder) => {
    const decoder = new FakeDecoder(50, {seed: 4});
    await collect(decoder, {...request, sampler: new samplers.SpeculativeSampler({draft, numSpeculativeTokens: 4})});
    return decoder.passes;
  };
  // The model as its own draft: each pass yields five tokens; the prompt yielded the first.
  expect(await passes(new FakeDecoder(50, {seed: 4}))).toEqual([1, ...Array<number>(11).fill(5), 4]);
  const some = (await passes(new Guessing(50, {seed: 4}))).length;
  const none = (await passes(new FakeDecoder(50, {seed: 5}))).length;
  expect(some).toBeGreaterThan(13);
  expect(some).toBeLessThan(40);
  expect(none).toBeGreaterThan(50);
});

/** 99.99 % point of chi-square with 26 degrees of freedom; seeds are fixed, so results do not change between runs. */
const LIMIT = 64;
const ROWS = 8000;

test.each([
  ['lookup', () => new samplers.RandomSampler({temperature: 1.3, seed: 1})],
  ['draft', () => new samplers.RandomSampler({temperature: 1.3, seed: 2})],
  ['draft', () => new samplers.TopKSampler({k: 2, temperature: 2, seed: 3})],
])('draws texts by their probability, with guesses by %s', async (by, base) => {
  const decoder = new FakeDecoder(3, {seed: 6, spread: 1.5});
  const prompt = [0, 1, 2, 0, 1, 2];
  const baseSampler = base();
  // The draft has other logits than the model.
  const draft = by === 'draft' ? new FakeDecoder(3, {seed: 7, spread: 1.5}) : null;
  const sampler = new samplers.SpeculativeSampler({baseSampler, draft, numSpeculativeTokens: 3});
  const prompts = Array.from({length: ROWS}, () => prompt);
  const {tokens} = await collect(decoder, {prompts, maxLength: prompt.length + 3, stopTokenIds: null, sampler});
  const counts = new Map<string, number>();
  for (const row of tokens) counts.set(row.join(), (counts.get(row.join()) ?? 0) + 1);
  let statistic = 0;
  const k = baseSampler instanceof samplers.TopKSampler ? baseSampler.k : 3;
  for (let text = 0; text < 27; text++) {
    const row = [Math.floor(text / 9), Math.floor(text / 3) % 3, text % 3];
    const probability = row.reduce((product, token, t) => {
      const all = decoder.logProbsOf([...prompt, ...row.slice(0, t)], baseSampler.temperature).map(Math.exp);
      const kept = [...all].sort((a, b) => b - a).slice(0, k);
      return kept.includes(all[token]!) ? (product * all[token]!) / kept.reduce((a, b) => a + b) : 0;
    }, 1);
    const count = counts.get(row.join()) ?? 0;
    if (probability === 0) expect(count).toBe(0);
    else statistic += (count - probability * ROWS) ** 2 / (probability * ROWS);
  }
  expect(statistic).toBeLessThan(LIMIT);
});

test('looks up what followed the last tokens before: the longest match first, then the latest', () => {
  expect(lookUp([1, 2, 3, 9, 1, 2, 3], [3, 1], 4)).toEqual([9, 1, 2, 3]);
  expect(lookUp([1, 2, 8, 7, 2, 9, 1, 2], [3, 1], 2)).toEqual([8, 7]);
  expect(lookUp([5, 2, 8, 7, 2, 9, 1, 2], [3, 1], 2)).toEqual([9, 1]);
  expect(lookUp([5, 2, 8, 7, 2, 9, 1, 2], [3, 2], 2)).toEqual([]);
  expect(lookUp([4, 4, 4], [2, 1], 3)).toEqual([4, 4, 4]); // repeats the match
  expect(lookUp([1], [3, 1], 3)).toEqual([]);
  expect(lookUp([4, 4, 4], [2, 1], 0)).toEqual([]);
});

describe('with the preset in the package', () => {
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    await useBackend('simd');
    lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  });
  afterAll(() => lm.dispose());

  test.each(['lookup', 'draft'])('gives the greedy text beyond the window, with guesses by %s', async by => {
    const prompts = ['What is the capital of France?', 'one two three one two three one two three one two'];
    const options = {maxLength: 90, stopTokenIds: null};
    lm.compile();
    const expected = await lm.generate(prompts, options);
    lm.compile({sampler: new samplers.SpeculativeSampler({draft: by === 'draft' ? lm : null})});
    await expectNoLeak(async () => {
      expect(await lm.generate(prompts, options)).toEqual(expected);
    });
  });

  test('refuses a draft with another vocabulary', async () => {
    const draft = {...lm, preprocessor: {tokenizer: {getVocabulary: () => ['<pad>', '<eos>']}}};
    lm.compile({sampler: new samplers.SpeculativeSampler({draft: draft as never})});
    await expect(lm.generate('a')).rejects.toThrow(/vocabulary of the model, 2048 tokens. Received: 2 tokens/);
  });
});

test('refuses a draft model with another vocabulary size, and frees everything', async () => {
  const [decoder, draft] = [new FakeDecoder(4), new FakeDecoder(5)];
  const sampler = new samplers.SpeculativeSampler({draft});
  const run = collect(decoder, {prompts: [[1]], maxLength: 9, stopTokenIds: null, sampler});
  await expect(run).rejects.toThrow(/logits of 4 tokens, like the model. Received: 5 tokens/);
  expect([decoder.open, draft.open]).toEqual([0, 0]);
});

test.each([
  [{numSpeculativeTokens: 0}, /numSpeculativeTokens to be a positive integer/],
  [{baseSampler: new samplers.BeamSampler()}, /token by token.*Received: BeamSampler/],
  [{lookup: [1, 2]}, /\[longest, shortest\]/],
  [{lookup: 3}, /\[longest, shortest\]/],
  [{temperature: 2}, /no argument "temperature"/],
  [{draft: new FakeDecoder(2), lookup: [3, 1]}, /Received: both/],
])('refuses invalid arguments (%#)', (args, message) => {
  expect(() => new samplers.SpeculativeSampler(args as never)).toThrow(message);
});

test('returns its configuration', () => {
  expect(samplers.get('speculative').getConfig()).toEqual({
    temperature: 1,
    numSpeculativeTokens: 5,
    baseSampler: null,
    lookup: [3, 2],
  });
});
