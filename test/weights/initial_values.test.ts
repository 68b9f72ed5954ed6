/** Initial values computed in pieces, against the distributions of tfjs. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {PackedWeight, Weight} from '../../src/public/weights';
import {initialValues} from '../../src/weights/initial_values';
import {getInitializer, type Initializer} from '../../src/weights/initializers';
import {MEMORY_PIECE} from '../../src/weights/value_stream';

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

const {initializers} = tf;
const KNOWN: [string, Initializer][] = [
  ...['zeros', 'ones', 'uniform', 'normal', 'glorot_uniform', 'glorot_normal', 'he_uniform', 'he_normal'].map(
    name => [name, getInitializer(name)] as [string, Initializer],
  ),
  ...['lecun_uniform', 'lecun_normal'].map(name => [name, getInitializer(name)] as [string, Initializer]),
  ['constant', initializers.constant({value: 2.5})],
  ['random uniform', initializers.randomUniform({minval: 1, maxval: 3})],
  ['random normal', initializers.randomNormal({mean: 4, stddev: 0.5})],
  ['truncated normal', initializers.truncatedNormal({mean: -1, stddev: 2})],
  ['fan out', initializers.varianceScaling({scale: 3, mode: 'fanOut', distribution: 'normal'})],
  ['fan average', initializers.varianceScaling({scale: 3, mode: 'fanAvg', distribution: 'uniform'})],
];
const SHAPES = [[9000], [90, 100], [3, 30, 100], [2, 3, 15, 100], [10, 3, 3, 1, 100]];

const statistics = (values: Float32Array) => {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const spread = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
  return {mean, spread, least: Math.min(...values), most: Math.max(...values)};
};

test.each(KNOWN)('%s has the distribution that tfjs gives it, for every rank', (name, initializer) => {
  for (const shape of SHAPES) {
    const out = new Float32Array(9000);
    initialValues(initializer, shape)!(out);
    const [mine, theirs] = [
      statistics(out),
      statistics(tf.tidy(() => initializer.apply(shape).dataSync() as Float32Array)),
    ];
    expect(Math.abs(mine.mean - theirs.mean)).toBeLessThanOrEqual(0.08 * theirs.spread);
    expect(Math.abs(mine.spread - theirs.spread)).toBeLessThanOrEqual(0.05 * theirs.spread);
    if (/random normal|^normal/.test(name)) continue;
    // The other distributions are bounded.
    expect(Math.abs(mine.least - theirs.least)).toBeLessThanOrEqual(0.05 * theirs.spread);
    expect(Math.abs(mine.most - theirs.most)).toBeLessThanOrEqual(0.05 * theirs.spread);
  }
});

test('other initializers compute their values with `apply`', () => {
  class Mine extends (initializers.zeros().constructor as new () => Initializer) {
    override apply(shape: tf.Shape): tf.Tensor {
      return tf.fill(shape as number[], 7);
    }
  }
  expect(initialValues(initializers.identity({}), [3, 3])).toBeUndefined();
  expect(initialValues(initializers.orthogonal({}), [3, 3])).toBeUndefined();
  expect(initialValues(new Mine(), [3])).toBeUndefined();
  const weight = new Weight([3], 'w', new Mine());
  expect(Array.from(weight.read().dataSync())).toEqual([7, 7, 7]);
  const eye = new PackedWeight([2, 2], {out: [0], in: [1]}, 'k', initializers.identity({}));
  expect(Array.from(eye.read().dataSync())).toEqual([1, 0, 0, 1]);
  weight.dispose();
  eye.dispose();
});

test('a seed gives the same weight, packed or not, in any layout', () => {
  const shape = [96, 64];
  const initializer = () => initializers.randomNormal({stddev: 1, seed: 5});
  const plain = new Weight(shape, 'w', initializer());
  const values = Array.from(plain.read().dataSync());
  expect(new Set(values).size).toBeGreaterThan(6000);
  for (const layout of [
    {out: [0], in: [1]},
    {out: [1], in: [0]},
  ]) {
    const packed = new PackedWeight(shape, layout, 'k', initializer());
    const read = packed.read();
    read.dataSync().forEach((x, i) => expect(Math.abs(x - values[i]!)).toBeLessThanOrEqual(Math.abs(values[i]!) / 256));
    read.dispose();
    packed.dispose();
  }
  plain.dispose();
});

test('a large matrix is initialized in pieces, with little extra memory', () => {
  const heapBytes = () => (tf.memory() as unknown as {heapBytes: number}).heapBytes;
  const weight = new PackedWeight([4096, 1000], {out: [0], in: [1]}, 'k', initializers.randomNormal({}), true, 'int8');
  const {engine} = tf.backend() as unknown as SimdBackend;
  const run = engine.run.bind(engine);
  const used = heapBytes();
  let [peak, calls] = [0, 0];
  const spy = jest.spyOn(engine, 'run').mockImplementation((...args) => {
    peak = Math.max(peak, heapBytes());
    calls++;
    run(...args);
  });
  const before = process.memoryUsage().arrayBuffers;
  expect(weight.bits.shape).toEqual([512, (32 * 272) / 4]);
  spy.mockRestore();
  expect(calls).toBe(16);
  expect(peak - used).toBeLessThanOrEqual(weight.byteLength + 2 * MEMORY_PIECE);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MEMORY_PIECE);
  weight.dispose();
});
