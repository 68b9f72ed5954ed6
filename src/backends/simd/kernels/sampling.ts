/** Kernels for samplers: arg max, top k, softmax and its sums, and drawing. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {softmaxScale} from '../../../ops/sampling';
import {type KernelMap} from '../../kernel_map';
import {ArgMaxWord, DrawWord, SoftmaxSumsWord, SoftmaxWord, TOP_K_HEADER, TopKWord} from '../assembly/layouts/sampling';
import {ARG_MAX, DRAW, SCRATCH_BYTES, SOFTMAX, SOFTMAX_SUMS, TOP_K} from '../assembly/numbers';
import {type Command, floatBits} from '../engine/command';
import {kernel, kernelWithFallback, rowsOf} from './kernel';

// === Commands ===

interface Rows {
  /** (rows, columns) */
  x: number;
  rows: number;
  columns: number;
}

/**
 * Index of the largest value of each row, the first of equals: x (rows, columns) → target, int32 (rows). If `strict`,
 * −1 for a row that has a NaN or no value above −Infinity.
 */
export function argMax(a: Rows & {target: number; strict?: boolean}): Command {
  const words = new Array<number>(ArgMaxWord.end);
  words[ArgMaxWord.x] = a.x;
  words[ArgMaxWord.rows] = a.rows;
  words[ArgMaxWord.columns] = a.columns;
  words[ArgMaxWord.target] = a.target;
  words[ArgMaxWord.strict] = Number(a.strict ?? false);
  return [ARG_MAX, words];
}

/** Maximum number of candidates in a thread's scratch memory: 8 bytes each, after a header. */
export const MAX_K = (SCRATCH_BYTES - TOP_K_HEADER) / 8;

export interface TopKArgs extends Rows {
  /** At most `columns` and `MAX_K`. */
  k: number;
  /** (rows, k); rows are `step` bytes apart. */
  values: number;
  /** Laid out like `values`; int32, or float32 if `indicesAsFloats`. */
  indices: number;
  step: number;
  indicesAsFloats?: boolean;
}

/** The k largest values of each row in descending order; equal values are in the order of their indices. */
export function topK(a: TopKArgs): Command {
  const words = new Array<number>(TopKWord.end);
  words[TopKWord.x] = a.x;
  words[TopKWord.rows] = a.rows;
  words[TopKWord.columns] = a.columns;
  words[TopKWord.k] = a.k;
  words[TopKWord.values] = a.values;
  words[TopKWord.indices] = a.indices;
  words[TopKWord.step] = a.step;
  words[TopKWord.indicesAsFloats] = Number(a.indicesAsFloats ?? false);
  return [TOP_K, words];
}

/** y = softmax of each row */
export function softmax(a: Rows & {y: number}): Command {
  const words = new Array<number>(SoftmaxWord.end);
  words[SoftmaxWord.x] = a.x;
  words[SoftmaxWord.y] = a.y;
  words[SoftmaxWord.rows] = a.rows;
  words[SoftmaxWord.columns] = a.columns;
  return [SOFTMAX, words];
}

/** Largest value m of each row, or NaN, and Σ exp((x − m) / temperature) → target (rows, 2). */
export function softmaxSums(a: Rows & {target: number; temperature: number}): Command {
  const words = new Array<number>(SoftmaxSumsWord.end);
  words[SoftmaxSumsWord.x] = a.x;
  words[SoftmaxSumsWord.rows] = a.rows;
  words[SoftmaxSumsWord.columns] = a.columns;
  words[SoftmaxSumsWord.target] = a.target;
  const scale = softmaxScale(a.temperature);
  words[SoftmaxSumsWord.scale] = floatBits(scale);
  words[SoftmaxSumsWord.temperature] = floatBits(a.temperature * scale);
  return [SOFTMAX_SUMS, words];
}

export interface DrawArgs extends Rows {
  /** int32 (rows) */
  target: number;
  temperature: number;
  /** float64 (rows) in [0, 1) */
  uniforms: number;
}

/**
 * Finds the first column of each row at which the cumulative softmax exceeds the row's uniform number; −1 for a row that
 * has a NaN or no value above −Infinity.
 */
export function draw(a: DrawArgs): Command {
  const words = new Array<number>(DrawWord.end);
  words[DrawWord.x] = a.x;
  words[DrawWord.rows] = a.rows;
  words[DrawWord.columns] = a.columns;
  words[DrawWord.target] = a.target;
  const scale = softmaxScale(a.temperature);
  words[DrawWord.scale] = floatBits(scale);
  words[DrawWord.temperature] = floatBits(a.temperature * scale);
  words[DrawWord.uniforms] = a.uniforms;
  return [DRAW, words];
}

// === Kernels ===

const isLastAxis = (axis: number, {shape}: TensorInfo) => axis === -1 || axis === shape.length - 1;

/** Runs here over the last axis of float32. */
const argMaxKernel = kernelWithFallback<'x', {axis: number | number[]}>('ArgMax', (backend, {x}, attrs) => {
  const axes = [attrs.axis].flat();
  if (x.dtype !== 'float32' || axes.length !== 1 || !isLastAxis(axes[0]!, x)) return undefined;
  const shape = x.shape.slice(0, -1);
  const call = backend.call({x}, {shape, dtype: 'int32'});
  return call.run(argMax({x: call.at('x'), rows: sizeOf(shape), columns: x.shape.at(-1)!, target: call.y}));
});

const bestColumnKernel = kernel<'x'>((backend, {x}) => {
  const call = backend.call({x}, {shape: [x.shape[0]!], dtype: 'int32'});
  return call.run(argMax({x: call.at('x'), ...rowsOf(x), target: call.y, strict: true}));
});

const topKAsFloatsKernel = kernelWithFallback<'x', {k: number}>('Gemma3TopK', (backend, {x}, {k}) => {
  if (k > MAX_K) return undefined;
  const call = backend.call({x}, {shape: [x.shape[0]!, 2, k]});
  const places = {x: call.at('x'), values: call.y, indices: call.y + 4 * k, step: 8 * k};
  return call.run(topK({...places, ...rowsOf(x), k, indicesAsFloats: true}));
});

/** Replaces tfjs' own `topk`, which returns values and indices. Runs here over the last axis of float32. */
const topKKernel = kernelWithFallback<'x', {k: number}>('TopK', (backend, {x}, {k}) => {
  if (x.dtype !== 'float32' || k === 0 || k > MAX_K) return undefined;
  const shape = [...x.shape.slice(0, -1), k];
  const count = sizeOf(shape);
  // The result of the call holds all values and then all indices; they become two tensors.
  const call = backend.call({x}, {shape: [2, count]});
  const places = {x: call.at('x'), values: call.y, indices: call.y + 4 * count, step: 4 * k};
  const both = call.run(topK({...places, ...rowsOf(x), k}));
  const {floats, ints} = call.words;
  const begin = call.y / 4;
  const values = backend.makeTensorInfo(shape, 'float32', floats.slice(begin, begin + count));
  const indices = backend.makeTensorInfo(shape, 'int32', ints.slice(begin + count, begin + 2 * count));
  backend.disposeIntermediateTensorInfo(both);
  return [values, indices];
});

/** Runs here over the last axis of float32. */
const softmaxKernel = kernelWithFallback<'logits', {dim: number}>('Softmax', (backend, {logits}, {dim}) => {
  if (logits.dtype !== 'float32' || !isLastAxis(dim, logits) || sizeOf(logits.shape) === 0) return undefined;
  const call = backend.call({logits}, {shape: logits.shape});
  return call.run(softmax({x: call.at('logits'), y: call.y, ...rowsOf(logits)}));
});

const softmaxSumsKernel = kernel<'x', {temperature: number}>((backend, inputs, {temperature}) => {
  const {x} = inputs;
  const call = backend.call(inputs, {shape: [x.shape[0]!, 2]});
  return call.run(softmaxSums({x: call.at('x'), ...rowsOf(x), target: call.y, temperature}));
});

const drawKernel = kernel<'x', {temperature: number; uniforms: readonly number[]}>((backend, inputs, attrs) => {
  const {x} = inputs;
  const {temperature, uniforms} = attrs;
  const call = backend.call(inputs, {shape: [x.shape[0]!], dtype: 'int32', workspaceBytes: 8 * uniforms.length});
  // Uniform numbers need more bits than float32 has.
  new Float64Array(call.words.floats.buffer, call.workspace, uniforms.length).set(uniforms);
  const places = {x: call.at('x'), target: call.y, uniforms: call.workspace};
  return call.run(draw({...places, ...rowsOf(x), temperature}));
});

export const samplingKernels: KernelMap = {
  ArgMax: argMaxKernel,
  Gemma3BestColumn: bestColumnKernel,
  Gemma3TopK: topKAsFloatsKernel,
  TopK: topKKernel,
  Softmax: softmaxKernel,
  Gemma3SoftmaxSums: softmaxSumsKernel,
  Gemma3Draw: drawKernel,
};
