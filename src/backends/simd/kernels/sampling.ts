/** What samplers need of the logits: commands, and kernels of tfjs and of ours that run them. */
import * as tf from '@tensorflow/tfjs';
import {DRAW, SCRATCH_BYTES, SOFTMAX, SOFTMAX_SUMS, TOP_K} from '../assembly/numbers';
import {type Command, floatBits} from '../engine/commands';
import {kernel, rowsOf} from './kernel';
import {type SimdBackend} from '../memory/simd_backend';

interface Rows {
  /** (rows, columns) */
  x: number;
  rows: number;
  columns: number;
}

/** The most that a thread can keep: 8 bytes each, behind a line of its own. */
export const MAX_K = (SCRATCH_BYTES - 128) / 8;

export interface TopKArgs extends Rows {
  /** At most `columns` and `MAX_K`. */
  k: number;
  /** (rows, k), `step` bytes from row to row. */
  values: number;
  /** As `values`; int32, or float32 if `indicesAsFloats`. */
  indices: number;
  step: number;
  indicesAsFloats?: boolean;
}

/** The largest values of each row, largest first, of equals the first. */
export const topK = (a: TopKArgs): Command => [
  TOP_K,
  [a.x, a.rows, a.columns, a.k, a.values, a.indices, a.step, Number(a.indicesAsFloats ?? false)],
];

/** y = softmax of each row */
export const softmax = (a: Rows & {y: number}): Command => [SOFTMAX, [a.x, a.y, a.rows, a.columns]];

/** Largest value m of each row, and Σ exp((x − m) / temperature) → target (rows, 2). */
export const softmaxSums = (a: Rows & {target: number; temperature: number}): Command => [
  SOFTMAX_SUMS,
  [a.x, a.rows, a.columns, a.target, floatBits(a.temperature)],
];

export interface DrawArgs extends Rows {
  /** int32 (rows) */
  target: number;
  temperature: number;
  /** float64 (rows) in [0, 1) */
  uniforms: number;
}

/** Of each row the first column at which the cumulated softmax passes the row's uniform number. */
export const draw = (a: DrawArgs): Command => [
  DRAW,
  [a.x, a.rows, a.columns, a.target, floatBits(a.temperature), a.uniforms],
];

const gemma3TopK: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const {k} = params.attrs as unknown as {k: number};
  if (k > MAX_K) return tf.getKernel('Gemma3TopK', 'cpu')!.kernelFunc(params);
  const call = backend.call({x}, {shape: [x.shape[0]!, 2, k]});
  const places = {x: call.at('x'), values: call.y, indices: call.y + 4 * k, step: 8 * k};
  return call.run(topK({...places, ...rowsOf(x), k, indicesAsFloats: true}));
};

/** tfjs' TopK: values and indices over the last axis of float32 here, anything else as before. */
const tfTopK: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {x} = params.inputs as {x: tf.TensorInfo};
  const {k} = params.attrs as unknown as {k: number};
  if (x.dtype !== 'float32' || k === 0 || k > MAX_K) return tf.getKernel('TopK', 'cpu')!.kernelFunc(params);
  const shape = [...x.shape.slice(0, -1), k];
  const count = tf.util.sizeFromShape(shape);
  // A call has one result: all values and then all indices, which become two tensors.
  const call = backend.call({x}, {shape: [2, count]});
  const places = {x: call.at('x'), values: call.y, indices: call.y + 4 * count, step: 4 * k};
  const both = call.run(topK({...places, ...rowsOf(x), k}));
  const {floats, ints} = call.words;
  const begin = call.y / 4;
  const values = backend.makeTensorInfo(shape, 'float32', floats.slice(begin, begin + count));
  const indices = backend.makeTensorInfo(shape, 'int32', ints.slice(begin + count, begin + 2 * count));
  backend.disposeIntermediateTensorInfo(both);
  return [values, indices];
};

/** tfjs' Softmax: over the last axis of float32 here, anything else as before. */
const tfSoftmax: tf.KernelFunc = params => {
  const backend = params.backend as SimdBackend;
  const {logits} = params.inputs as {logits: tf.TensorInfo};
  const {dim} = params.attrs as unknown as {dim: number};
  const last = dim === -1 || dim === logits.shape.length - 1;
  if (logits.dtype !== 'float32' || !last || tf.util.sizeFromShape(logits.shape) === 0) {
    return tf.getKernel('Softmax', 'cpu')!.kernelFunc(params);
  }
  const call = backend.call({logits}, {shape: logits.shape});
  return call.run(softmax({x: call.at('logits'), y: call.y, ...rowsOf(logits)}));
};

const gemma3SoftmaxSums = kernel<{temperature: number}>((backend, {x}, {temperature}) => {
  const call = backend.call({x: x!}, {shape: [x!.shape[0]!, 2]});
  return call.run(softmaxSums({x: call.at('x'), ...rowsOf(x!), target: call.y, temperature}));
});

const gemma3Draw = kernel<{temperature: number; uniforms: readonly number[]}>((backend, {x}, attrs) => {
  const {temperature, uniforms} = attrs;
  const call = backend.call({x: x!}, {shape: [x!.shape[0]!], dtype: 'int32', room: 8 * uniforms.length});
  // Random numbers have more bits than float32.
  new Float64Array(call.words.floats.buffer, call.room, uniforms.length).set(uniforms);
  const places = {x: call.at('x'), target: call.y, uniforms: call.room};
  return call.run(draw({...places, ...rowsOf(x!), temperature}));
});

/** By kernel name. */
export const samplingKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3TopK: gemma3TopK,
  Gemma3SoftmaxSums: gemma3SoftmaxSums,
  Gemma3Draw: gemma3Draw,
  TopK: tfTopK,
  Softmax: tfSoftmax,
};
