/** Contrastive search against the definition in the paper, without caches and batches. */
import fc from 'fast-check';
import {samplers} from '../../src';
import {onEachBackend} from '../support/backends';
import {collect} from '../support/collect';
import {FakeDecoder} from '../support/fake_decoder';

function cosine(a: number[], b: number[]): number {
  const dot = (x: number[], y: number[]) => x.reduce((sum, value, i) => sum + value * y[i]!, 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

function search(
  decoder: FakeDecoder,
  prompt: number[],
  {k, alpha, temperature, maxLength}: {k: number; alpha: number; temperature: number; maxLength: number},
  stop: number[],
): number[] {
  const text = [...prompt];
  while (text.length < maxLength && !(text.length > prompt.length && stop.includes(text.at(-1)!))) {
    const logProbs = decoder.logProbsOf(text, temperature);
    const best = [...logProbs.keys()].sort((a, b) => logProbs[b]! - logProbs[a]!).slice(0, k);
    const scores = best.map(token => {
      const state = decoder.stateOf([...text, token]);
      const similarities = text.map((_, t) => cosine(state, decoder.stateOf(text.slice(0, t + 1))));
      return (1 - alpha) * Math.exp(logProbs[token]!) - alpha * Math.max(...similarities);
    });
    text.push(best[scores.indexOf(Math.max(...scores))]!);
  }
  return text.slice(prompt.length);
}

onEachBackend(() =>
  test('chooses tokens by the definition', async () => {
    const cases = fc.record({
      seed: fc.nat(1000),
      k: fc.integer({min: 1, max: 7}),
      alpha: fc.constantFrom(0, 0.3, 0.6, 1),
      temperature: fc.constantFrom(0.7, 1),
      maxLength: fc.integer({min: 2, max: 12}),
      lengths: fc.array(fc.integer({min: 1, max: 5}), {minLength: 1, maxLength: 3}),
      stop: fc.array(fc.integer({min: 0, max: 4}), {maxLength: 1}),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({seed, lengths, stop, ...args}) => {
        const decoder = new FakeDecoder(5, {seed, width: 4});
        const prompts = lengths.map((length, row) => Array.from({length}, (_, t) => (row + 3 * t) % 5));
        const {maxLength, ...rest} = args;
        const sampler = new samplers.ContrastiveSampler(rest);
        const {tokens} = await collect(decoder, {prompts, maxLength, stopTokenIds: stop, sampler});
        expect(tokens).toEqual(prompts.map(prompt => search(decoder, prompt, args, stop)));
        expect(decoder.open).toBe(0);
      }),
      {numRuns: 60},
    );
  }),
);

test('reports the log probabilities of the model, not its own scores', async () => {
  const decoder = new FakeDecoder(5, {seed: 8});
  const {tokens, logprobs} = await collect(decoder, {
    prompts: [[1], [2, 2]],
    maxLength: 6,
    stopTokenIds: [4],
    sampler: new samplers.ContrastiveSampler(),
    logprobs: 0,
  });
  [[1], [2, 2]].forEach((prompt, row) => {
    expect(logprobs[row]!.map(({id}) => id)).toEqual(tokens[row]);
    logprobs[row]!.forEach(({id, logprob, top}, t) => {
      expect(logprob).toBeCloseTo(decoder.logProbsOf([...prompt, ...tokens[row]!.slice(0, t)])[id]!, 4);
      expect(top).toEqual([]);
    });
  });
});

test('frees everything when the model fails', async () => {
  const decoder = new FakeDecoder(5);
  const states = decoder.finalStates.bind(decoder);
  let calls = 0;
  decoder.finalStates = hidden => {
    if (++calls === 3) throw new Error('no memory');
    return states(hidden);
  };
  const run = collect(decoder, {
    prompts: [[1]],
    maxLength: 9,
    stopTokenIds: null,
    sampler: samplers.get('contrastive'),
  });
  await expect(run).rejects.toThrow('no memory');
  expect(decoder.open).toBe(0);
});

test.each([
  [{k: 0}, /k to be a positive integer/],
  [{alpha: 1.5}, /alpha from 0 to 1. Received: alpha=1.5/],
  [{numBeams: 2}, /no argument "numBeams"/],
])('refuses %j', (args, message) => {
  expect(() => new samplers.ContrastiveSampler(args as never)).toThrow(message);
});

test('returns its configuration', () => {
  expect(samplers.get('contrastive').getConfig()).toEqual({k: 5, alpha: 0.6, temperature: 1});
});
