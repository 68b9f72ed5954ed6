/** What samplers need of the logits: commands, and kernels of tfjs and of ours that run them. */
import * as tf from '@tensorflow/tfjs';
import {DRAW, SCRATCH_BYTES, SOFTMAX, SOFTMAX_SUMS, TOP_K} from './assembly/numbers';
import {type Command, floatBits} from './commands';
import {type Placed, type SimdBackend} from './simd_backend';

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

/** Memory as rows of the last axis. */
function rowsOf(backend: SimdBackend, x: tf.TensorInfo): Rows {
  const columns = x.shape.at(-1)!;
  return {x: backend.locate(x), rows: tf.util.sizeFromShape(x.shape) / columns, columns};
}

const info = ({dataId, shape, dtype}: Placed): tf.TensorInfo => ({dataId, shape, dtype});

const gemma3TopK: tf.KernelFunc = call => {
  const backend = call.backend as SimdBackend;
  const {x} = call.inputs as {x: tf.TensorInfo};
  const {k} = call.attrs as unknown as {k: number};
  if (k > MAX_K) return tf.getKernel('Gemma3TopK', 'cpu')!.kernelFunc(call);
  const y = backend.empty([x.shape[0]!, 2, k]);
  const places = {values: y.offset, indices: y.offset + 4 * k, step: 8 * k};
  backend.engine.run(...topK({...rowsOf(backend, x), k, ...places, indicesAsFloats: true}));
  return info(y);
};

/** tfjs' TopK: values and indices over the last axis of float32 here, anything else as before. */
const tfTopK: tf.KernelFunc = call => {
  const backend = call.backend as SimdBackend;
  const {x} = call.inputs as {x: tf.TensorInfo};
  const {k} = call.attrs as unknown as {k: number};
  if (x.dtype !== 'float32' || k === 0 || k > MAX_K) return tf.getKernel('TopK', 'cpu')!.kernelFunc(call);
  const shape = [...x.shape.slice(0, -1), k];
  const [values, indices] = [backend.empty(shape), backend.empty(shape, 'int32')];
  backend.engine.run(...topK({...rowsOf(backend, x), k, values: values.offset, indices: indices.offset, step: 4 * k}));
  return [info(values), info(indices)];
};

/** tfjs' Softmax: over the last axis of float32 here, anything else as before. */
const tfSoftmax: tf.KernelFunc = call => {
  const backend = call.backend as SimdBackend;
  const {logits} = call.inputs as {logits: tf.TensorInfo};
  const {dim} = call.attrs as unknown as {dim: number};
  const last = dim === -1 || dim === logits.shape.length - 1;
  if (logits.dtype !== 'float32' || !last || tf.util.sizeFromShape(logits.shape) === 0) {
    return tf.getKernel('Softmax', 'cpu')!.kernelFunc(call);
  }
  const y = backend.empty(logits.shape);
  backend.engine.run(...softmax({...rowsOf(backend, logits), y: y.offset}));
  return info(y);
};

const gemma3SoftmaxSums: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const {x} = inputs as {x: tf.TensorInfo};
  const {temperature} = attrs as unknown as {temperature: number};
  const y = backend.empty([x.shape[0]!, 2]);
  backend.engine.run(...softmaxSums({...rowsOf(backend, x), target: y.offset, temperature}));
  return info(y);
};

const gemma3Draw: tf.KernelFunc = ({inputs, backend: kernelBackend, attrs}) => {
  const backend = kernelBackend as SimdBackend;
  const {x} = inputs as {x: tf.TensorInfo};
  const {temperature, uniforms} = attrs as unknown as {temperature: number; uniforms: readonly number[]};
  const y = backend.empty([x.shape[0]!], 'int32');
  const rows = rowsOf(backend, x);
  const place = backend.borrow(8 * uniforms.length);
  // Random numbers have more bits than float32.
  place.view().set(new Uint8Array(Float64Array.from(uniforms).buffer));
  backend.engine.run(...draw({...rows, target: y.offset, temperature, uniforms: place.offset}));
  place.release();
  return info(y);
};

/** By kernel name. */
export const samplingKernels: Readonly<Record<string, tf.KernelFunc>> = {
  Gemma3TopK: gemma3TopK,
  Gemma3SoftmaxSums: gemma3SoftmaxSums,
  Gemma3Draw: gemma3Draw,
  TopK: tfTopK,
  Softmax: tfSoftmax,
};
