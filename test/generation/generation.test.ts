/** The generation loop, with a model that adds numbers. */
import {samplers} from '../../src';
import {generateSteps, type GenerationRequest, tokensOf} from '../../src/generation/generation';
import {FakeDecoder} from '../support/fake_decoder';
import {expectNoLeak} from '../support/numbers';

/** The next token is the sum of a row's tokens so far, modulo 10. */
class Counting extends FakeDecoder {
  constructor() {
    super(10);
  }
  override logitsOf(text: readonly number[]): number[] {
    const sum = text.reduce((a, b) => a + b, 0) % 10;
    return Array.from({length: 10}, (_, token) => Number(token === sum));
  }
}

const request = (options: Partial<GenerationRequest>): GenerationRequest => ({
  prompts: [{tokens: [1]}],
  maxLength: 6,
  stopTokenIds: null,
  sampler: new samplers.GreedySampler(),
  ...options,
});

async function collect(decoder: Counting, options: Partial<GenerationRequest>): Promise<(number | null)[][]> {
  const steps: (number | null)[][] = [];
  await expectNoLeak(async () => {
    for await (const step of tokensOf(generateSteps(decoder, request(options)))) steps.push(step);
  });
  return steps;
}

test('generates up to the maximum length, each row from the end of its own prompt', async () => {
  const decoder = new Counting();
  const steps = await collect(decoder, {prompts: [{tokens: [1]}, {tokens: [1, 2, 3, 4]}], maxLength: 6});
  // Row 0: 1 → 1, 2, 4, 8, 6; row 1: 10 → 0, 0.
  expect(steps).toEqual([
    [1, 0],
    [2, 0],
    [4, null],
    [8, null],
    [6, null],
  ]);
  expect(decoder.calls[0]).toEqual({
    rows: [
      [1, 0, 0, 0],
      [1, 2, 3, 4],
    ],
    counts: [1, 4],
    firstWanted: 0,
  });
  // The row that has ended is left out.
  expect(decoder.calls[2]).toEqual({rows: [[2]], counts: [1]});
  expect(decoder.caches[0]!.disposed).toBe(true);
});

test('ends a row after a stop token, and ends when all rows have ended', async () => {
  const steps = await collect(new Counting(), {
    prompts: [{tokens: [1]}, {tokens: [2]}],
    maxLength: 50,
    stopTokenIds: [4, 8],
  });
  // Row 0: 1, 2, 4 stop; row 1: 2, 4 stop.
  expect(steps).toEqual([
    [1, 2],
    [2, 4],
    [4, null],
  ]);
});

describe('rows that have ended', () => {
  const prompts = [[1, 2, 3, 4, 5], [1], [1, 2, 3, 4], [2], [1, 2, 3]].map(tokens => ({tokens}));
  // Rows end at a length of 6: after 1, 5, 2, 5 and 3 tokens.
  const options = {prompts, maxLength: 6};
  const lengths = (decoder: Counting) => decoder.calls.slice(1).map(({counts}) => counts);

  test('are left out once they are half of the batch, and the others go on as before', async () => {
    const decoder = new Counting();
    const steps = await collect(decoder, options);
    expect(lengths(decoder)).toEqual([
      [0, 1, 1, 1, 1],
      [0, 1, 0, 1, 1],
      [1, 1],
      [1, 1],
    ]);
    const alone = await Promise.all(prompts.map(prompt => collect(new Counting(), {...options, prompts: [prompt]})));
    expect(steps).toEqual(steps.map((_, i) => alone.map(own => own[i]?.[0] ?? null)));
  });

  test('stay while a sampler draws, so that the draws of the others are the same', async () => {
    const decoder = new Counting();
    await collect(decoder, {...options, sampler: new samplers.RandomSampler({seed: 1})});
    expect(lengths(decoder).every(counts => counts.length === prompts.length)).toBe(true);
  });

  test('have no log probabilities, and penalties count the tokens of the others', async () => {
    const sampler = new samplers.GreedySampler({repetitionPenalty: 1.5});
    const all: number[][] = [];
    for await (const {tokens, logprobs} of generateSteps(new Counting(), request({...options, sampler, logprobs: 1}))) {
      tokens.forEach((token, row) => {
        if (token !== null) (all[row] ??= []).push(token, logprobs![row]!.logprob);
        else expect(logprobs![row]).toBeNull();
      });
    }
    for (const [row, prompt] of prompts.entries()) {
      const own: number[] = [];
      const alone = request({...options, prompts: [prompt], sampler, logprobs: 1});
      for await (const {tokens, logprobs} of generateSteps(new Counting(), alone)) {
        own.push(tokens[0]!, logprobs![0]!.logprob);
      }
      expect(all[row]).toEqual(own);
    }
  });
});

test('does nothing if the prompts already have the maximum length', async () => {
  const decoder = new Counting();
  expect(await collect(decoder, {prompts: [{tokens: [1, 2, 3]}], maxLength: 3})).toEqual([]);
  expect(decoder.caches).toEqual([]);
});

test('refuses an empty prompt', async () => {
  await expect(collect(new Counting(), {prompts: [{tokens: [1]}, {tokens: []}]})).rejects.toThrow(
    /at least one token.*row 1/,
  );
});

test('frees the cache when the loop is left early, when the model fails and when aborted', async () => {
  const left = new Counting();
  for await (const step of tokensOf(generateSteps(left, request({})))) if (step) break;
  expect(left.caches[0]!.disposed).toBe(true);

  const failing = new Counting();
  failing.hiddenStates = () => {
    throw new Error('out of memory');
  };
  await expect(collect(failing, {})).rejects.toThrow('out of memory');
  expect(failing.caches[0]!.disposed).toBe(true);

  const aborted = new Counting();
  const controller = new AbortController();
  // The timer plays the part of a user's click: the loop must let it run.
  setTimeout(() => controller.abort(new Error('enough')), 5);
  await expect(collect(aborted, {maxLength: 1e9, signal: controller.signal})).rejects.toThrow('enough');
  expect(aborted.caches[0]!.disposed).toBe(true);
  await expect(collect(new Counting(), {signal: controller.signal})).rejects.toThrow('enough');
});
