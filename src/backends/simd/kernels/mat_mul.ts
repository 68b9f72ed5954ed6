/** Matrix products with packed or float32 weights, their gradients, and tfjs' own BatchMatMul. */
import * as tf from '@tensorflow/tfjs';
import {type PackedFormat} from '../../../weights/dtype';
import {type KernelMap} from '../../kernel_map';
import {BatchMatMulWord, MatMulWord} from '../assembly/layouts/mat_mul';
import {BATCH_MAT_MUL, MAT_MUL, MAT_MUL_TRANSPOSED} from '../assembly/numbers';
import {type Command, FLOAT32, type NumberType} from '../engine/command';
import {TYPES} from '../packing/packing';
import {kernel, kernelWithFallback} from './kernel';

// === Commands ===

export interface MatMulArgs {
  /** Packed (rows, columns), or float32 (rows / inner, columns, inner). */
  w: number;
  type: NumberType;
  /** Only for float32: 1 for a table (rows, columns), `rows` for a matrix (columns, rows). Defaults to 1. */
  inner?: number;
  x: number;
  m: number;
  y: number;
  rows: number;
  columns: number;
}

function matMulWords(a: MatMulArgs): number[] {
  const words = new Array<number>(MatMulWord.end);
  words[MatMulWord.type] = a.type;
  words[MatMulWord.w] = a.w;
  words[MatMulWord.inner] = a.inner ?? 1;
  words[MatMulWord.x] = a.x;
  words[MatMulWord.m] = a.m;
  words[MatMulWord.y] = a.y;
  words[MatMulWord.rows] = a.rows;
  words[MatMulWord.columns] = a.columns;
  return words;
}

/** y (m, rows) = x (m, columns) · Wᵀ */
export const matMul = (a: MatMulArgs): Command => [MAT_MUL, matMulWords(a)];

/** y (m, columns) = x (m, rows) · W: the gradient of `matMul` with respect to its x. */
export const matMulTransposed = (a: MatMulArgs): Command => [MAT_MUL_TRANSPOSED, matMulWords(a)];

/** Equally spaced matrices in memory, stored row by row. */
export interface Matrices {
  at: number;
  /** Distance from one matrix to the next, in values; 0 to use the same one each time. */
  stride: number;
  /** Distance from one row to the next, in values. */
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
export function batchMatMul({a, b, y, batch, m, n, k}: BatchMatMulArgs): Command {
  const words = new Array<number>(BatchMatMulWord.end);
  words[BatchMatMulWord.a] = a.at;
  words[BatchMatMulWord.aStride] = a.stride;
  words[BatchMatMulWord.aRowStride] = a.rowStride;
  words[BatchMatMulWord.aTransposed] = Number(a.transposed ?? false);
  words[BatchMatMulWord.b] = b.at;
  words[BatchMatMulWord.bStride] = b.stride;
  words[BatchMatMulWord.bRowStride] = b.rowStride;
  words[BatchMatMulWord.bTransposed] = Number(b.transposed ?? false);
  words[BatchMatMulWord.y] = y.at;
  words[BatchMatMulWord.yStride] = y.stride;
  words[BatchMatMulWord.yRowStride] = y.rowStride;
  words[BatchMatMulWord.batch] = batch;
  words[BatchMatMulWord.m] = m;
  words[BatchMatMulWord.n] = n;
  words[BatchMatMulWord.k] = k;
  return [BATCH_MAT_MUL, words];
}

// === Kernels ===

/** x (M, C) · kernel (outer, C, inner) → (M, outer · inner) */
const matMulFloat32Kernel = kernel<'x' | 'kernel'>((backend, inputs) => {
  const [m, columns] = inputs.x.shape as [number, number];
  const [outer, , inner] = inputs.kernel.shape as [number, number, number];
  const rows = outer * inner;
  const call = backend.call(inputs, {shape: [m, rows], preferredBank: ['kernel']});
  return call.run(matMul({type: FLOAT32, w: call.at('kernel'), x: call.at('x'), y: call.y, m, rows, columns, inner}));
});

type PackedAttrs = {rows: number; columns: number; format: PackedFormat};

/** x (M, columns) · Wᵀ → (M, rows), or transposed: x (M, rows) · W → (M, columns). */
const matMulPackedKernel = (transposed: boolean) =>
  kernel<'x' | 'bits', PackedAttrs>((backend, inputs, {rows, columns, format}) => {
    const m = inputs.x.shape[0]!;
    const call = backend.call(inputs, {shape: [m, transposed ? columns : rows], preferredBank: ['bits']});
    const args = {type: TYPES[format], w: call.at('bits'), x: call.at('x'), y: call.y, m, rows, columns};
    return call.run(transposed ? matMulTransposed(args) : matMul(args));
  });

/** dy (M, outer · inner), kernel (outer, C, inner) → (M, C) */
const matMulGradientXKernel = kernel<'dy' | 'kernel'>((backend, inputs) => {
  const [m, rows] = inputs.dy.shape as [number, number];
  const [, columns, inner] = inputs.kernel.shape as [number, number, number];
  const call = backend.call(inputs, {shape: [m, columns], preferredBank: ['kernel']});
  const places = {w: call.at('kernel'), x: call.at('dy'), y: call.y};
  return call.run(matMulTransposed({type: FLOAT32, ...places, inner, m, rows, columns}));
});

/** x (M, C), dy (M, outer · inner) → (outer, C, inner) */
const matMulGradientKernelKernel = kernel<'x' | 'dy', {outer: number; inner: number}>((backend, inputs, attrs) => {
  const {outer, inner} = attrs;
  const [k, columns] = inputs.x.shape as [number, number];
  const call = backend.call(inputs, {shape: [outer, columns, inner]});
  const x = {at: call.at('x'), stride: 0, rowStride: columns};
  const dy = {at: call.at('dy'), stride: inner, rowStride: outer * inner};
  // If inner is 1, the kernel is a single matrix (outer, C).
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

/** Runs here for float32 operands with equal batch shapes, or if one of them is a single matrix. */
const batchMatMulKernel = kernelWithFallback<'a' | 'b', {transposeA: boolean; transposeB: boolean}>(
  'BatchMatMul',
  (backend, {a, b}, {transposeA, transposeB}) => {
    const [outerA, outerB] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
    const [batchA, batchB] = [tf.util.sizeFromShape(outerA), tf.util.sizeFromShape(outerB)];
    const alike = tf.util.arraysEqual(outerA, outerB) || batchA === 1 || batchB === 1;
    if (a.dtype !== 'float32' || b.dtype !== 'float32' || !alike || batchA * batchB === 0) return undefined;
    const [rowsA, columnsA] = a.shape.slice(-2) as [number, number];
    const [rowsB, columnsB] = b.shape.slice(-2) as [number, number];
    const [m, k] = transposeA ? [columnsA, rowsA] : [rowsA, columnsA];
    const [inner, n] = transposeB ? [columnsB, rowsB] : [rowsB, columnsB];
    if (k !== inner) return undefined; // The CPU kernel throws tfjs' own error.
    const shape = [...tf.broadcast_util.assertAndGetBroadcastShape(outerA, outerB), m, n];
    const call = backend.call({a, b}, {shape});
    const left = {at: call.at('a'), stride: batchA === 1 ? 0 : m * k, rowStride: columnsA, transposed: transposeA};
    const right = {at: call.at('b'), stride: batchB === 1 ? 0 : k * n, rowStride: columnsB, transposed: transposeB};
    const y = {at: call.y, stride: m * n, rowStride: n};
    return call.run(batchMatMul({a: left, b: right, y, batch: Math.max(batchA, batchB), m, n, k}));
  },
);

export const matMulKernels: KernelMap = {
  Gemma3MatMul: matMulFloat32Kernel,
  Gemma3MatMulP8: matMulPackedKernel(false),
  Gemma3MatMulTransposedP8: matMulPackedKernel(true),
  Gemma3MatMulGradientX: matMulGradientXKernel,
  Gemma3MatMulGradientKernel: matMulGradientKernelKernel,
  BatchMatMul: batchMatMulKernel,
};
