/** The attention layer against its formula, with and without a cache. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {ValueError} from '../../../src/base/errors';
import {KvCache} from '../../../src/generation/kv_cache';
import {CachedGemma3Attention, type CachedGemma3AttentionArgs} from '../../../src/models/gemma3/gemma3_attention';
import {normal} from '../../support/random';

const SMALL = {headDim: 4, numQueryHeads: 4, numKeyValueHeads: 2};
const D = 6;

function filled(args: Partial<CachedGemma3AttentionArgs> = {}): CachedGemma3Attention {
  const layer = new CachedGemma3Attention({...SMALL, name: 'attention', ...args});
  layer.build([null, null, D]);
  tf.tidy(() => layer.setWeights(layer.weights.map((weight, i) => tf.mul(normal(weight.shape as number[], i), 0.5))));
  return layer;
}

describe('CachedGemma3Attention', () => {
  test('has the weights of Keras, named by their paths', () => {
    const layer = filled({useQueryKeyNorm: true});
    expect(layer.weights.map(weight => [weight.originalName, weight.shape])).toEqual([
      ['attention/query/kernel', [4, D, 4]],
      ['attention/key/kernel', [2, D, 4]],
      ['attention/value/kernel', [2, D, 4]],
      ['attention/query_norm/scale', [4]],
      ['attention/key_norm/scale', [4]],
      ['attention/attention_output/kernel', [4, 4, D]],
    ]);
    layer.dispose();
  });

  test('computes its formula', () => {
    tf.tidy(() => {
      const layer = filled({queryHeadDimNormalize: false, logitSoftCap: 2, ropeWavelength: 100, ropeScalingFactor: 2});
      const x = normal([2, 5, D], 9);
      const [wq, wk, wv, wo] = layer.weights.map(weight => weight.read().arraySync() as number[][][]);
      const rows = x.arraySync() as number[][][];
      const project = (row: number[], kernel: number[][]) =>
        kernel[0]!.map((_, h) => row.reduce((sum, v, d) => sum + v * kernel[d]![h]!, 0));
      const turn = (head: number[], t: number) =>
        head.map((v, h) => {
          const angle = t / 2 / 100 ** (h % 2 === 0 ? 0 : 0.5);
          return v * Math.cos(angle) + (h < 2 ? -head[h + 2]! : head[h - 2]!) * Math.sin(angle);
        });
      const expected = rows.flatMap(sample =>
        sample.flatMap((row, t) => {
          const out = new Array<number>(D).fill(0);
          wq!.forEach((kernel, n) => {
            const query = turn(project(row, kernel), t);
            const weights = sample.slice(0, t + 1).map((other, s) => {
              const key = turn(project(other, wk![Math.floor(n / 2)]!), s);
              // No scale: hiddenDim // numQueryHeads = 1.
              return Math.exp(2 * Math.tanh(query.reduce((sum, v, h) => sum + v * key[h]!, 0) / 2));
            });
            const total = weights.reduce((a, b) => a + b, 0);
            weights.forEach((weight, s) =>
              project(sample[s]!, wv![Math.floor(n / 2)]!).forEach((v, h) =>
                wo![n]![h]!.forEach((w, d) => (out[d]! += (weight / total) * v * w)),
              ),
            );
          });
          return out;
        }),
      );
      expect(layer.apply(x) as tf.Tensor).toBeAllClose(expected);
      layer.dispose();
    });
  });

  test('takes an attention mask as its second input', () => {
    tf.tidy(() => {
      const layer = filled();
      const x = normal([1, 4, D], 9);
      const only = tf.eye(4).reshape([1, 4, 4]);
      const y = layer.call([x, only]);
      // A token that sees only itself gets only its own value, at any position.
      const expected = tf.concat(
        Array.from({length: 4}, (_, t) => layer.call(tf.slice(x, [0, t, 0], [1, 1, D]))),
        1,
      );
      expect(y).toBeAllClose(expected);
      layer.dispose();
    });
  });

  const cached = fc.record({
    schedule: fc.array(fc.tuple(fc.integer({min: 0, max: 4}), fc.integer({min: 0, max: 4})), {
      minLength: 1,
      maxLength: 5,
    }),
    window: fc.option(fc.integer({min: 1, max: 5})),
    useQueryKeyNorm: fc.boolean(),
    seed: fc.integer({min: 1, max: 1e6}),
  });

  test('computes the same with a cache, however the tokens of each row are split into calls', () => {
    fc.assert(
      fc.property(cached, ({schedule, window, useQueryKeyNorm, seed}) => {
        const before = tf.memory().numTensors;
        tf.tidy(() => {
          const sliding = window === null ? {} : {useSlidingWindowAttention: true, slidingWindowSize: window};
          const layer = filled({useQueryKeyNorm, ...sliding});
          const totals = [0, 1].map(row => schedule.reduce((sum, counts) => sum + counts[row]!, 0));
          const longest = Math.max(1, ...totals);
          const x = normal([2, longest, D], seed);
          const whole = layer.call(x);
          const cache = new KvCache({batch: 2, maxLength: longest, numKeyValueHeads: 2, headDim: 4, window});
          for (const counts of schedule) {
            const starts = [...cache.lengths];
            const length = Math.max(1, ...counts);
            const part = tf.concat(
              starts.map((start, row) =>
                tf.pad(tf.slice(x, [row, start, 0], [1, counts[row]!, D]), [
                  [0, 0],
                  [0, length - counts[row]!],
                  [0, 0],
                ]),
              ),
              0,
            );
            const y = layer.call(part, {cache, counts});
            starts.forEach((start, row) => {
              if (!counts[row]) return;
              expect(tf.slice(y, [row, 0, 0], [1, counts[row]!, D])).toBeAllClose(
                tf.slice(whole, [row, start, 0], [1, counts[row]!, D]),
              );
            });
          }
          cache.dispose();
          layer.dispose();
        });
        expect(tf.memory().numTensors).toBe(before);
      }),
      {numRuns: 25},
    );
  });

  test('is restored from its configuration', () => {
    const args = {
      ...SMALL,
      useQueryKeyNorm: true,
      dropout: 0.1,
      logitSoftCap: 3,
      dtype: 'bfloat16',
      name: 'a',
    } as const;
    const config = new CachedGemma3Attention({...args, kernelInitializer: 'he_normal'}).getConfig();
    expect(config).toMatchObject(args);
    expect(new CachedGemma3Attention(config as unknown as CachedGemma3AttentionArgs).getConfig()).toEqual(config);
  });

  test('applies dropout only during training', () => {
    tf.tidy(() => {
      const layer = filled({dropout: 0.5});
      const x = normal([1, 6, D], 9);
      expect(layer.call(x)).toBeAllClose(layer.call(x, {training: false}), 1e-12);
      const difference = tf.sub(layer.call(x, {training: true}), layer.call(x));
      expect(tf.max(tf.abs(difference)).arraySync()).toBeGreaterThan(1e-3);
      layer.dispose();
    });
  });

  test.each<[object, string]>([
    [{numKeyValueHeads: 3}, 'Received: numQueryHeads=4, numKeyValueHeads=3.'],
    [{headDim: 3}, 'expected an even headDim, for rotary positions. Received: headDim=3.'],
    [{numQueryHeads: 0}, '`numQueryHeads` to be a positive integer'],
    [{dropout: 1}, '`dropout` in [0, 1)'],
    [{head_dim: 3}, 'CachedGemma3Attention has no argument "head_dim". Expected: headDim,'],
    [{slidingWindowSize: -1}, '`slidingWindowSize` to be a positive integer. Received: slidingWi'],
    [{logitSoftCap: 0}, '`logitSoftCap` to be null or above 0. Received: logitSoftCap=0.'],
    [{useQueryKeyNorm: 'no'}, 'to be true or false. Received: useQueryKeyNorm="no".'],
    [{ropeScalingFactor: 0}, '`ropeScalingFactor` to be above 0'],
    [{name: 3}, 'CachedGemma3Attention expected `name` to be a string. Received: name=3.'],
  ])('refuses %j', (args, message) => {
    expect(() => new CachedGemma3Attention({...SMALL, ...args})).toThrow(message);
  });

  test('refuses missing arguments', () => {
    expect(() => new CachedGemma3Attention(undefined as never)).toThrow('expected its arguments in one object');
  });

  test('refuses a padding mask with a cache, another number of rows, and counts without a cache', () => {
    const layer = filled();
    const cache = new KvCache({batch: 1, maxLength: 4, numKeyValueHeads: 2, headDim: 4, window: null});
    const x = tf.zeros([1, 2, D]);
    expect(() => layer.call(x, {cache, paddingMask: tf.ones([1, 2], 'int32')})).toThrow(
      'as `counts`, not as a padding',
    );
    expect(() => layer.call(tf.zeros([2, 2, D]), {cache})).toThrow();
    expect(() => layer.call(x, {counts: [1]})).toThrow(ValueError);
    expect(() => layer.call(x, {counts: [1]})).toThrow(
      'Without a cache, pass the real tokens of each row as a padding mask',
    );
    cache.dispose();
    layer.dispose();
  });
});
