/** Steps that run ahead of what was read: the same tokens, ends and draws as one step at a time. */
import {samplers} from '../../src';
import {AheadPace} from '../../src/generation/ahead';
import {type RowText, type StepsAhead} from '../../src/generation/decoder';
import {generateSteps, type GenerationRequest, tokensOf} from '../../src/generation/generation';
import {largestOf, softmax} from '../../src/ops/row_numbers';
import {type TokenChoice} from '../../src/ops/token_program';
import {type FakeCache, FakeDecoder} from '../support/fake_decoder';

/** Chooses tokens itself, except after texts for which `hostChooses`. */
class AheadDecoder extends FakeDecoder {
  /** Numbers of steps that were run at once. */
  readonly runs: number[] = [];
  open_ = 0;
  hostChooses = (_text: readonly number[]) => false;

  tokensAhead({draw}: TokenChoice, count: number): StepsAhead<FakeCache> {
    this.open_++;
    let cache: FakeCache;
    let next: number[] = [];
    let disposed = false;
    return {
      mostSteps: 4,
      start: (rows: readonly RowText[], own: FakeCache) => {
        cache = own;
        next = rows.map(({tokens}) => tokens.at(-1)!);
        expect(cache.lengths).toEqual(rows.map(({tokens}) => tokens.length - 1));
      },
      run: async steps => {
        expect(disposed).toBe(false);
        this.runs.push(steps.length);
        const chosen = steps.flatMap(({active, uniforms}) =>
          active.map((takesPart, row) => {
            if (!takesPart) return -7;
            cache.rows[row]!.push(next[row]!);
            const text = cache.rows[row]!;
            const logits = Float32Array.from(this.logitsOf(text));
            let token = logits.indexOf(largestOf(logits));
            if (draw) {
              let rest = uniforms[row]!;
              token = softmax(logits, draw.temperature).findIndex(p => (rest -= p) < 0);
            }
            next[row] = token;
            return this.hostChooses(text) ? -2 : token;
          }),
        );
        expect(chosen.length).toBe(steps.length * count);
        await new Promise(resolve => setTimeout(resolve));
        return Int32Array.from(chosen);
      },
      dispose: () => {
        if (!disposed) this.open_--;
        disposed = true;
      },
    };
  }
}

let now = 0;
beforeEach(() => {
  jest.spyOn(performance, 'now').mockImplementation(() => now);
});
afterEach(() => jest.restoreAllMocks());

const request = (options: Partial<GenerationRequest> = {}): GenerationRequest => ({
  prompts: [{tokens: [1]}, {tokens: [2, 3, 4, 5]}],
  maxLength: 24,
  stopTokenIds: null,
  sampler: new samplers.GreedySampler(),
  ...options,
});

async function collect(decoder: FakeDecoder, options: Partial<GenerationRequest> = {}) {
  const steps: (number | null)[][] = [];
  for await (const step of tokensOf(generateSteps(decoder, request(options)))) steps.push(step);
  return steps;
}

const ahead = () => new AheadDecoder(20);
const oneByOne = () => new FakeDecoder(20);

const cases: [string, Partial<GenerationRequest>][] = [
  ['the largest length', {}],
  ['a length that is no multiple of anything', {maxLength: 13}],
  ['numbers of new tokens', {maxNewTokens: 9}],
  ['stop tokens', {stopTokenIds: [0, 7, 11], maxLength: 60}],
  ['other conditions', {hasEnded: row => row === 1, maxLength: 30}],
];
test.each(cases)('the tokens are those of one step at a time, up to %s', async (_, options) => {
  const decoder = ahead();
  const expected = await collect(oneByOne(), options);
  expect(await collect(decoder, options)).toEqual(expected);
  expect(decoder.open).toBe(0);
  expect(decoder.open_).toBe(0);
});

test('the cache ends with all tokens but the last of each row', async () => {
  for (const stopTokenIds of [null, [7]]) {
    const decoder = ahead();
    const rows = [[1], [2, 3, 4, 5]];
    for (const tokens of await collect(decoder, {stopTokenIds})) {
      tokens.forEach((token, row) => token !== null && rows[row]!.push(token));
    }
    expect(decoder.caches[0]!.rows).toEqual(rows.map(row => row.slice(0, -1)));
  }
});

test('tokens that the host has to choose are computed again', async () => {
  const decoder = ahead();
  decoder.hostChooses = text => text.length % 5 === 0;
  const expected = await collect(oneByOne());
  expect(await collect(decoder)).toEqual(expected);
  expect(decoder.passes.length).toBeGreaterThan(4);
  expect(decoder.open_).toBe(0);
});

test('a seed draws the same tokens, also in the calls after the first', async () => {
  const texts = async (decoder: FakeDecoder, hostChooses: boolean) => {
    if (decoder instanceof AheadDecoder && hostChooses) decoder.hostChooses = text => text.length % 7 === 0;
    const sampler = new samplers.RandomSampler({seed: 5, temperature: 3});
    const first = await collect(decoder, {sampler, stopTokenIds: [3]});
    return [first, await collect(decoder, {sampler, maxLength: 11})];
  };
  const expected = await texts(oneByOne(), false);
  expect(await texts(ahead(), false)).toEqual(expected);
  expect(await texts(ahead(), true)).toEqual(expected);
});

test('an abort ends the text before the next token', async () => {
  const decoder = ahead();
  const controller = new AbortController();
  const given: (number | null)[][] = [];
  const run = async () => {
    for await (const step of tokensOf(generateSteps(decoder, request({signal: controller.signal})))) {
      given.push(step);
      if (given.length === 6) controller.abort();
    }
  };
  await expect(run()).rejects.toThrow(/abort/);
  expect(given).toEqual((await collect(oneByOne())).slice(0, 6));
  expect([decoder.open, decoder.open_]).toEqual([0, 0]);
});

test('a loop that is left frees everything', async () => {
  const decoder = ahead();
  let count = 0;
  for await (const _ of generateSteps(decoder, request())) if (++count === 5) break;
  expect([decoder.open, decoder.open_]).toEqual([0, 0]);
  expect(decoder.caches[0]!.lengths).toEqual([5, 8]);
});

test('subclasses of samplers, log probabilities and other searches choose on the host', async () => {
  class Own extends samplers.GreedySampler {}
  for (const options of [{sampler: new Own()}, {logprobs: 1}, {sampler: new samplers.BeamSampler({numBeams: 2})}]) {
    const decoder = ahead();
    await collect(decoder, options);
    expect(decoder.runs).toEqual([]);
  }
});

test('as many steps run at once as take some time together', async () => {
  const pace = new AheadPace(8);
  const after = (time: number) => {
    now += time;
    pace.arrived();
    return pace.steps;
  };
  expect([1, 1, 1, 1, 1].map(after)).toEqual([2, 4, 8, 8, 8]);
  expect([20, 60, 60, 60, 60].map(after)).toEqual([8, 4, 2, 1, 1]);
  const decoder = ahead();
  await collect(decoder, {prompts: [{tokens: [1]}], maxLength: 24});
  expect(decoder.runs.slice(0, 4)).toEqual([1, 1, 2, 4]);
  expect(decoder.runs.reduce((a, b) => a + b)).toBe(22);
});
