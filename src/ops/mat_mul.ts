/** Matrix products that read a kernel in its stored order: float32 in Keras' order, or packed rows. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runGradient, runOp} from './op';
import {unpackBfloat16} from './unpack';

type MatMulInputs = {x: tf.Tensor; kernel: tf.Tensor};
type PackedInputs = {x: tf.Tensor; bits: tf.Tensor};
type PackedAttrs = {columns: number};

/** [outer, C, inner] as a matrix [outer · inner, C]. */
function asRows(kernel: tf.Tensor): tf.Tensor2D {
  const [outer, columns, inner] = kernel.shape as [number, number, number];
  const rows = inner === 1 ? kernel : tf.transpose(kernel, [0, 2, 1]);
  return tf.reshape(rows, [outer * inner, columns]);
}

/**
 * `x · kernel` where the kernel is [outer, C, inner]. Every dense kernel of Keras has this form without a transpose,
 * since its contracted axes are adjacent. x: (M, C) → (M, outer · inner).
 */
export const matMulOp: Op<MatMulInputs, Record<string, never>> = {
  name: 'Gemma3MatMul',
  reference: ({x, kernel}) =>
    tf.tidy(() => {
      const [outer, columns, inner] = kernel.shape as [number, number, number];
      if (outer === 1) return tf.matMul(x as tf.Tensor2D, tf.reshape(kernel, [columns, inner]) as tf.Tensor2D);
      return tf.matMul(x as tf.Tensor2D, asRows(kernel), false, true);
    }),
  gradient: (dy, {x, kernel}) => ({
    x: () => runGradient(matMulGradientXOp, {dy, kernel}, {}),
    kernel: () => {
      const [outer, , inner] = kernel.shape as [number, number, number];
      return runGradient(matMulGradientKernelOp, {x, dy}, {outer, inner});
    },
  }),
  reads: {x: ['kernel'], kernel: ['x']},
};

/** Gradient for x: dy (M, outer · inner) → (M, C). */
export const matMulGradientXOp: Op<{dy: tf.Tensor; kernel: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3MatMulGradientX',
  reference: ({dy, kernel}) =>
    tf.tidy(() => {
      const [outer, columns, inner] = kernel.shape as [number, number, number];
      const g = dy as tf.Tensor2D;
      if (outer === 1) return tf.matMul(g, tf.reshape(kernel, [columns, inner]) as tf.Tensor2D, false, true);
      return tf.matMul(g, asRows(kernel));
    }),
};

/** Gradient for the kernel: x (M, C), dy (M, outer · inner) → [outer, C, inner]. */
export const matMulGradientKernelOp: Op<{x: tf.Tensor; dy: tf.Tensor}, {outer: number; inner: number}> = {
  name: 'Gemma3MatMulGradientKernel',
  reference: ({x, dy}, {outer, inner}) =>
    tf.tidy(() => {
      const product = tf.matMul(x as tf.Tensor2D, dy as tf.Tensor2D, true); // (C, outer · inner)
      return tf.transpose(tf.reshape(product, [x.shape[1]!, outer, inner]), [1, 0, 2]);
    }),
};

export function matMul(x: tf.Tensor2D, kernel: tf.Tensor3D): tf.Tensor2D {
  return runOp(matMulOp, {x, kernel}, {}) as tf.Tensor2D;
}

const unpackedRows = (bits: tf.Tensor, columns: number) =>
  tf.slice(unpackBfloat16(bits as tf.Tensor2D), [0, 0], [-1, columns]) as tf.Tensor2D;

/**
 * `x · Wᵀ` with W packed as bfloat16 rows. x: (M, columns), bits: (R, words) → (M, R). No gradient for W: it is frozen.
 */
export const matMulBfloat16Op: Op<PackedInputs, PackedAttrs> = {
  name: 'Gemma3MatMulBfloat16',
  reference: ({x, bits}, {columns}) =>
    tf.tidy(() => tf.matMul(x as tf.Tensor2D, unpackedRows(bits, columns), false, true)),
  gradient: (dy, {bits}, {columns}) => ({
    x: () => tf.tidy(() => tf.matMul(dy as tf.Tensor2D, unpackedRows(bits, columns))),
  }),
  reads: {x: ['bits']},
};

export function matMulBfloat16(x: tf.Tensor2D, bits: tf.Tensor2D, columns: number): tf.Tensor2D {
  return runOp(matMulBfloat16Op, {x, bits}, {columns}) as tf.Tensor2D;
}
