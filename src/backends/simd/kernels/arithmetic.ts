/** tfjs' own arithmetic on large tensors. tfjs' CPU kernels are slow there, because they compute an index per value. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {valuesOf} from '../../cpu/cpu_backend';
import {type KernelMap} from '../../kernel_map';
import {ColumnSumsWord, CombineWord, Operation, TRANSPOSE_AXES, TransposeWord} from '../assembly/layouts/arithmetic';
import {COLUMN_SUMS, COMBINE, TRANSPOSE} from '../assembly/numbers';
import {type Command} from '../engine/command';
import {type SimdBackend} from '../memory/simd_backend';
import {kernelWithFallback} from './kernel';

// === Commands ===

const OPERATIONS = {Add: Operation.add, Sub: Operation.subtract, Multiply: Operation.multiply} as const;
export type OperationName = keyof typeof OPERATIONS;

/** y[i] = x[i] ∘ b[i mod period], for i = 0 … count − 1. */
export function combine(
  operation: OperationName,
  a: {x: number; b: number; y: number; count: number; period: number},
): Command {
  const words = new Array<number>(CombineWord.end);
  words[CombineWord.operation] = OPERATIONS[operation];
  words[CombineWord.x] = a.x;
  words[CombineWord.b] = a.b;
  words[CombineWord.y] = a.y;
  words[CombineWord.count] = a.count;
  words[CombineWord.period] = a.period;
  return [COMBINE, words];
}

/** Sum of each column: x (rows, columns) → target (columns). */
export function columnSums(a: {x: number; target: number; rows: number; columns: number}): Command {
  const words = new Array<number>(ColumnSumsWord.end);
  words[ColumnSumsWord.x] = a.x;
  words[ColumnSumsWord.target] = a.target;
  words[ColumnSumsWord.rows] = a.rows;
  words[ColumnSumsWord.columns] = a.columns;
  return [COLUMN_SUMS, words];
}

/** y is x with its axes in the order `perm`. At most six axes may remain after adjacent ones are merged. */
export function transpose({x, y, shape, perm}: {x: number; y: number; shape: number[]; perm: number[]}): Command {
  const {sizes, strides} = transposeAxes(shape, perm);
  return copyAxes(x, y, sizes, strides);
}

/** Copies `rows` rows of `columns` adjacent values from each of some parts, `step` values apart, to adjacent ones. */
export function copyRows(a: {
  from: number;
  to: number;
  parts: number;
  step: number;
  rows: number;
  columns: number;
}): Command {
  return copyAxes(a.from, a.to, [a.parts, a.rows, a.columns], [a.step, a.columns, 1]);
}

function copyAxes(x: number, y: number, sizes: number[], strides: number[]): Command {
  const missing = TRANSPOSE_AXES - sizes.length;
  const words = new Array<number>(TransposeWord.end).fill(1);
  words[TransposeWord.x] = x;
  words[TransposeWord.y] = y;
  for (let axis = 0; axis < sizes.length; axis++) {
    words[TransposeWord.sizes + missing + axis] = sizes[axis]!;
    words[TransposeWord.strides + missing + axis] = strides[axis]!;
  }
  return [TRANSPOSE, words];
}

/** Axes of the result with their strides in x. Axes that are adjacent in both are merged into one. */
function transposeAxes(shape: number[], perm: number[]): {sizes: number[]; strides: number[]} {
  const [sizes, strides]: [number[], number[]] = [[], []];
  for (const axis of perm) {
    const stride = sizeOf(shape.slice(axis + 1));
    if (shape[axis] === 1) continue;
    if (sizes.length && strides.at(-1) === stride * shape[axis]!) {
      sizes[sizes.length - 1]! *= shape[axis]!;
      strides[strides.length - 1] = stride;
    } else {
      sizes.push(shape[axis]!);
      strides.push(stride);
    }
  }
  return {sizes, strides};
}

// === Kernels ===

/** For fewer values, starting the threads costs more time than they save. */
const MIN_VALUES = 4096;
/**
 * Larger tensors occur when embedding tables are trained. Temporary results of that size would crowd a memory of at
 * most 4 GiB.
 */
const MAX_VALUES = 2 ** 26;

export const isWorthwhile = (shape: number[]) => sizeOf(shape) >= MIN_VALUES && sizeOf(shape) <= MAX_VALUES;

const endsWith = (shape: number[], end: number[]) =>
  end.length <= shape.length && end.every((n, i) => n === shape[shape.length - end.length + i]);

/** Whether b has one number per row of a, in the shape (…, 1). */
const isPerRow = (a: number[], b: number[]) =>
  a.length === b.length && b.at(-1) === 1 && b.slice(0, -1).every((n, i) => n === a[i]);

/** a[row][…] ∘ b[row] */
function combineRows(name: OperationName, backend: SimdBackend, a: tf.TensorInfo, b: tf.TensorInfo): tf.TensorInfo {
  const [x, numbers] = [valuesOf(backend, a), valuesOf(backend, b)];
  const y = new Float32Array(x.length);
  const columns = a.shape.at(-1)!;
  for (let row = 0, i = 0; row < numbers.length; row++) {
    const n = numbers[row]!;
    const end = i + columns;
    if (name === 'Multiply') for (; i < end; i++) y[i] = x[i]! * n;
    else if (name === 'Add') for (; i < end; i++) y[i] = x[i]! + n;
    else for (; i < end; i++) y[i] = x[i]! - n;
  }
  return backend.makeTensorInfo(a.shape, 'float32', y);
}

/**
 * Runs here if one operand has the shape of the result, and the other has the shape of its last axes, one number per
 * row, or only one number.
 */
const combineKernel = (name: OperationName) =>
  kernelWithFallback<'a' | 'b'>(name, (backend, inputs) => {
    const swapped = name !== 'Sub' && sizeOf(inputs.a.shape) < sizeOf(inputs.b.shape);
    const [a, b] = swapped ? [inputs.b, inputs.a] : [inputs.a, inputs.b];
    if (a.dtype !== 'float32' || b.dtype !== 'float32') return undefined;
    const period = sizeOf(b.shape);
    const fits = endsWith(a.shape, b.shape) || (period === 1 && b.shape.length <= a.shape.length);
    if (!fits && isPerRow(a.shape, b.shape)) return combineRows(name, backend, a, b);
    if (!fits || !isWorthwhile(a.shape) || period === 0) return undefined;
    const call = backend.call({a, b}, {shape: a.shape});
    const places = {x: call.at('a'), b: call.at('b'), y: call.y};
    return call.run(combine(name, {...places, count: sizeOf(a.shape), period}));
  });

/** Runs here for float32 sums over the leading axes, as in gradients of biases. */
const sumKernel = kernelWithFallback<'x', {axis: number | number[]; keepDims: boolean}>(
  'Sum',
  (backend, {x}, attrs) => {
    const axes = tf.util.parseAxisParam(attrs.axis, x.shape).sort((a, b) => a - b);
    const leading = axes.length > 0 && axes.length < x.shape.length && axes.every((axis, i) => axis === i);
    if (x.dtype !== 'float32' || !leading || !isWorthwhile(x.shape)) return undefined;
    const rest = x.shape.slice(axes.length);
    const call = backend.call({x}, {shape: attrs.keepDims ? [...axes.map(() => 1), ...rest] : rest});
    const columns = sizeOf(rest);
    const rows = sizeOf(x.shape) / columns;
    return call.run(columnSums({x: call.at('x'), target: call.y, rows, columns}));
  },
);

/** Runs here for float32 with at most six axes after adjacent ones are merged. */
const transposeKernel = kernelWithFallback<'x', {perm: number[]}>('Transpose', (backend, {x}, {perm}) => {
  const supported = x.dtype === 'float32' && transposeAxes(x.shape, perm).sizes.length <= TRANSPOSE_AXES;
  if (!supported || !isWorthwhile(x.shape)) return undefined;
  const shape = perm.map(axis => x.shape[axis]!);
  // An image from the user: moving it here would keep a second copy as long as it exists.
  if (!backend.placeOf(x) && perm.at(-1) === perm.length - 1) return transposeRows(backend, x, shape, perm);
  const call = backend.call({x}, {shape});
  return call.run(transpose({x: call.at('x'), y: call.y, shape: x.shape, perm}));
});

/** Transposes a tensor that no command has used yet, and that keeps its last axis, directly from JavaScript memory. */
function transposeRows(backend: SimdBackend, x: tf.TensorInfo, shape: number[], perm: number[]): tf.TensorInfo {
  const from = valuesOf(backend, x) as Float32Array;
  const call = backend.call({}, {shape});
  const {floats} = call.words;
  const columns = shape.at(-1)!;
  const strides = perm.map(axis => sizeOf(x.shape.slice(axis + 1)));
  const index = shape.map(() => 0);
  let [at, to] = [0, call.y / 4];
  for (let row = sizeOf(shape) / columns; row > 0; row--, to += columns) {
    for (let i = 0; i < columns; i++) floats[to + i] = from[at + i]!;
    for (let axis = shape.length - 2; axis >= 0; axis--) {
      at += strides[axis]!;
      if (++index[axis]! < shape[axis]!) break;
      at -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return call.run();
}

type Pair = [number, number] | number;
interface PoolAttrs {
  filterSize: Pair;
  strides: Pair;
  pad: 'valid' | 'same' | number;
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}

/** Runs here for float32 windows that neither overlap nor leave gaps, as in the pooling of image patches. */
const averagePoolKernel = kernelWithFallback<'x', PoolAttrs>('AvgPool', (backend, {x}, attrs) => {
  const {filterSize, strides, pad, dimRoundingMode} = attrs;
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  const shape: [number, number, number, number] = [batch, height, width, channels];
  const info = tf.backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
  const {filterHeight, filterWidth, strideHeight, strideWidth, padInfo, outHeight, outWidth} = info;
  const adjacent = filterHeight === strideHeight && filterWidth === strideWidth && padInfo.type === 'VALID';
  if (x.dtype !== 'float32' || !adjacent) return undefined;
  const call = backend.call({}, {shape: [batch, outHeight, outWidth, channels]});
  const from = valuesOf(backend, x);
  const to = call.words.floats.subarray(call.y / 4, call.y / 4 + batch * outHeight * outWidth * channels).fill(0);
  const share = 1 / (filterHeight * filterWidth);
  for (let b = 0; b < batch; b++) {
    for (let row = 0; row < outHeight * filterHeight; row++) {
      for (let column = 0; column < outWidth * filterWidth; column++) {
        const cell = (b * outHeight + Math.floor(row / filterHeight)) * outWidth + Math.floor(column / filterWidth);
        const [source, target] = [((b * height + row) * width + column) * channels, cell * channels];
        for (let c = 0; c < channels; c++) to[target + c]! += share * from[source + c]!;
      }
    }
  }
  return call.run();
});

/**
 * tfjs' CPU kernel keeps the array of integers and booleans where nothing is lost, and changes only the dtype. Here the
 * array must match the dtype, because commands read it from memory.
 */
const castKernel = kernelWithFallback<'x', {dtype: tf.DataType}>('Cast', (backend, {x}, {dtype}) => {
  if (dtype === 'float32' && (x.dtype === 'int32' || x.dtype === 'bool')) {
    return backend.makeTensorInfo(x.shape, dtype, Float32Array.from(valuesOf(backend, x)));
  }
  if (dtype === 'int32' && x.dtype === 'bool') {
    return backend.makeTensorInfo(x.shape, dtype, Int32Array.from(valuesOf(backend, x)));
  }
  return undefined;
});

export const arithmeticKernels: KernelMap = {
  Cast: castKernel,
  Add: combineKernel('Add'),
  Sub: combineKernel('Sub'),
  Multiply: combineKernel('Multiply'),
  Sum: sumKernel,
  Transpose: transposeKernel,
  AvgPool: averagePoolKernel,
};
