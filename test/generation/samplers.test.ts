/** Each sampler against the distribution it should draw from. */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {samplers} from '../../src';
import {tokenLogprobs} from '../../src/generation/logprobs';
import {draw, softmax, topIndices} from '../../src/ops/row_numbers';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectNoLeak} from '../support/numbers';

const LOGITS = [2, 1, 0.5, 0, -1, 3, 2.5, -2];
const DRAWS = 20_000;
const FEW_DRAWS = 4000;

/** How often each token is drawn. */
async function frequencies(sampler: samplers.Sampler, logits = LOGITS, draws = DRAWS): Promise<number[]> {
  const counts = logits.map(() => 0);
  const batch = tf.tile(tf.tensor2d([logits]), [100, 1]) as tf.Tensor2D;
  for (let i = 0; i < draws / 100; i++) for (const token of await sampler.sample(batch)) counts[token]!++;
  batch.dispose();
  return counts;
}

/** Pearson's statistic; tokens of probability zero must not occur. */
function chiSquare(counts: number[], probabilities: number[]): number {
  const draws = counts.reduce((a, b) => a + b);
  return counts.reduce((sum, count, i) => {
    const expected = probabilities[i]! * draws;
    if (expected === 0) return count === 0 ? sum : Infinity;
    return sum + (count - expected) ** 2 / expected;
  }, 0);
}

const normalized = (weights: number[]) => weights.map(weight => weight / weights.reduce((a, b) => a + b, 0));
const probabilitiesAt = (temperature: number) => normalized(LOGITS.map(logit => Math.exp(logit / temperature)));
const keep = (probabilities: number[], kept: number[]) =>
  normalized(probabilities.map((probability, i) => (kept.includes(i) ? probability : 0)));

// 99.99 % point of chi-square with 7 degrees of freedom; seeds are fixed, so results do not change between runs.
const LIMIT = 29.9;

test.each([0.5, 1, 2])('random draws by probability at temperature %d', async temperature => {
  const counts = await frequencies(new samplers.RandomSampler({temperature, seed: 1}));
  expect(chiSquare(counts, probabilitiesAt(temperature))).toBeLessThan(LIMIT);
});

test.each([
  [1, 1],
  [3, 1],
  [3, 0.7],
  [5, 2],
  [100, 1],
])('top-k draws from the k = %d most probable tokens at temperature %d', async (k, temperature) => {
  const counts = await frequencies(new samplers.TopKSampler({k, temperature, seed: 2}));
  const best = [5, 6, 0, 1, 2, 3, 4, 7].slice(0, k);
  expect(chiSquare(counts, keep(probabilitiesAt(temperature), best))).toBeLessThan(LIMIT);
});

test.each([
  [0.1, null, 1, [5]],
  [0.5, null, 1, [5, 6]], // 0.43, 0.69
  [0.9, null, 1, [5, 6, 0, 1, 2]], // 0.43, 0.69, 0.85, 0.906: exceeds p at token 1
  [0.9, 2, 1, [5, 6]],
  [1, null, 0.5, [0, 1, 2, 3, 4, 5, 6, 7]],
])('top-p draws from the fewest tokens with p = %d, k = %s', async (p, k, temperature, kept) => {
  const probabilities = probabilitiesAt(temperature);
  const order = [5, 6, 0, 1, 2, 3, 4, 7];
  let sum = 0;
  const expected = order.filter((token, i) => {
    const open = i === 0 || sum <= p;
    sum += probabilities[token]!;
    return open && i < (k ?? Infinity);
  });
  if (p !== 0.9 || k !== null) expect([...expected].sort()).toEqual([...kept].sort());
  const counts = await frequencies(new samplers.TopPSampler({p, k, temperature, seed: 3}));
  expect(chiSquare(counts, keep(probabilities, expected))).toBeLessThan(LIMIT);
});

test('greedy takes the most probable token, the first among equals, and leaves no tensor', async () => {
  const logits = tf.tensor2d([
    [1, 3, 3, 2],
    [0, -1, -2, -3],
  ]);
  await expectNoLeak(async () => {
    expect(await new samplers.GreedySampler().sample(logits)).toEqual([1, 0]);
  });
  expect(new samplers.GreedySampler().getNextToken(new Float32Array([0.1, 0.6, 0.3]))).toBe(1);
  logits.dispose();
});

test('draws the same tokens with the same seed, and continues the sequence in later calls', async () => {
  const logits = tf.tensor2d([LOGITS]);
  const first = new samplers.RandomSampler({seed: 7});
  const second = new samplers.RandomSampler({seed: 7});
  const draws = async (sampler: samplers.Sampler) => {
    const tokens: number[] = [];
    for (let i = 0; i < 50; i++) tokens.push(...(await sampler.sample(logits)));
    return tokens;
  };
  const tokens = await draws(first);
  expect(await draws(second)).toEqual(tokens);
  expect(await draws(first)).not.toEqual(tokens);
  expect(new Set(tokens).size).toBeGreaterThan(1);
  logits.dispose();
});

test('lets a subclass forbid a token', async () => {
  class Forbidding extends samplers.Sampler {
    override getNextToken(probabilities: Float32Array): number {
      probabilities[5] = 0;
      return probabilities.indexOf(Math.max(...probabilities));
    }
  }
  const logits = tf.tensor2d([LOGITS]);
  expect(await new Forbidding().sample(logits)).toEqual([6]);
  logits.dispose();
});

test('finds the largest values in order, for any values', () => {
  const values = fc.array(fc.integer({min: 0, max: 20}), {minLength: 1, maxLength: 60});
  fc.assert(
    fc.property(values, fc.integer({min: 1, max: 70}), (values, count) => {
      const expected = values.map((_, i) => i).sort((a, b) => values[b]! - values[a]! || a - b);
      expect(topIndices(Float32Array.from(values), count)).toEqual(expected.slice(0, count));
    }),
  );
});

test('turns large logits into probabilities and never draws a token of probability 0', () => {
  expect([...softmax(new Float32Array([1e4, 1e4 - 1e3]), 1)]).toEqual([1, 0]);
  expect(draw([0, 1, 0], () => 0)).toBe(1);
  expect(draw([0, 1, 0], () => 1 - 2 ** -53)).toBe(1);
  for (const none of [[0, 0], [], [NaN, 1]]) expect(draw(none, () => 0)).toBe(-1);
  const classes = [samplers.GreedySampler, samplers.RandomSampler, samplers.TopKSampler, samplers.TopPSampler] as const;
  for (const Class of [...classes, samplers.BeamSampler, samplers.ContrastiveSampler]) {
    expect(() => new Class().getNextToken(new Float32Array(3))).toThrow(/at least one of them above 0.*none above 0/);
    expect(() => new Class().getNextToken(Float32Array.of(1, NaN, 0))).toThrow(/Received: NaN/);
  }
});

onEachBackend(
  ({flushesToZero}) => {
    disposeAfterEach();

    // === Logits and temperatures at the ends of the range ===

    const HUGE = 3e38;
    const [TINY, DENORMAL] = [1e-40, 1e-45];
    /** All samplers that choose from one row of logits, each twice: as it is, and from all probabilities. */
    const choosing = (args: samplers.SamplerArgs): samplers.Sampler[] => {
      const fromAll = <S extends samplers.Sampler>(sampler: S): S => {
        const own = sampler.getNextToken.bind(sampler);
        return Object.assign(sampler, {getNextToken: own});
      };
      return [{}, {minP: 1e-30}].flatMap(minP => {
        const make = () => [
          new samplers.RandomSampler({...args, ...minP, seed: 1}),
          new samplers.TopKSampler({...args, ...minP, seed: 1}),
          new samplers.TopPSampler({...args, ...minP, seed: 1, p: 1}),
        ];
        return [...make(), ...make().map(fromAll)];
      });
    };

    test.each<[string, number[], number, number[]]>([
      ['a tiny temperature takes the best', [0, 1, 2, 1], 1e-40, [2]],
      ['an even smaller one as well', [0, 1, 2, 1], 5e-324, [2]],
      ['equals share a tiny temperature', [0, 2, 2, 1], 1e-45, [1, 2]],
      ['differences as small as the temperature count', [0, TINY, 3 * TINY, -1], TINY, [0, 1, 2]],
      ['differences of one bit count', [0, 0, DENORMAL, -1], 1e-45, [0, 1, 2]],
      ['a huge temperature makes all equal', [0, 1, 2, 1], 1e300, [0, 1, 2, 3]],
      ['but not impossible tokens possible', [0, -Infinity, 2, -Infinity], 1e300, [0, 2]],
      ['the largest numbers', [HUGE, -HUGE, 0, -1], 1, [0]],
      ['the largest numbers at a huge temperature', [HUGE, -HUGE, 0, -1], 1e38, [0, 2, 3]],
      ['the largest numbers, all negative', [-HUGE, -HUGE, -Infinity, -HUGE], 1, [0, 1, 3]],
      ['an infinite logit', [5, Infinity, 3, -Infinity], 1, [1]],
      ['several infinite logits', [5, Infinity, 3, Infinity], 1e-40, [1, 3]],
      ['infinite logits at a huge temperature', [5, Infinity, 3, Infinity], 1e300, [1, 3]],
    ])('%s', async (name, logits, temperature, possible) => {
      if (flushesToZero && name.startsWith('differences')) return;
      // Columns before and after them, for all paths of a kernel.
      for (const [before, after] of [
        [0, 0],
        [21, 0],
        [3, 40],
      ] as const) {
        const none = (count: number) => Array<number>(count).fill(-Infinity);
        const row = [...none(before), ...logits, ...none(after)];
        const batch = tf.tensor2d(Array.from({length: 40}, () => row));
        for (const sampler of choosing({temperature})) {
          const tokens = await sampler.sample(batch);
          const shares = logits.filter((_, i) => possible.includes(i));
          const rare = shares.some(x => (Math.max(...shares) - x) / temperature > 3);
          const drawn = [...new Set(tokens)].map(token => token - before).sort((a, b) => a - b);
          if (rare) expect(possible).toEqual(expect.arrayContaining(drawn));
          else expect(drawn).toEqual(possible);
        }
        const best = logits.indexOf(Math.max(...logits)) + before;
        expect(await new samplers.GreedySampler({temperature}).sample(batch)).toEqual(Array(40).fill(best));
      }
    });

    test.each<[string, number[], RegExp]>([
      ['NaN', [1, NaN, 2], /Expected logits of the model without NaN.*Received: NaN for token \d+, in row 1/],
      ['NaN at the start', [NaN, 1, 2], /Received: NaN for token \d+, in row 1/],
      ['only NaN', [NaN, NaN, NaN], /Received: NaN for token \d+, in row 1/],
      ['no possible token', [-Infinity, -Infinity, -Infinity], /Received: -Infinity for all tokens, in row 1/],
    ])('%s is an error of every sampler', async (_, logits, message) => {
      for (const count of [0, 5, 70]) {
        const none = Array<number>(count).fill(-Infinity);
        const row = [...none, ...logits, ...none];
        const good = row.map((_, i) => i);
        const batch = tf.tensor2d([good, row]);
        for (const sampler of [...choosing({}), new samplers.GreedySampler(), new samplers.SpeculativeSampler()]) {
          await expectNoLeak(() => expect(sampler.sample(batch)).rejects.toThrow(message));
        }
        await expectNoLeak(() => expect(tokenLogprobs(batch, [{row: 1, token: 1}], 2)).rejects.toThrow(message));
        // Other rows are not affected.
        expect(await tokenLogprobs(batch, [{row: 0, token: row.length - 1}], 0)).toHaveLength(1);
      }
    });

    test('log probabilities of infinite logits are those of their limit', async () => {
      const logits = tf.tensor2d([[1, Infinity, Infinity, -Infinity]]);
      const chosen = [0, 1, 3].map(token => ({row: 0, token}));
      const all = await tokenLogprobs(logits, chosen, 2);
      expect(all.map(({logprob}) => logprob)).toEqual([-Infinity, -Math.log(2), -Infinity]);
      expect(all[0]!.top.map(({logprob}) => logprob)).toEqual([-Math.log(2), -Math.log(2)]);
    });

    test('penalties beyond the range of float32 do not make NaN', async () => {
      const logits = tf.tensor2d([[0, 1, 2, -1]]);
      const rows = [{tokens: [0, 2], promptLength: 0}];
      for (const penalties of [{repetitionPenalty: 1e300}, {presencePenalty: 1e300}, {frequencyPenalty: 1e308}]) {
        expect(await new samplers.GreedySampler(penalties).sample(logits, rows)).toEqual([1]);
      }
      expect(await new samplers.GreedySampler({presencePenalty: -1e300}).sample(logits, rows)).toEqual([0]);
    });

    test('a token that does not exist is an error of the sampler that chose it', async () => {
      const logits = tf.tensor2d([[1, 2, 3]]);
      for (const token of [-1, 3, 0.5, NaN, undefined as never]) {
        class Wrong extends samplers.Sampler {
          override getNextToken(): number {
            return token;
          }
        }
        await expect(new Wrong().sample(logits)).rejects.toThrow(
          `Expected Wrong to choose one token from 0 to 2 for each of 1 rows. Received: ${token} for row 0.`,
        );
      }
    });

    // === Min-p ===

    test.each([
      [0.3, 1],
      [0.5, 2],
      [1, 1],
      [0.001, 1],
    ])('min-p draws from tokens at least %d as probable as the best, at temperature %d', async (minP, temperature) => {
      const probabilities = probabilitiesAt(temperature);
      const largest = Math.max(...probabilities);
      const kept = [...probabilities.keys()].filter(token => probabilities[token]! >= minP * largest);
      const draw = (sampler: samplers.Sampler) => frequencies(sampler, LOGITS, FEW_DRAWS);
      const expected = (among: number[]) =>
        keep(
          probabilities,
          kept.filter(token => among.includes(token)),
        );
      const random = await draw(new samplers.RandomSampler({minP, temperature, seed: 4}));
      expect(chiSquare(random, expected(kept))).toBeLessThan(LIMIT);
      const best = [5, 6, 0];
      const topK = await draw(new samplers.TopKSampler({k: 3, minP, temperature, seed: 5}));
      expect(chiSquare(topK, expected(best))).toBeLessThan(LIMIT);
      const topP = await draw(new samplers.TopPSampler({p: 0.999, k: 3, minP, temperature, seed: 6}));
      expect(chiSquare(topP, expected(best))).toBeLessThan(LIMIT);
    });

    test('min-p removes probabilities before a subclass sees them', async () => {
      const seen: number[][] = [];
      class Watching extends samplers.RandomSampler {
        override getNextToken(probabilities: Float32Array): number {
          seen.push([...probabilities]);
          return 0;
        }
      }
      const logits = tf.tensor2d([LOGITS]);
      await new Watching({minP: 0.5}).sample(logits);
      logits.dispose();
      const probabilities = probabilitiesAt(1);
      const expected = probabilities.map((value, i) => ([5, 6].includes(i) ? value : 0));
      expect(seen[0]).toBeAllClose(expected, {atol: 5e-3});
    });

    // === Penalties ===

    const text = (tokens: number[], promptLength: number) => ({tokens, promptLength});
    // Prompt 5, 1; new text 6, 6, 4.
    const ROW = text([5, 1, 6, 6, 4], 2);

    /** Logits after the penalties. */
    function penalized(repetition: number, presence = 0, frequency = 0): number[] {
      return LOGITS.map((logit, token) => {
        const scaled = [5, 1, 6, 4].includes(token) ? (logit > 0 ? logit / repetition : logit * repetition) : logit;
        const count = token === 6 ? 2 : token === 4 ? 1 : 0;
        return scaled - (count ? presence : 0) - count * frequency;
      });
    }

    test.each([
      [{repetitionPenalty: 1.3}, penalized(1.3)],
      [{repetitionPenalty: 0.8}, penalized(0.8)],
      [{presencePenalty: 0.7}, penalized(1, 0.7)],
      [{frequencyPenalty: 0.4}, penalized(1, 0, 0.4)],
      [{repetitionPenalty: 1.2, presencePenalty: -0.3, frequencyPenalty: 0.5}, penalized(1.2, -0.3, 0.5)],
    ])('%j changes the logits of tokens in the text', async (penalties, logits) => {
      const draws = 100;
      const rows = Array.from({length: draws}, () => ROW);
      const batch = tf.tile(tf.tensor2d([LOGITS]), [draws, 1]) as tf.Tensor2D;
      const weights = normalized(logits.map(Math.exp));
      const order = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);
      const cases: [samplers.Sampler, number[]][] = [
        [new samplers.RandomSampler({...penalties, seed: 1}), weights],
        [new samplers.TopKSampler({...penalties, k: 3, seed: 2}), keep(weights, order.slice(0, 3))],
        [new samplers.TopPSampler({...penalties, p: 1, k: 4, seed: 3}), keep(weights, order.slice(0, 4))],
        [new samplers.GreedySampler(penalties), keep(weights, order.slice(0, 1))],
      ];
      for (const [sampler, expected] of cases) {
        const counts = LOGITS.map(() => 0);
        await expectNoLeak(async () => {
          for (let i = 0; i < FEW_DRAWS / draws; i++)
            for (const token of await sampler.sample(batch, rows)) counts[token]!++;
        });
        expect(chiSquare(counts, expected)).toBeLessThan(LIMIT);
      }
      batch.dispose();
    });

    test('penalties apply to each row separately, and to subclasses', async () => {
      class Best extends samplers.Sampler {
        override getNextToken(probabilities: Float32Array): number {
          return probabilities.indexOf(Math.max(...probabilities));
        }
      }
      const logits = tf.tensor2d([LOGITS, LOGITS, LOGITS]);
      const rows = [text([0], 1), text([5], 1), text([6, 5, 6], 1)];
      expect(await new Best({repetitionPenalty: 9}).sample(logits, rows)).toEqual([5, 6, 0]);
      expect(await new Best({presencePenalty: 9}).sample(logits, rows)).toEqual([5, 5, 0]);
      logits.dispose();
    });

    test('penalties need the tokens of the rows', async () => {
      const logits = tf.tensor2d([LOGITS]);
      const sampler = new samplers.GreedySampler({repetitionPenalty: 2});
      await expect(sampler.sample(logits)).rejects.toThrow(
        /the tokens so far of each of 1 rows, for penalties. Received: no rows/,
      );
      logits.dispose();
    });
  },
  {small: true},
);

describe('invalid arguments', () => {
  test.each([
    [() => new samplers.RandomSampler({temperature: 0}), /above 0.*greedy/],
    [() => new samplers.RandomSampler({temperature: NaN}), /above 0/],
    [() => new samplers.RandomSampler({seed: 0.5}), /seed to be an integer/],
    [() => new samplers.TopKSampler({k: 0}), /positive integer. Received: k=0/],
    [() => new samplers.TopPSampler({p: 1.5}), /p in \(0, 1\]/],
    [() => new samplers.TopPSampler({k: -1}), /positive integer or null/],
    [() => new samplers.GreedySampler({k: 3} as never), /no argument "k"/],
    [() => new samplers.RandomSampler({minP: 1.1}), /minP from 0 to 1. Received: minP=1.1/],
    [() => new samplers.GreedySampler({minP: 0.1} as never), /no argument "minP"/],
    [() => new samplers.GreedySampler({repetitionPenalty: 0}), /repetitionPenalty to be above 0/],
    [() => new samplers.GreedySampler({presencePenalty: NaN}), /presencePenalty to be a number/],
    [() => new samplers.RandomSampler({minP: '0.5' as never}), /minP from 0 to 1. Received: minP="0.5"/],
    [() => new samplers.TopPSampler({p: '0.5' as never}), /p in \(0, 1\]. Received: p="0.5"/],
    [() => new samplers.TopPSampler({p: NaN}), /p in \(0, 1\]/],
    [() => new samplers.RandomSampler({temperature: Infinity}), /temperature=Infinity/],
    [() => new samplers.RandomSampler({temperature: '1' as never}), /temperature="1"/],
    [() => new samplers.RandomSampler({seed: Infinity}), /seed to be an integer/],
    [() => new samplers.RandomSampler({seed: 1e300}), /seed to be an integer/],
    [() => new samplers.ContrastiveSampler({alpha: '0.5' as never}), /alpha from 0 to 1. Received: alpha="0.5"/],
    [() => new samplers.ContrastiveSampler({alpha: NaN}), /alpha from 0 to 1/],
    [() => new samplers.BeamSampler({numBeams: Infinity}), /numBeams to be a positive integer/],
    [() => new samplers.SpeculativeSampler({draft: {} as never}), /draft to be null or a language model.*Received: {}/],
    [() => new samplers.SpeculativeSampler({baseSampler: {temperature: -1} as never}), /baseSampler to be null or a/],
    [() => samplers.get('constructor' as never), /one of "beam".*Received: "constructor"/],
    [() => samplers.get('best' as never), /one of "beam", "contrastive", "greedy", .*"top_p". Received: "best"/],
  ])('are refused (%#)', (make, message) => {
    expect(make).toThrow(message);
  });
});

test('returns its configuration', () => {
  expect(new samplers.TopPSampler({p: 0.3, k: 9, seed: 4, temperature: 2}).getConfig()).toEqual({
    p: 0.3,
    k: 9,
    seed: 4,
    temperature: 2,
  });
  expect(samplers.get('top_k').getConfig()).toEqual({k: 5, seed: null, temperature: 1});
  const penalties = {repetitionPenalty: 1.1, presencePenalty: 0.5, frequencyPenalty: 0.2};
  const config = {seed: 3, temperature: 1, minP: 0.1, ...penalties};
  expect(new samplers.RandomSampler(config).getConfig()).toEqual(config);
});
