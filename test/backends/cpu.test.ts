/** Each kernel against its reference and against loops, forward and backward. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import '../../src/backends/cpu';
import {cpuKernels} from '../../src/backends/cpu/kernels';
import {attention, attentionOp} from '../../src/ops/attention';
import {cacheUpdate} from '../../src/ops/cache_update';
import {matMul, matMulBfloat16, matMulBfloat16Op, matMulOp} from '../../src/ops/mat_mul';
import {runOp} from '../../src/ops/op';
import {unpackBfloat16, unpackBfloat16Op} from '../../src/ops/unpack';
import {attentionCase, attentionSettings, expectedAttention, plainAttention} from '../support/attention_case';
import {cacheSettings, cacheUpdateCase, expectedCache} from '../support/cache_update_case';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

/** Checks a property on random settings, and that it leaks no tensors. */
function forAll<T>(settings: fc.Arbitrary<T>, numRuns: number, property: (value: T) => void): void {
  const before = tf.memory().numTensors;
  const check = (value: T) => {
    tf.tidy(() => property(value));
  };
  fc.assert(fc.property(settings, check), {numRuns});
  expect(tf.memory().numTensors).toBe(before);
}

/** Runs with all kernels of this package unregistered, so that only references run, even inside references. */
function byReference<T extends tf.Tensor>(run: () => T): T {
  const names = Object.keys(cpuKernels);
  names.forEach(name => tf.unregisterKernel(name, 'cpu'));
  try {
    return run();
  } finally {
    names.forEach(kernelName => {
      if (tf.getKernel(kernelName, 'cpu')) tf.unregisterKernel(kernelName, 'cpu');
      tf.registerKernel({kernelName, backendName: 'cpu', kernelFunc: cpuKernels[kernelName]!});
    });
  }
}

const sizes = fc.record({
  m: fc.integer({min: 1, max: 11}),
  outer: fc.integer({min: 1, max: 5}),
  columns: fc.integer({min: 1, max: 40}),
  inner: fc.integer({min: 1, max: 5}),
  seed: fc.integer({min: 1, max: 1e6}),
});

/** Random words. No half is NaN, because NaN equals nothing. */
function words(rows: number, count: number): tf.Tensor2D {
  const raw = tf.randomUniform([rows, count * 2], 0, 65536, 'int32').dataSync();
  const halves = Uint16Array.from(raw, half => ((half & 0x7f80) === 0x7f80 ? half & 0xbfff : half));
  return tf.tensor2d(new Int32Array(halves.buffer), [rows, count], 'int32');
}

test('every kernel is registered', () => {
  expect(Object.keys(cpuKernels).sort()).toEqual([
    'Gemma3AdamStep',
    'Gemma3Attention',
    'Gemma3BestColumn',
    'Gemma3CacheUpdate',
    'Gemma3Draw',
    'Gemma3GatedGelu',
    'Gemma3Interleave',
    'Gemma3MatMul',
    'Gemma3MatMulBfloat16',
    'Gemma3PackBfloat16',
    'Gemma3Penalize',
    'Gemma3RmsNorm',
    'Gemma3Rotary',
    'Gemma3SoftmaxSums',
    'Gemma3TopK',
    'Gemma3UnpackBfloat16',
  ]);
  for (const [name, kernel] of Object.entries(cpuKernels)) expect(tf.getKernel(name, 'cpu').kernelFunc).toBe(kernel);
});

test('matrix product', () => {
  forAll(sizes, 60, ({m, outer, columns, inner, seed}) => {
    const x = normal([m, columns], seed) as tf.Tensor2D;
    const kernel = normal([outer, columns, inner], seed + 1) as tf.Tensor3D;
    expect(runOp(matMulOp, {x, kernel}, {})).toBeAllClose(byReference(() => matMulOp.reference({x, kernel}, {})));
  });
});

test('gradients of the matrix product', () => {
  forAll(sizes, 10, ({m, outer, columns, inner, seed}) => {
    const plain = (...[x, w]: tf.Tensor[]) =>
      tf.matMul(
        x as tf.Tensor2D,
        tf.reshape(tf.transpose(w!, [1, 0, 2]), [columns, outer * inner]) as tf.Tensor2D,
      ) as tf.Tensor;
    expectSameGradients((...[x, w]) => matMul(x as tf.Tensor2D, w as tf.Tensor3D), plain, [
      normal([m, columns], seed),
      normal([outer, columns, inner], seed + 1),
    ]);
  });
});

test('matrix product with packed rows, and its gradient', () => {
  forAll(sizes, 20, ({m, outer: rows, columns, seed}) => {
    const values = normal([rows, 64], seed).dataSync() as Float32Array;
    const halves = Uint16Array.from(new Uint32Array(values.slice().buffer), word => word >>> 16);
    const bits = tf.tensor2d(new Int32Array(halves.buffer), [rows, 32], 'int32');
    const x = normal([m, columns], seed + 1) as tf.Tensor2D;
    const matrix = tf.slice(unpackBfloat16(bits), [0, 0], [rows, columns]);
    expect(runOp(matMulBfloat16Op, {x, bits}, {columns})).toBeAllClose(
      byReference(() => matMulBfloat16Op.reference({x, bits}, {columns})),
    );
    expectSameGradients(
      y => matMulBfloat16(y as tf.Tensor2D, bits, columns),
      y => tf.matMul(y as tf.Tensor2D, matrix as tf.Tensor2D, false, true),
      [x],
    );
  });
});

test('unpacking words', () => {
  forAll(fc.tuple(fc.integer({min: 1, max: 5}), fc.integer({min: 1, max: 20})), 30, ([rows, count]) => {
    const bits = words(rows, count);
    const expected = byReference(() => unpackBfloat16Op.reference({bits}, {}));
    expect(Array.from(unpackBfloat16(bits).dataSync())).toEqual(Array.from(expected.dataSync()));
  });
});

test('attention', () => {
  forAll(attentionSettings, 120, settings => {
    const c = attentionCase(settings);
    const y = attention(c.inputs, c.attrs);
    expect(y).toBeAllClose(expectedAttention(c));
    expect(y).toBeAllClose(byReference(() => attentionOp.reference(c.inputs, c.attrs)));
  });
});

test('gradients of attention', () => {
  forAll(attentionSettings, 10, settings => {
    const c = attentionCase(settings);
    const f = (...[q, k, v]: tf.Tensor[]) =>
      attention({...c.inputs, q: q as tf.Tensor4D, k: k as tf.Tensor4D, v: v as tf.Tensor4D}, c.attrs);
    expectSameGradients(f, plainAttention(c), [c.inputs.q, c.inputs.k, c.inputs.v]);
  });
});

test('a cache is updated in place, and the input tensor may be disposed', () => {
  forAll(cacheSettings, 60, settings => {
    const {cache, update, attrs} = cacheUpdateCase(settings);
    const expected = expectedCache({cache, update, attrs});
    const buffers = tf.memory().numDataBuffers;
    const next = cacheUpdate(cache, update, attrs);
    expect(next.shape).toEqual(cache.shape);
    expect(tf.memory().numDataBuffers).toBe(buffers);
    cache.dispose();
    expect(next).toBeAllClose(expected, 1e-12);
  });
});
