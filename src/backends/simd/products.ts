/** Products of matrices that are no weights: gradients of float32 kernels, and tfjs' own product. */
import * as tf from '@tensorflow/tfjs';
import {BATCH_MAT_MUL} from './assembly/numbers';
import {type Command, FLOAT32, matMulTransposed} from './commands';
import {type Placed, type SimdBackend} from './simd_backend';

/** Matrices in memory, row by row. */
export interface Matrices {
  at: number;
  /** Values from one matrix to the next; 0: the same one again. */
  stride: number;
  /** Values from row to row. */
  rowStride: number;
  transposed?: boolean;
}

export interface BatchMatMulArgs {
  /** (m, k), or (k, m) if transposed */
  a: Matrices;
  /** (k, n), or (n, k) if transposed */
  b: Matrices;
  /** (m, n) */
  y: Omit<Matrices, 'transposed'>;
  batch: number;
  m: number;
  n: number;
  k: number;
}

/** y[i] = a[i] · b[i] */
export const batchMatMul = ({a, b, y, batch, m, n, k}: BatchMatMulArgs): Command => [
  BATCH_MAT_MUL,
  [
    ...[a.at, a.stride, a.rowStride, Number(a.transposed ?? false)],
    ...[b.at, b.stride, b.rowStride, Number(b.transposed ?? false)],
    ...[y.at, y.stride, y.rowStride, batch, m, n, k],
  ],
];

const info = ({dataId, shape, dtype}: Placed): tf.TensorInfo => ({dataId, shape, dtype});

/** tfjs' BatchMatMul: float32 here, where both have the same batch or one has none; anything else as before. */
const tfBatchMatMul: tf.KernelFunc = call => {
  const backend = call.backend as SimdBackend;
  const {a, b} = call.inputs as {a: tf.TensorInfo; b: tf.TensorInfo};
  const {transposeA, transposeB} = call.attrs as unknown as {transposeA: boolean; transposeB: boolean};
  const [outerA, outerB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const [batchA, batchB] = [tf.util.sizeFromShape(outerA), tf.util.sizeFromShape(outerB)];
  const alike = tf.util.arraysEqual(outerA, outerB) || batchA === 1 || batchB === 1;
  if (a.dtype !== 'float32' || b.dtype !== 'float32' || !alike || batchA * batchB === 0) {
    return tf.getKernel('BatchMatMul', 'cpu')!.kernelFunc(call);
  }
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  if (k !== inner) return tf.getKernel('BatchMatMul', 'cpu')!.kernelFunc(call); // its error message
  const y = backend.empty([...tf.broadcast_util.assertAndGetBroadcastShape(outerA, outerB), m, n]);
  const matrices = (x: tf.TensorInfo, batch: number, transposed: boolean): Matrices => {
    const [rows, columns] = x.shape.slice(-2) as [number, number];
    return {at: backend.locate(x), stride: batch === 1 ? 0 : rows * columns, rowStride: columns, transposed};
  };
  const [left, right] = [matrices(a, batchA, transposeA), matrices(b, batchB, transposeB)];
  const target = {at: y.offset, stride: m * n, rowStride: n};
  backend.engine.run(...batchMatMul({a: left, b: right, y: target, batch: Math.max(batchA, batchB), m, n, k}));
  return info(y);
};

/** dy (M, outer · inner), kernel [outer, C, inner] → (M, C) */
const matMulGradientX: tf.KernelFunc = ({inputs, backend: kernelBackend}) => {
  const backend = kernelBackend as SimdBackend;
  const {dy, kernel} = inputs as {dy: tf.TensorInfo; kernel: tf.TensorInfo};
  const [m, rows] = dy.shape as [number, number];
  const [, columns, inner] = kernel.shape as [number, number, number];
  const y = backend.empty([m, columns]);
  const [x, w] = [backend.locate(dy), backend.locate(kernel)];
  backend.engine.run(...matMulTransposed({type: FLOAT32, w, inner, x, m, y: y.offset, rows, columns}));
  return info(y);
};

/** x (M, C), dy (M, outer · inner) → [outer, C, inner] */
const matMulGradientKernel: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const tensors = inputs as {x: tf.TensorInfo; dy: tf.TensorInfo};
  const {outer, inner} = attrs as unknown as {outer: number; inner: number};
  const [k, columns] = tensors.x.shape as [number, number];
  const y = backend.empty([outer, columns, inner]);
  const x = {at: backend.locate(tensors.x), stride: 0, rowStride: columns};
  const dy = {at: backend.locate(tensors.dy), stride: inner, rowStride: outer * inner};
  // With one value a row the kernel is a single matrix (outer, C).
  const command =
    inner === 1
      ? batchMatMul({
          a: {...dy, transposed: true},
          b: x,
          y: {at: y.offset, stride: 0, rowStride: columns},
          ...{batch: 1, m: outer, n: columns, k},
        })
      : batchMatMul({
          a: {...x, transposed: true},
          b: dy,
          y: {at: y.offset, stride: columns * inner, rowStride: inner},
          ...{batch: outer, m: columns, n: inner, k},
        });
  backend.engine.run(...command);
  return info(y);
};

/** By kernel name. */
export const productKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3MatMulGradientX: matMulGradientX,
  Gemma3MatMulGradientKernel: matMulGradientKernel,
  BatchMatMul: tfBatchMatMul,
};
