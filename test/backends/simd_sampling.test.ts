/** Top k, softmax and draws: commands against loops in double precision, and samplers against the backend `cpu`. */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {samplers, useBackend} from '../../src';
import * as sampling from '../../src/backends/simd/kernels/sampling';
import {penalizeOp, penalizeTokens} from '../../src/ops/penalize';
import {draw, softmax, topIndices} from '../../src/ops/row_numbers';
import {bestColumn, bestColumnOp, drawOp, drawSoftmax, softmaxSums, softmaxSumsOp} from '../../src/ops/sampling';
import {topK, topKOp} from '../../src/ops/top_k';
import {normal, uniform} from '../support/random';
import {random, settings, SimdMemory} from './simd_memory';

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  const ints = (at: number, count: number) => [...new Int32Array(memory.engine.memory.buffer, at, count)];

  test.each([
    [1, 1, 1],
    [2, 3, 2],
    [3, 3, 3],
    [2, 1000, 1],
    [1, 1003, 17],
    [2, 500, 500],
  ])('topK: %i × %i, k %i', (rows, columns, k) => {
    // Few distinct values, so that many are equal.
    const x = random(rows * columns, 3).map(v => Math.round(v * 20));
    const best = Array.from({length: rows}, (_, row) => {
      const values = x.subarray(row * columns, (row + 1) * columns);
      return topIndices(values, k).map(index => ({index, value: values[index]!}));
    }).flat();
    const args = {x: memory.floats(x), rows, columns, k, step: 4 * k};
    const [values, indices] = [memory.output(rows * k), memory.output(rows * k)];
    memory.run(sampling.topK({...args, values, indices}));
    expect([...memory.result(values, rows * k)]).toEqual(best.map(({value}) => value));
    expect(ints(indices, rows * k)).toEqual(best.map(({index}) => index));
    memory.run(sampling.topK({...args, values, indices, indicesAsFloats: true}));
    expect([...memory.result(indices, rows * k)]).toEqual(best.map(({index}) => index));
  });

  test('topK of random numbers', () => {
    const size = fc.record({
      columns: fc.integer({min: 1, max: 200}),
      k: fc.integer({min: 1, max: 200}),
      seed: fc.nat(),
    });
    fc.assert(
      fc.property(size, ({columns, k: wanted, seed}) => {
        memory.clear();
        const [x, k] = [random(columns, seed), Math.min(wanted, columns)];
        const [values, indices] = [memory.output(k), memory.output(k)];
        memory.run(sampling.topK({x: memory.floats(x), rows: 1, columns, k, values, indices, step: 4 * k}));
        expect(ints(indices, k)).toEqual(topIndices(x, k));
      }),
      {numRuns: 20},
    );
  });

  const wide = (count: number, seed: number) => random(count, seed).map(v => v * 30);

  test.each([
    [1, 1],
    [1, 1003],
    [3, 6],
    [9, 37],
  ])('softmax of %i × %i', (rows, columns) => {
    const x = wide(rows * columns, 5);
    x[rows * columns - 1] = -Infinity;
    if (columns === 1) x[0] = 3;
    const expected = Array.from({length: rows}, (_, row) => {
      return [...softmax(x.subarray(row * columns, (row + 1) * columns), 1)];
    }).flat();
    const args = {x: memory.floats(x), rows, columns};
    const y = memory.output(rows * columns);
    memory.run(sampling.softmax({...args, y}));
    expect(memory.result(y, rows * columns)).toBeAllClose(expected, {rtol: 1e-6});

    const temperature = 0.7;
    const sums = memory.output(2 * rows);
    memory.run(sampling.softmaxSums({...args, target: sums, temperature}));
    for (let row = 0; row < rows; row++) {
      const values = [...x.subarray(row * columns, (row + 1) * columns)];
      const largest = Math.max(...values);
      const sum = values.reduce((sum, v) => sum + Math.exp((v - largest) / temperature), 0);
      const [max, total] = memory.result(sums + 8 * row, 2);
      expect(max).toBe(largest);
      expect(Math.abs(total! - sum) / sum).toBeLessThan(1e-6);
    }
  });

  test('draws the column where the cumulative weight exceeds the uniform number', () => {
    for (const columns of [1, 3, 8, 1003]) {
      memory.clear();
      const row = random(columns, 6).map(v => v * 3);
      const uniforms = [0, 1 - 2 ** -53, ...Array.from({length: 20}, uniform(columns))];
      const rows = uniforms.length;
      const x = memory.floats(Float32Array.from({length: rows * columns}, (_, i) => row[i % columns]!));
      const place = memory.place(8 * rows);
      new Uint8Array(memory.engine.memory.buffer, place, 8 * rows).set(
        new Uint8Array(Float64Array.from(uniforms).buffer),
      );
      const target = memory.output(rows);
      memory.run(sampling.draw({x, rows, columns, target, temperature: 0.5, uniforms: place}));
      expect(ints(target, rows)).toEqual(uniforms.map(u => draw(softmax(row, 0.5), () => u)));
    }
  });

  test('never draws a token of probability 0', () => {
    const row = new Float32Array(50).fill(-Infinity);
    row[20] = 1;
    row[30] = -200;
    const x = memory.floats([...row, ...row]);
    const place = memory.place(16);
    new Uint8Array(memory.engine.memory.buffer, place, 16).set(new Uint8Array(Float64Array.of(0, 1 - 2 ** -53).buffer));
    const target = memory.output(2);
    memory.run(sampling.draw({x, rows: 2, columns: 50, target, temperature: 1, uniforms: place}));
    expect(ints(target, 2)).toEqual([20, 20]);
  });
});

/** Results of each backend; `reference` holds those of the plain operations. */
async function everywhere<T>(run: () => T): Promise<T[]> {
  const results: T[] = [];
  for (const name of ['cpu', 'simd'] as const) {
    await useBackend(name);
    results.push(run());
  }
  return results;
}

test('kernels of both backends match the references', async () => {
  await everywhere(() => {
    fc.assert(
      fc.property(
        fc.integer({min: 1, max: 4}),
        fc.integer({min: 1, max: 1300}),
        fc.nat(1000),
        (rows, columns, seed) => {
          tf.tidy(() => {
            const x = tf.mul(normal([rows, columns], seed), 4) as tf.Tensor2D;
            const k = 1 + (seed % columns);
            // Every second matrix has values that are no finite numbers.
            const odd = [NaN, Infinity, -Infinity, 3e38, -3e38][seed % 5]!;
            const few = tf.less(normal([rows, columns], seed + 1), -2.5);
            const special = (seed % 2 ? tf.where(few, tf.fill([rows, columns], odd), x) : x) as tf.Tensor2D;
            const attrsOf = {
              uniforms: Array.from({length: rows}, uniform(seed)),
              temperature: 10 ** ((seed % 81) - 40),
            };
            expect([...bestColumn(special).dataSync()]).toEqual([
              ...bestColumnOp.reference({x: special}, {}).dataSync(),
            ]);
            const drawn = drawSoftmax(special, attrsOf).dataSync();
            const expected = drawOp.reference({x: special}, attrsOf).dataSync();
            expect([...drawn].map(token => token < 0)).toEqual([...expected].map(token => token < 0));
            const [mine, theirs] = [
              softmaxSums(special, attrsOf.temperature),
              softmaxSumsOp.reference({x: special}, attrsOf),
            ];
            const largest = theirs.arraySync() as number[][];
            (mine.arraySync() as number[][]).forEach(([value, sum], row) => {
              expect(value).toBe(largest[row]![0]);
              if (value! > -Infinity) expect(Math.abs(sum! / largest[row]![1]! - 1)).toBeLessThan(1e-5);
            });
            // Equal values may come in any order from the reference.
            const [best, others] = [topK(special, k), topKOp.reference({x: special}, {k})].map(
              y => y.arraySync() as number[][][],
            );
            best!.forEach(([values], row) => {
              if (Number.isNaN(largest[row]![0])) expect(values![0]).toBeNaN();
              else expect(values).toEqual(others![row]![0]);
            });
            expect(topK(x, k).arraySync()).toEqual(topKOp.reference({x}, {k}).arraySync());
            const temperature = 0.3 + (seed % 5);
            expect(softmaxSums(x, temperature)).toBeAllClose(softmaxSumsOp.reference({x}, {temperature}), 1e-6);
            const attrs = {temperature, uniforms: Array.from({length: rows}, uniform(seed))};
            expect([...drawSoftmax(x, attrs).dataSync()]).toEqual([...drawOp.reference({x}, attrs).dataSync()]);
            const penalized = Array.from({length: rows}, (_, row) => {
              const tokens = Array.from({length: columns}, (_, token) => token).filter(
                token => (token + row) % 3 === 1,
              );
              return {tokens, losses: tokens.map(token => (token % 5) - 1)};
            });
            const penalties = {rows: penalized, factor: 1.3};
            expect(penalizeTokens(x, penalties)).toBeAllClose(penalizeOp.reference({x}, penalties), 1e-6);
          });
        },
      ),
      {numRuns: 20},
    );
  });
});

test('the largest values of rows with infinities, on both backends', async () => {
  const x = [
    [
      ...Array<number>(150)
        .fill(0)
        .map((_, i) => (i * 37) % 101),
      Infinity,
      -Infinity,
      100.5,
      Infinity,
    ],
  ];
  const results = await everywhere(() => tf.tidy(() => topK(tf.tensor2d(x), 4).arraySync()));
  for (const result of results) {
    expect(result).toEqual([
      [
        [Infinity, Infinity, 100.5, 100],
        [150, 153, 152, 30],
      ],
    ]);
  }
});

test('tf.topk and tf.softmax match those on the backend cpu', async () => {
  const [cpu, simd] = await everywhere(() =>
    tf.tidy(() => {
      const x = tf.round(tf.mul(normal([2, 3, 41], 1), 3));
      const {values, indices} = tf.topk(x, 7);
      const whole = tf.topk(tf.cast(x, 'int32'), 7).values;
      const gradient = tf.grad(x => tf.sum(tf.square(tf.softmax(x))))(x);
      const tensors = [values, indices, whole, tf.softmax(x), gradient];
      return tensors.map(tensor => ({shape: tensor.shape, dtype: tensor.dtype, values: [...tensor.dataSync()]}));
    }),
  );
  simd!.forEach(({values, ...rest}, i) => {
    expect({...rest}).toEqual({shape: cpu![i]!.shape, dtype: cpu![i]!.dtype});
    expect(values).toBeAllClose(cpu![i]!.values, {rtol: 1e-6});
  });
});

test('samplers draw the same tokens on both backends as from all probabilities', async () => {
  const values = Float32Array.from({length: 3 * 5000}, uniform(4)).map(v => 12 * v);
  const make = [
    () => new samplers.RandomSampler({seed: 1, temperature: 0.8}),
    () => new samplers.TopKSampler({k: 40, seed: 2}),
    () => new samplers.TopPSampler({p: 0.05, seed: 3}),
    () => new samplers.TopPSampler({p: 0.97, k: 4000, seed: 4, temperature: 2}),
    () => new samplers.GreedySampler(),
    () => new samplers.RandomSampler({seed: 5, temperature: 0.8, minP: 0.01}),
  ];
  for (const sampler of make) {
    const tokens: number[][] = [];
    for (const name of ['cpu', 'simd'] as const) {
      await useBackend(name);
      const logits = tf.tensor2d(values, [3, 5000]);
      const before = tf.memory().numTensors;
      const mine = sampler();
      const drawn: number[] = [];
      for (let i = 0; i < 10; i++) drawn.push(...(await mine.sample(logits)));
      expect(tf.memory().numTensors).toBe(before);
      tokens.push(drawn);
      logits.dispose();
    }
    const plain = sampler();
    const expected = Array.from({length: 30}, (_, i) => {
      const row = values.subarray((i % 3) * 5000, ((i % 3) + 1) * 5000);
      return plain.getNextToken(softmax(row, plain.temperature));
    });
    // With min-p, tokens are drawn in a different order than from all probabilities.
    const known = plain.getConfig().minP === undefined;
    expect(tokens).toEqual(known ? [expected, expected] : [tokens[0], tokens[0]]);
  }
});

test('a subclass with its own `getNextToken` receives all probabilities', async () => {
  await useBackend('simd');
  const sizes: number[] = [];
  const logits = tf.tensor2d([[1, 2, 3, 0]]);
  for (const Base of [samplers.RandomSampler, samplers.TopKSampler, samplers.TopPSampler, samplers.GreedySampler]) {
    class Last extends Base {
      override getNextToken(probabilities: Float32Array): number {
        sizes.push(probabilities.length);
        return probabilities.length - 1;
      }
    }
    expect(await new Last().sample(logits)).toEqual([3]);
  }
  expect(sizes).toEqual([4, 4, 4, 4]);
  logits.dispose();
});
