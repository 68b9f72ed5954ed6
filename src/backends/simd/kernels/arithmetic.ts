/** tfjs' own sums, products and transposes where they are large: its CPU kernels work out the place of each value. */
import * as tf from '@tensorflow/tfjs';
import {valuesOf} from '../../cpu/cpu_backend';
import {COLUMN_SUMS, COMBINE, TRANSPOSE} from '../assembly/numbers';
import {type Command} from '../engine/commands';
import {type SimdBackend} from '../memory/simd_backend';

const OPERATIONS = {Add: 0, Sub: 1, Multiply: 2} as const;
export type Operation = keyof typeof OPERATIONS;

/** y[i] = x[i] ∘ b[i mod period], for i = 0 … count − 1. */
export const combine = (
  operation: Operation,
  a: {x: number; b: number; y: number; count: number; period: number},
): Command => [COMBINE, [OPERATIONS[operation], a.x, a.b, a.y, a.count, a.period]];

/** Sum of each column: x (rows, columns) → target (columns). */
export const columnSums = (a: {x: number; target: number; rows: number; columns: number}): Command => [
  COLUMN_SUMS,
  [a.x, a.target, a.rows, a.columns],
];

const size = tf.util.sizeFromShape;

/** Axes that the kernel knows. */
const AXES = 6;

/** y is x with its axes in the order `perm`; of the axes that do not stay neighbours there are at most six. */
export function transpose({x, y, shape, perm}: {x: number; y: number; shape: number[]; perm: number[]}): Command {
  const {sizes, strides} = transposeAxes(shape, perm);
  const missing = Array.from({length: AXES - sizes.length}, () => 1);
  return [TRANSPOSE, [x, y, ...missing, ...sizes, ...missing, ...strides]];
}

/** Axes of the result with their strides in x, those as one that are neighbours in both. */
function transposeAxes(shape: number[], perm: number[]): {sizes: number[]; strides: number[]} {
  const [sizes, strides]: [number[], number[]] = [[], []];
  for (const axis of perm) {
    const stride = size(shape.slice(axis + 1));
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

/** Below this many values telling the threads costs more than it gains. */
const MANY = 4096;
/** Larger ones are tables of embeddings and what trains them: their temporary results would crowd the memory of 4 GiB. */
const MOST = 2 ** 26;

const pays = (shape: number[]) => size(shape) >= MANY && size(shape) <= MOST;

const ends = (shape: number[], end: number[]) =>
  end.length <= shape.length && end.every((n, i) => n === shape[shape.length - end.length + i]);

/** Whether b has a number for each row of a, as (…, 1). */
const perRow = (a: number[], b: number[]) =>
  a.length === b.length && b.at(-1) === 1 && b.slice(0, -1).every((n, i) => n === a[i]);

/** a[row][…] ∘ b[row]: weights of tokens over what is known of each. */
function combineRows(name: Operation, backend: SimdBackend, a: tf.TensorInfo, b: tf.TensorInfo): tf.TensorInfo {
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

/** One of both has the shape of the result, and the other its last axes, a number for each of its rows, or is a number. */
const combineKernel =
  (name: Operation): tf.KernelFunc =>
  params => {
    const backend = params.backend as SimdBackend;
    const inputs = params.inputs as {a: tf.TensorInfo; b: tf.TensorInfo};
    const swapped = name !== 'Sub' && size(inputs.a.shape) < size(inputs.b.shape);
    const [a, b] = swapped ? [inputs.b, inputs.a] : [inputs.a, inputs.b];
    const period = size(b.shape);
    const fits = ends(a.shape, b.shape) || (period === 1 && b.shape.length <= a.shape.length);
    const floats = a.dtype === 'float32' && b.dtype === 'float32';
    if (floats && !fits && perRow(a.shape, b.shape)) return combineRows(name, backend, a, b);
    if (!floats || !fits || !pays(a.shape) || period === 0) return tf.getKernel(name, 'cpu')!.kernelFunc(params);
    const call = backend.call({a, b}, {shape: a.shape});
    const places = {x: call.at('a'), b: call.at('b'), y: call.y};
    return call.run(combine(name, {...places, count: size(a.shape), period}));
  };

/** tfjs' Sum: over the first axes of float32 here, as gradients of biases are; anything else as before. */
const sumKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const {axis, keepDims} = params.attrs as unknown as {axis: number | number[]; keepDims: boolean};
  const axes = tf.util.parseAxisParam(axis, x.shape).sort((a, b) => a - b);
  const leading = axes.length > 0 && axes.length < x.shape.length && axes.every((axis, i) => axis === i);
  if (x.dtype !== 'float32' || !leading || !pays(x.shape)) return tf.getKernel('Sum', 'cpu')!.kernelFunc(params);
  const rest = x.shape.slice(axes.length);
  const call = backend.call({x}, {shape: keepDims ? [...axes.map(() => 1), ...rest] : rest});
  const columns = size(rest);
  const rows = size(x.shape) / columns;
  return call.run(columnSums({x: call.at('x'), target: call.y, rows, columns}));
};

/** tfjs' Transpose of float32; anything else, and more axes, as before. */
const transposeKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const {perm} = params.attrs as unknown as {perm: number[]};
  const known = x.dtype === 'float32' && transposeAxes(x.shape, perm).sizes.length <= AXES;
  if (!known || !pays(x.shape)) return tf.getKernel('Transpose', 'cpu')!.kernelFunc(params);
  const call = backend.call({x}, {shape: perm.map(axis => x.shape[axis]!)});
  return call.run(transpose({x: call.at('x'), y: call.y, shape: x.shape, perm}));
};

/** tfjs' AvgPool over squares side by side, as patches of images are pooled; anything else as before. */
const averagePoolKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const info = poolInfo(x.shape, params.attrs as unknown as PoolAttrs);
  const {filterHeight, filterWidth, strideHeight, strideWidth, padInfo, outHeight, outWidth} = info;
  const apart = filterHeight === strideHeight && filterWidth === strideWidth && padInfo.type === 'VALID';
  if (x.dtype !== 'float32' || !apart) return tf.getKernel('AvgPool', 'cpu')!.kernelFunc(params);
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  const from = valuesOf(backend, x);
  const to = new Float32Array(batch * outHeight * outWidth * channels);
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
  return backend.makeTensorInfo([batch, outHeight, outWidth, channels], 'float32', to);
};

type Pair = [number, number] | number;
interface PoolAttrs {
  filterSize: Pair;
  strides: Pair;
  pad: 'valid' | 'same' | number;
  dimRoundingMode?: 'floor' | 'round' | 'ceil';
}
const poolInfo = (shape: number[], {filterSize, strides, pad, dimRoundingMode}: PoolAttrs) =>
  tf.backend_util.computePool2DInfo(
    shape as [number, number, number, number],
    filterSize,
    strides,
    1,
    pad,
    dimRoundingMode,
  );

/**
 * tfjs' Cast: its CPU kernel leaves integers and booleans as they are where nothing is lost, and only says the other dtype,
 * but an address is read as such.
 */
const castKernel: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const {dtype} = params.attrs as unknown as {dtype: tf.DataType};
  if (dtype === 'float32' && (x.dtype === 'int32' || x.dtype === 'bool')) {
    return backend.makeTensorInfo(x.shape, dtype, Float32Array.from(valuesOf(backend, x)));
  }
  if (dtype === 'int32' && x.dtype === 'bool') {
    return backend.makeTensorInfo(x.shape, dtype, Int32Array.from(valuesOf(backend, x)));
  }
  return tf.getKernel('Cast', 'cpu')!.kernelFunc(params);
};

/** By kernel name. */
export const arithmeticKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Cast: castKernel,
  Add: combineKernel('Add'),
  Sub: combineKernel('Sub'),
  Multiply: combineKernel('Multiply'),
  Sum: sumKernel,
  Transpose: transposeKernel,
  AvgPool: averagePoolKernel,
};
