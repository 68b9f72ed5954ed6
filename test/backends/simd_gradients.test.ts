/** Gradients, layer normalization and arithmetic: commands against loops in double precision or the references. */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import {useBackend} from '../../src';
import {columnSums, combine, transpose} from '../../src/backends/simd/kernels/arithmetic';
import {gelu, geluGradient} from '../../src/backends/simd/kernels/gelu';
import {batchMatMul} from '../../src/backends/simd/kernels/mat_mul';
import {layerNorm, normGradientScale, normGradientX} from '../../src/backends/simd/kernels/norms';
import {attentionGradientOp, attentionOp} from '../../src/ops/attention';
import {gatedGeluOp, geluGradientOp, geluOp} from '../../src/ops/gated_gelu';
import {headLoss, headLossOp} from '../../src/ops/head_loss';
import {layerNormGradientGammaOp, layerNormGradientXOp, layerNormOp} from '../../src/ops/layer_norm';
import {matMulGradientKernelOp, matMulGradientXOp} from '../../src/ops/mat_mul';
import {type Attributes, type Inputs, type Op, runGradients, runOp, type SeveralOp} from '../../src/ops/op';
import {rmsNorm, rmsNormGradientScaleOp, rmsNormGradientXOp} from '../../src/ops/rms_norm';
import {rotaryGradientOp, rotaryTables} from '../../src/ops/rotary';
import {attentionCase, attentionSettings} from '../support/attention_case';
import {normal} from '../support/random';
import {random, settings, SimdMemory} from './simd_memory';

describe.each(settings)('relaxed $relaxed, wide $wide, $threads threads', options => {
  let memory: SimdMemory;
  beforeAll(async () => {
    memory = await SimdMemory.create(options);
  });
  beforeEach(() => memory.clear());
  afterAll(() => memory.engine.dispose());

  const rowSizes: [rows: number, columns: number][] = [
    [1, 1],
    [1, 64],
    [3, 7],
    [130, 37],
    [5, 642],
  ];

  /** Means (zero for RMS normalization), inverse deviations and normalized values. */
  function normalized(x: Float32Array, columns: number, epsilon: number, centred: boolean) {
    const inverses: number[] = [];
    const normed = new Float64Array(x.length);
    for (let at = 0; at < x.length; at += columns) {
      const row = [...x.subarray(at, at + columns)];
      const mean = centred ? row.reduce((a, v) => a + v, 0) / columns : 0;
      const inverse = 1 / Math.sqrt(row.reduce((a, v) => a + (v - mean) ** 2, 0) / columns + epsilon);
      row.forEach((v, i) => (normed[at + i] = (v - mean) * inverse));
      inverses.push(inverse);
    }
    return {normed, inverses};
  }

  test.each(rowSizes)('layer norm of %i × %i', (rows, columns) => {
    const x = random(rows * columns, 1).map(v => v + 3);
    const [gamma, beta] = [random(columns, 2), random(columns, 3)];
    const y = memory.output(x.length);
    const [epsilon, places] = [1e-3, {gamma: memory.floats(gamma), beta: memory.floats(beta)}];
    memory.run(layerNorm({x: memory.floats(x), ...places, y, rows, columns, epsilon}));
    const {normed} = normalized(x, columns, epsilon, true);
    const expected = normed.map((n, i) => n * gamma[i % columns]! + beta[i % columns]!);
    expect(memory.result(y, x.length)).toBeAllClose(expected, {rtol: 5e-6});
  });

  test.each(rowSizes.flatMap(size => (['layer', 'rms'] as const).map(kind => [...size, kind] as const)))(
    'gradients of a norm of %i × %i: %s',
    (rows, columns, kind) => {
      const [x, dy, scale] = [random(rows * columns, 1), random(rows * columns, 2), random(columns, 3)];
      const epsilon = 1e-3;
      const {normed, inverses} = normalized(x, columns, epsilon, kind === 'layer');
      const [dx, dScale] = [new Float64Array(x.length), new Float64Array(columns)];
      for (let row = 0; row < rows; row++) {
        const at = row * columns;
        const d = Array.from(scale, (s, i) => dy[at + i]! * (kind === 'layer' ? s : 1 + s));
        const shift = kind === 'layer' ? d.reduce((a, v) => a + v, 0) / columns : 0;
        const stretch = d.reduce((a, v, i) => a + v * normed[at + i]!, 0) / columns;
        d.forEach((v, i) => {
          dx[at + i] = inverses[row]! * (v - shift - normed[at + i]! * stretch);
          dScale[i]! += dy[at + i]! * normed[at + i]!;
        });
      }
      const args = {x: memory.floats(x), dy: memory.floats(dy), rows, columns, epsilon, kind};
      const target = memory.output(x.length);
      memory.run(normGradientX({...args, scale: memory.floats(scale), dx: target}));
      // With one column the exact gradient is almost 0, and what remains are the rounding errors of larger numbers.
      if (columns > 1) expect(memory.result(target, x.length)).toBeAllClose(dx, {rtol: 1e-5});
      const sums = memory.output(columns);
      memory.run(normGradientScale({...args, target: sums, workspace: memory.place(8 * rows)}));
      if (columns > 1) expect(memory.result(sums, columns)).toBeAllClose(dScale, {rtol: 5e-6});
      memory.run(columnSums({x: args.dy, target: sums, rows, columns}));
      const columnSum = (_: number, i: number) => {
        return Array.from({length: rows}, (_, row) => dy[row * columns + i]!).reduce((a, v) => a + v, 0);
      };
      expect(memory.result(sums, columns)).toBeAllClose(Array.from(scale, columnSum), {rtol: 5e-6});
    },
  );

  test.each([1, 3, 33, 1000])('gelu of %i and its gradient', count => {
    const [x, dy, value] = [random(count, 1).map(v => v * 12), random(count, 2), random(count, 3)];
    const u = (v: number) => Math.sqrt(2 / Math.PI) * (v + 0.044715 * v ** 3);
    const slope = (v: number) => {
      const t = Math.tanh(u(v));
      return 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * v * v);
    };
    const places = {x: memory.floats(x), dy: memory.floats(dy), count};
    const y = memory.output(count);
    memory.run(gelu({...places, y}));
    expect(memory.result(y, count)).toBeAllClose(
      Array.from(x, v => 0.5 * v * (1 + Math.tanh(u(v)))),
      {rtol: 1e-6},
    );
    memory.run(geluGradient({...places, dx: y}));
    expect(memory.result(y, count)).toBeAllClose(
      Array.from(x, (v, i) => dy[i]! * slope(v)),
      {rtol: 2e-6},
    );
    memory.run(geluGradient({...places, value: memory.floats(value), dx: y}));
    const gated = Array.from(x, (v, i) => dy[i]! * value[i]! * slope(v));
    expect(memory.result(y, count)).toBeAllClose(gated, {rtol: 2e-6});
  });

  test.each([
    [7, 7],
    [35, 5],
    [1003, 1],
    [64, 32],
  ])('arithmetic on %i values with a period of %i', (count, period) => {
    const [x, b] = [random(count, 1), random(period, 2)];
    const args = {x: memory.floats(x), b: memory.floats(b), y: memory.output(count), count, period};
    const expected = {
      Add: x.map((v, i) => v + b[i % period]!),
      Sub: x.map((v, i) => v - b[i % period]!),
      Multiply: x.map((v, i) => v * b[i % period]!),
    };
    for (const name of ['Add', 'Sub', 'Multiply'] as const) {
      memory.run(combine(name, args));
      expect(memory.result(args.y, count)).toEqual(expected[name]);
    }
  });

  test.each([
    {shape: [5, 7], perm: [1, 0]},
    {shape: [2, 3, 40, 6], perm: [0, 2, 1, 3]},
    {shape: [3, 4, 5, 2], perm: [3, 1, 2, 0]},
    {shape: [2, 3, 2, 3, 2, 3], perm: [5, 3, 1, 4, 2, 0]},
    {shape: [4, 1, 33], perm: [2, 0, 1]},
  ])('transpose %j', ({shape, perm}) => {
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    const x = random(
      shape.reduce((a, b) => a * b, 1),
      1,
    );
    const place = (i: number, from: number): number => {
      if (from < 0) return 0;
      const axis = perm[from]!;
      return (i % shape[axis]!) * strides[axis]! + place(Math.floor(i / shape[axis]!), from - 1);
    };
    const y = memory.output(x.length);
    memory.run(transpose({x: memory.floats(x), y, shape, perm}));
    expect(memory.result(y, x.length)).toEqual(x.map((_, i) => x[place(i, perm.length - 1)]!));
  });

  const products = [
    {batch: 1, m: 1, n: 1, k: 1},
    {batch: 1, m: 37, n: 70, k: 19},
    {batch: 3, m: 6, n: 9, k: 5},
    {batch: 2, m: 131, n: 8, k: 3},
    {batch: 1, m: 3, n: 33, k: 515},
    {batch: 2, m: 2, n: 3, k: 0},
  ];
  test.each(products)('products %j', ({batch, m, n, k}) => {
    const [a, b] = [random(batch * m * k, 1), random(k * n, 2)];
    const expected = new Float64Array(batch * m * n);
    for (let i = 0; i < batch * m; i++) {
      for (let j = 0; j < n; j++) for (let c = 0; c < k; c++) expected[i * n + j]! += a[i * k + c]! * b[c * n + j]!;
    }
    const turn = (x: Float32Array, rows: number, columns: number) =>
      x.map((_, at) => {
        const [matrix, i] = [Math.floor(at / (rows * columns)), at % (rows * columns)];
        return x[matrix * rows * columns + (i % rows) * columns + Math.floor(i / rows)]!;
      });
    const y = {at: memory.output(batch * m * n), stride: m * n, rowStride: n};
    const lefts = [
      {at: memory.floats(a), stride: m * k, rowStride: k},
      {at: memory.floats(turn(a, m, k)), stride: m * k, rowStride: m, transposed: true},
    ];
    // One matrix for the whole batch.
    const rights = [
      {at: memory.floats(b), stride: 0, rowStride: n},
      {at: memory.floats(turn(b, k, n)), stride: 0, rowStride: k, transposed: true},
    ];
    for (const left of lefts) {
      for (const right of rights) {
        memory.run(batchMatMul({a: left, b: right, y, batch, m, n, k}));
        expect(memory.result(y.at, expected.length)).toBeAllClose(expected, {rtol: 2e-6});
      }
    }
  });
});

type AnyOp = Op<Inputs, Attributes>;

/** Runs a kernel and its reference. */
function expectAsReference(op: unknown, inputs: Inputs, attrs: Attributes = {}): void {
  expect(runOp(op as AnyOp, inputs, attrs)).toBeAllClose((op as AnyOp).reference(inputs, attrs));
}

/** Like {@link expectAsReference}, for an operation with several results. */
function expectAsReferences(op: SeveralOp<never, never>, inputs: Inputs, attrs: Attributes): void {
  const expected = op.reference(inputs as never, attrs as never);
  const actual = runGradients(op, inputs as never, attrs as never);
  expect(actual.map(({shape}) => shape)).toEqual(expected.map(({shape}) => shape));
  actual.forEach((gradient, i) => expect(gradient).toBeAllClose(expected[i]!));
}

describe.each([1, 2, 4].flatMap(threads => [true, false].map(relaxed => ({relaxed, wide: relaxed, threads}))))(
  'as the references: relaxed $relaxed, wide $wide, $threads threads',
  options => {
    beforeAll(async () => {
      await useBackend('simd', options);
    });

    test('attention', () => {
      fc.assert(
        fc.property(attentionSettings, settings => {
          tf.tidy(() => {
            const {inputs, attrs} = attentionCase(settings);
            expectAsReference(attentionOp, inputs, attrs);
            const dy = normal(inputs.q.shape, 9);
            expectAsReferences(attentionGradientOp, {...inputs, dy}, attrs);
          });
        }),
        {numRuns: 4},
      );
    });

    test.each([
      {batch: 1, length: 70, before: 9, keyHeads: 1, groups: 4, width: 20, window: 30},
      {batch: 2, length: 67, before: 0, keyHeads: 2, groups: 1, width: 33, window: null},
      {batch: 1, length: 3, before: 2, keyHeads: 1, groups: 70, width: 9, window: null},
      {batch: 1, length: 10, before: 20, keyHeads: 1, groups: 2, width: 300, window: null},
      // More blocks of keys than the scratch memory can hold squares for.
      {batch: 1, length: 3, before: 2000, keyHeads: 1, groups: 2, width: 8, window: null},
      {batch: 2, length: 70, before: 0, keyHeads: 1, groups: 3, width: 20, window: 30, bidirectional: true},
      {batch: 1, length: 90, before: 0, keyHeads: 1, groups: 1, width: 36, window: 31, bidirectional: true},
      {batch: 2, length: 67, before: 0, keyHeads: 2, groups: 1, width: 16, window: null, bidirectional: true},
    ])('attention over several blocks: %j', sizes => {
      tf.tidy(() => {
        const others = {padding: true, images: true, attentionMask: false, positionsByRow: false};
        const {inputs, attrs} = attentionCase({bidirectional: false, ...sizes, ...others, logitSoftCap: 3, seed: 5});
        const dy = normal(inputs.q.shape, 9);
        attrs.scale = 0.2;
        expectAsReference(attentionOp, inputs, attrs);
        expectAsReferences(attentionGradientOp, {...inputs, dy}, attrs);
      });
    });

    test('norms and gates', () => {
      fc.assert(
        fc.property(
          fc.integer({min: 1, max: 9}),
          fc.integer({min: 2, max: 90}),
          fc.nat(1000),
          (rows, columns, seed) => {
            tf.tidy(() => {
              const [x, dy] = [normal([rows, 2, columns], seed), normal([rows, 2, columns], seed + 1)];
              const [scale, beta] = [normal([columns], seed + 2), normal([columns], seed + 3)];
              const attrs = {epsilon: 1e-3};
              expectAsReference(layerNormOp, {x, gamma: scale, beta}, attrs);
              expectAsReference(layerNormGradientXOp, {dy, x, gamma: scale}, attrs);
              expectAsReference(layerNormGradientGammaOp, {dy, x}, attrs);
              expectAsReference(rmsNormGradientXOp, {dy, x, scale}, attrs);
              expectAsReference(rmsNormGradientScaleOp, {dy, x}, attrs);
              expectAsReference(geluOp, {x});
              expectAsReference(geluGradientOp, {dy, x});
              expectAsReference(geluGradientOp, {dy, x, value: dy});
              expectAsReference(gatedGeluOp, {gate: x, value: dy});
            });
          },
        ),
        {numRuns: 3},
      );
    });

    test.each([
      [1, 1, 1, 2],
      [2, 5, 3, 14],
      [3, 33, 4, 64],
    ])('rotary positions of %j, %j, %j, %j', (batch, length, heads, width) => {
      tf.tidy(() => {
        const dy = normal([batch, length, heads, width], 1) as tf.Tensor4D;
        for (const starts of [[3], Array.from({length: batch}, (_, i) => 7 * i)]) {
          const tables = rotaryTables(starts, length, width, 1e4, 1);
          expectAsReference(rotaryGradientOp, {x: dy, ...tables});
        }
      });
    });

    test.each([
      [1, 1, 2, null],
      [5, 642, 130, null],
      [131, 37, 517, 2],
    ])('head loss: %i tokens of %i numbers, vocabulary of %i, cap %p', (tokens, width, vocabulary, softCap) => {
      tf.tidy(() => {
        const targets = tf.randomUniform([tokens], 0, vocabulary, 'int32', 4);
        const inputs = {
          hidden: normal([tokens, width], 1),
          table: tf.mul(normal([vocabulary, width], 2), 0.2),
          targets,
        };
        const attrs = {vocabulary, packing: null, softCap, gradients: true, logitsAtOnce: 1000};
        // The kept result is the gradient for equal weights.
        const expected = headLossOp.reference(inputs, attrs);
        const run = (h: tf.Tensor) =>
          headLoss(h as tf.Tensor2D, inputs.table as tf.Tensor2D, targets as tf.Tensor1D, {softCap});
        expect(run(inputs.hidden)).toBeAllClose(expected[0]);
        expect(tf.grad(run)(inputs.hidden)).toBeAllClose(expected[1]!);
      });
      tf.tidy(() => {
        const hidden = normal([2, 3], 1) as tf.Tensor2D;
        const wrong = tf.tensor1d([0, 9], 'int32');
        expect(() => headLoss(hidden, normal([9, 3], 2) as tf.Tensor2D, wrong)).toThrow(
          '0 to 8, since the vocabulary has 9 tokens. Received: 9',
        );
      });
    });

    test('products', () => {
      const size = (max: number) => fc.integer({min: 1, max});
      fc.assert(
        fc.property(size(40), size(3), size(40), size(40), fc.nat(1000), (m, outer, columns, inner, seed) => {
          tf.tidy(() => {
            const [x, dy] = [normal([m, columns], seed), normal([m, outer * inner], seed + 1)];
            expectAsReference(matMulGradientKernelOp, {x, dy}, {outer, inner});
            expectAsReference(matMulGradientXOp, {dy, kernel: normal([outer, columns, inner], seed)});
          });
        }),
        {numRuns: 3},
      );
    });
  },
);

test('tfjs operations match those on the backend cpu', async () => {
  const all = async (name: 'cpu' | 'simd') => {
    await useBackend(name);
    return tf.tidy(() => {
      const [a, b] = [normal([3, 41, 50], 1), normal([3, 50, 37], 2)];
      const [row, number] = [normal([50], 3), tf.scalar(3)];
      const tensors = [
        tf.matMul(a, b),
        tf.matMul(a, a, true),
        tf.matMul(a, a, false, true),
        tf.matMul(a, tf.slice(b, 0, 1)),
        tf.matMul(tf.reshape(a, [3, 1, 41, 50]), tf.reshape(b, [1, 3, 50, 37])),
        tf.add(a, row),
        tf.add(row, a),
        tf.sub(a, row),
        tf.sub(row, a),
        tf.mul(number, a),
        ...[tf.mul, tf.add, tf.sub].flatMap(run => {
          const perRow = tf.slice(a, [0, 0, 0], [3, 41, 1]);
          return [run(a, perRow), run(perRow, a), run(a, tf.slice(perRow, 0, 1))];
        }),
        tf.transpose(a, [2, 0, 1]),
        tf.transpose(tf.reshape(a, [3, 41, 5, 5, 2]), [0, 3, 1, 4, 2]),
        ...([1, 2, 3] as const).map(stride =>
          tf.avgPool(tf.reshape(a, [3, 41, 10, 5]) as tf.Tensor4D, 2, stride, 'valid'),
        ),
        tf.avgPool(tf.reshape(a, [3, 41, 10, 5]) as tf.Tensor4D, [4, 3], [4, 3], 'valid'),
        tf.avgPool(tf.reshape(a, [3, 41, 10, 5]) as tf.Tensor4D, 2, 2, 'same'),
        tf.sum(a, 0),
        tf.sum(a, [0, 1]),
        tf.sum(a, [0, 1], true),
        tf.sum(a, 2),
        tf.sum(a),
        tf.sum(a, [0, 2]),
      ];
      return tensors.map(tensor => ({shape: tensor.shape, values: [...tensor.dataSync()]}));
    });
  };
  const [cpu, simd] = [await all('cpu'), await all('simd')];
  simd.forEach(({shape, values}, i) => {
    expect(shape).toEqual(cpu[i]!.shape);
    expect(values).toBeAllClose(cpu[i]!.values, {rtol: 3e-6});
  });
});

test('gradients of gradients run through plain operations', async () => {
  await useBackend('simd');
  tf.tidy(() => {
    const [x, scale] = [normal([2, 6], 1), normal([6], 2)];
    const second = tf.grad(x => tf.sum(tf.square(tf.grad(x => tf.sum(tf.square(rmsNorm(x, scale, 1e-3))))(x))));
    const slope = (x: tf.Tensor) => tf.sum(tf.square(tf.grad(x => tf.sum(tf.square(rmsNorm(x, scale, 1e-3))))(x)));
    const step = normal([2, 6], 3);
    const [ahead, behind] = [1, -1].map(sign => slope(tf.add(x, tf.mul(step, sign * 1e-2))).dataSync()[0]!);
    const expected = tf.sum(tf.mul(second(x), step)).dataSync()[0]!;
    expect(Math.abs((ahead! - behind!) / 2e-2 - expected)).toBeLessThan(0.02 * Math.abs(expected) + 0.02);
  });
});
