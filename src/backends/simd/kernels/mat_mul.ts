/** Products of matrices that are no weights: gradients of float32 kernels, and tfjs' own product. */
import * as tf from '@tensorflow/tfjs';
import {BATCH_MAT_MUL} from '../assembly/numbers';
import {type Command, FLOAT32, matMulTransposed} from '../engine/commands';
import {kernel as makeKernel} from './kernel';
import {type SimdBackend} from '../memory/simd_backend';

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

/** tfjs' BatchMatMul: float32 here, where both have the same batch or one has none; anything else as before. */
const tfBatchMatMul: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {a, b} = params.inputs as {a: tf.TensorInfo; b: tf.TensorInfo};
  const {transposeA, transposeB} = params.attrs as unknown as {transposeA: boolean; transposeB: boolean};
  const [outerA, outerB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const [batchA, batchB] = [tf.util.sizeFromShape(outerA), tf.util.sizeFromShape(outerB)];
  const alike = tf.util.arraysEqual(outerA, outerB) || batchA === 1 || batchB === 1;
  if (a.dtype !== 'float32' || b.dtype !== 'float32' || !alike || batchA * batchB === 0) {
    return tf.getKernel('BatchMatMul', 'cpu')!.kernelFunc(params);
  }
  const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
  const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
  const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
  const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
  if (k !== inner) return tf.getKernel('BatchMatMul', 'cpu')!.kernelFunc(params); // its error message
  const shape = [...tf.broadcast_util.assertAndGetBroadcastShape(outerA, outerB), m, n];
  const call = backend.call({a, b}, {shape});
  const left = {at: call.at('a'), stride: batchA === 1 ? 0 : m * k, rowStride: columnsA, transposed: transposeA};
  const right = {at: call.at('b'), stride: batchB === 1 ? 0 : k * n, rowStride: columnsB, transposed: transposeB};
  const y = {at: call.y, stride: m * n, rowStride: n};
  return call.run(batchMatMul({a: left, b: right, y, batch: Math.max(batchA, batchB), m, n, k}));
};

/** dy (M, outer · inner), kernel [outer, C, inner] → (M, C) */
const matMulGradientX = makeKernel((backend, {dy, kernel}) => {
  const [m, rows] = dy!.shape as [number, number];
  const [, columns, inner] = kernel!.shape as [number, number, number];
  const call = backend.call({dy: dy!, kernel: kernel!}, {shape: [m, columns], home: ['kernel']});
  const places = {w: call.at('kernel'), x: call.at('dy'), y: call.y};
  return call.run(matMulTransposed({type: FLOAT32, ...places, inner, m, rows, columns}));
});

/** x (M, C), dy (M, outer · inner) → [outer, C, inner] */
const matMulGradientKernel = makeKernel((backend, inputs, attrs) => {
  const [outer, inner] = [attrs.outer!, attrs.inner!];
  const [k, columns] = inputs.x!.shape as [number, number];
  const call = backend.call({x: inputs.x!, dy: inputs.dy!}, {shape: [outer, columns, inner]});
  const x = {at: call.at('x'), stride: 0, rowStride: columns};
  const dy = {at: call.at('dy'), stride: inner, rowStride: outer * inner};
  // With one value a row the kernel is a single matrix (outer, C).
  const command =
    inner === 1
      ? batchMatMul({
          a: {...dy, transposed: true},
          b: x,
          y: {at: call.y, stride: 0, rowStride: columns},
          ...{batch: 1, m: outer, n: columns, k},
        })
      : batchMatMul({
          a: {...x, transposed: true},
          b: dy,
          y: {at: call.y, stride: columns * inner, rowStride: inner},
          ...{batch: outer, m: columns, n: inner, k},
        });
  return call.run(command);
});

/** By kernel name. */
export const productKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3MatMulGradientX: matMulGradientX,
  Gemma3MatMulGradientKernel: matMulGradientKernel,
  BatchMatMul: tfBatchMatMul,
};
