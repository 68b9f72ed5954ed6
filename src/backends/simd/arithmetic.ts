/** tfjs' own sums and products where they are large: broadcasting biases takes its CPU kernels 100 ns a value. */
import * as tf from '@tensorflow/tfjs';
import {COLUMN_SUMS, COMBINE} from './assembly/numbers';
import {type Command} from './commands';
import {type SimdBackend} from './simd_backend';

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

/** Below this many values telling the threads costs more than it gains. */
const MANY = 4096;

const size = tf.util.sizeFromShape;
const ends = (shape: number[], end: number[]) =>
  end.length <= shape.length && end.every((n, i) => n === shape[shape.length - end.length + i]);

/** One of both has the shape of the result, and the other its last axes, or is a number. */
const combineKernel =
  (name: Operation): tf.KernelFunc =>
  call => {
    const backend = call.backend as SimdBackend;
    const inputs = call.inputs as {a: tf.TensorInfo; b: tf.TensorInfo};
    const swapped = name !== 'Sub' && size(inputs.a.shape) < size(inputs.b.shape);
    const [a, b] = swapped ? [inputs.b, inputs.a] : [inputs.a, inputs.b];
    const period = size(b.shape);
    const fits = ends(a.shape, b.shape) || (period === 1 && b.shape.length <= a.shape.length);
    if (a.dtype !== 'float32' || b.dtype !== 'float32' || !fits || size(a.shape) < MANY || period === 0) {
      return tf.getKernel(name, 'cpu')!.kernelFunc(call);
    }
    const {dataId, shape, dtype, offset} = backend.empty(a.shape);
    const [x, other] = [backend.locate(a), backend.locate(b)];
    backend.engine.run(...combine(name, {x, b: other, y: offset, count: size(shape), period}));
    return {dataId, shape, dtype};
  };

/** tfjs' Sum: over the first axes of float32 here, as gradients of biases are; anything else as before. */
const sumKernel: tf.KernelFunc = call => {
  const backend = call.backend as SimdBackend;
  const {x} = call.inputs as {x: tf.TensorInfo};
  const {axis, keepDims} = call.attrs as unknown as {axis: number | number[]; keepDims: boolean};
  const axes = tf.util.parseAxisParam(axis, x.shape).sort((a, b) => a - b);
  const leading = axes.length > 0 && axes.length < x.shape.length && axes.every((axis, i) => axis === i);
  if (x.dtype !== 'float32' || !leading || size(x.shape) < MANY) return tf.getKernel('Sum', 'cpu')!.kernelFunc(call);
  const rest = x.shape.slice(axes.length);
  const {dataId, shape, dtype, offset} = backend.empty(keepDims ? [...axes.map(() => 1), ...rest] : rest);
  const columns = size(rest);
  const rows = size(x.shape) / columns;
  backend.engine.run(...columnSums({x: backend.locate(x), target: offset, rows, columns}));
  return {dataId, shape, dtype};
};

/** By kernel name. */
export const arithmeticKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Add: combineKernel('Add'),
  Sub: combineKernel('Sub'),
  Multiply: combineKernel('Multiply'),
  Sum: sumKernel,
};
