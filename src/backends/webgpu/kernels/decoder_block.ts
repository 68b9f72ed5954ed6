/**
 * `Gemma3DecoderBlock`: one token per row through a whole decoder block, in five programs and one at the end of all blocks,
 * and one more where a head sees so many keys that several workgroups share them. See `ops/fused_block.ts`.
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type BlockAttrs, type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {type Operand, type Runner, type WebGpuBackend} from '../webgpu_backend';
import {attentionStep, mergeParts} from '../wgsl/attention_step';
import {gatedGelu} from '../wgsl/elementwise';
import {joinedMemory, MAT_VEC_ROWS, matVec, type MatVecVariant} from '../wgsl/mat_vec';
import {residual, rmsNorm} from '../wgsl/norms';
import {blocksOf} from '../wgsl/weights';
import {checkWidth} from './attention';
import {kernel} from './kernel';
import {isWhole, type Matrix, matVecVariant, matVecWorkgroups, multiply} from './products';
import {Scratch} from './scratch';

type Required = 'x' | 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';

/** Number of keys that one workgroup attends to, and maximum number of workgroups for a head. */
const KEYS_AT_ONCE = 512;
const MOST_PARTS = 64;

/**
 * How many workgroups share the keys of a head, given the number of keys that it can see with the current cache size.
 */
const partsOfKeys = (capacity: number, window: number | null): number =>
  Math.min(MOST_PARTS, Math.ceil(Math.min(capacity, window ?? capacity) / KEYS_AT_ONCE));

/** Products with at least this many rows use workgroups of 256 invocations, since there are enough of them. */
const WIDE_ROWS = 4096;

/** Hidden states in a part of a tensor that begins at index `first`, and a branch that has yet to be added to them. */
export interface Stream {
  readonly x: TensorInfo;
  readonly first: number;
  readonly branch?: TensorInfo;
  /** The scale of the norm of the branch. */
  readonly post?: TensorInfo;
}

/** Hidden states (rows, columns) as a stream without a branch. */
export const streamOf = (x: TensorInfo): Stream => ({x, first: 0});

/** Frees the tensors of a stream that is no longer read. */
export function disposeStream(backend: Runner, {x, branch}: Stream): void {
  for (const one of [x, ...(branch ? [branch] : [])]) backend.disposeData(one.dataId);
}

/** Of the hidden states. */
interface Size {
  readonly rows: number;
  readonly columns: number;
  readonly epsilon: number;
}

/** The target of hidden states: a tensor, from an index on. */
interface Place {
  readonly y: TensorInfo;
  readonly first: number;
}

/** Adds the branch of a stream, (rows, columns) → a place; and, if wanted, normed → `next`. */
function settle(
  backend: Runner,
  stream: Stream & {readonly branch: TensorInfo},
  {y, first}: Place,
  {rows, columns, epsilon}: Size,
  next?: {scale: TensorInfo; y: TensorInfo},
): void {
  const {x, branch, post} = stream;
  backend.run(residual({post: !!post, pre: !!next}), {
    tensors: [x, branch, ...(post ? [post] : []), ...(next ? [next.scale] : []), y, ...(next ? [next.y] : [])],
    numbers: {rows, columns, epsilon, xFirst: stream.first, yFirst: first},
    groups: rows,
  });
}

/** A stream without its branch, which was added at a place, and its hidden states normed: a new tensor. */
export function normedOf(
  backend: Runner,
  stream: Stream,
  place: Place,
  size: Size,
  scale: TensorInfo,
): Stream & {normed: TensorInfo} {
  const {rows, columns, epsilon} = size;
  const normed = backend.empty([rows, columns]);
  const {x, first, branch} = stream;
  if (branch) {
    settle(backend, {...stream, branch}, place, size, {scale, y: normed});
    return {x: place.y, first: place.first, normed};
  }
  backend.run(rmsNorm, {tensors: [x, scale, normed], numbers: {rows, columns, epsilon}, groups: rows});
  return {x, first, normed};
}

/** The variant of a product that adds the branch of a stream; undefined if its workgroups have no memory for that. */
function joinedVariant(
  {device}: Runner,
  variant: MatVecVariant,
  {columns, post, rows}: {columns: number; post: boolean; rows: number},
): MatVecVariant | undefined {
  if (!variant.whole) return undefined;
  const most = device.limits.maxComputeWorkgroupStorageSize;
  const sizes = rows >= WIDE_ROWS ? ([256, 64] as const) : ([64] as const);
  const size = sizes.find(one => joinedMemory(variant.width, columns, one) <= most);
  return size && {...variant, size, joined: {columns, post}};
}

/**
 * Kernels of the same normed hidden states, side by side; or the gates and their values, as gelu(gates) · values. y has
 * room behind the results, where the hidden states are afterwards if the stream had a branch.
 *
 * @returns the stream without its branch
 */
function project(
  backend: Runner,
  stream: Stream,
  matrices: readonly Matrix[],
  y: TensorInfo,
  {scale, size, gated = false}: {scale: TensorInfo; size: Size; gated?: boolean},
): Stream {
  const {rows: count, columns, epsilon} = size;
  const formats = matrices.map(({format}) => format);
  const used = gated ? matrices.slice(0, 1) : matrices;
  const width = used.reduce((sum, {rows}) => sum + rows, 0);
  const plain = {...matVecVariant(backend, formats, count, columns), gated};
  const own = Object.fromEntries(
    matrices.flatMap(({rows, inner}, i) => [
      [`w${i}Rows`, rows],
      [`w${i}Inner`, inner],
    ]),
  );
  const run = (variant: MatVecVariant, inputs: readonly TensorInfo[], more: Record<string, number> = {}) =>
    backend.run(matVec(variant), {
      tensors: [...inputs, ...matrices.map(({tensor}) => tensor), y],
      numbers: {rows: width, columns, blocks: blocksOf(columns), count, first: 0, epsilon, ...own, ...more},
      groups: used.reduce((sum, {rows}) => sum + matVecWorkgroups(rows, variant), 0),
    });
  const {x, first, branch, post} = stream;
  if (!branch) {
    run({...plain, normed: true}, [x, scale]);
    return stream;
  }
  const place = {y, first: count * width};
  // Vectors of four are read.
  const aligned = first % 4 === 0 && place.first % 4 === 0;
  const variant = aligned && joinedVariant(backend, plain, {columns, post: !!post, rows: width});
  if (variant) {
    run(variant, [x, branch, ...(post ? [post] : []), scale], {xFirst: first / 4, yFirst: place.first});
    return {x: y, first: place.first};
  }
  const {normed, ...settled} = normedOf(backend, stream, place, size, scale);
  run(plain, [normed]);
  backend.disposeData(normed.dataId);
  return settled;
}

/** Positions, cosines and sines of the last tokens, by the array of cosines, which all blocks of a kind share. */
const tables = new WeakMap<WebGpuBackend, {cos: Float32Array; positions: string; tensor: TensorInfo}[]>();
const MOST_TABLES = 4;

function angleTable(backend: WebGpuBackend, {positions, cos, sin}: FusedBlockAttrs): TensorInfo {
  let known = tables.get(backend);
  if (!known) tables.set(backend, (known = []));
  const key = positions.join();
  const found = known.find(one => one.cos === cos && one.positions === key);
  if (found) return found.tensor;
  const values = new Float32Array(positions.length + 2 * cos.length);
  values.set(positions);
  values.set(cos, positions.length);
  values.set(sin, positions.length + cos.length);
  const tensor = backend.makeTensorInfo([values.length], 'float32', values);
  if (known.length === MOST_TABLES) backend.disposeData(known.shift()!.tensor.dataId);
  known.push({cos, positions: key, tensor});
  return tensor;
}

/** Features of a head, from cached keys: those of bfloat16 are pairs in words. */
export const headWidth = ({shape, dtype}: TensorInfo): number => shape[3]! * (dtype === 'int32' ? 2 : 1);

/** The tensors of a block by name. */
export type BlockInputs = Record<Exclude<Required, 'x'>, TensorInfo> & Partial<Record<Norms, TensorInfo>>;

/**
 * One token per row through a block. `angles` has the position of each row, then cosines and sines for `tables` rows.
 *
 * @param stream (rows, D), which belongs to the caller
 * @returns a new stream, of tensors that belong to the caller
 */
export function runBlock(
  backend: Runner,
  stream: Stream,
  inputs: BlockInputs,
  attrs: BlockAttrs,
  size: Size,
  {angles, tables}: {angles: Operand; tables: number},
): Stream & {branch: TensorInfo} {
  const {keys, values} = inputs;
  const [, capacity, keyHeads] = keys.shape as [number, number, number];
  const width = headWidth(keys);
  const {numQueryHeads: queryHeads, gateDim} = attrs;
  const {rows: batch, columns: hiddenDim, epsilon} = size;
  checkWidth(width);
  const dense = (name: DenseName, rows: number, columns: number): Matrix => {
    const {packing, inner} = attrs.forms[name];
    return {tensor: inputs[name], format: packing?.format ?? 'float32', rows, columns, inner};
  };
  const queries = queryHeads * width;
  const keyWidth = keyHeads * width;
  const qkv = [
    dense('query', queries, hiddenDim),
    dense('key', keyWidth, hiddenDim),
    dense('value', keyWidth, hiddenDim),
  ];
  const output = dense('output', hiddenDim, queries);
  const gates = [dense('gate', gateDim, hiddenDim), dense('up', gateDim, hiddenDim)];
  const down = dense('down', hiddenDim, gateDim);
  // Otherwise products take parts of a kernel, or tiles of rows.
  const fits = batch <= MAT_VEC_ROWS && [...qkv, ...gates].every(matrix => isWhole(backend, matrix));

  const scratch = new Scratch(backend);
  const qkvWidth = queries + 2 * keyWidth;
  const projected = scratch.empty([batch * qkvWidth + batch * hiddenDim]);
  let before: Stream;
  if (fits) {
    before = project(backend, stream, qkv, projected, {scale: inputs.preAttention, size});
  } else {
    const place = {y: projected, first: batch * qkvWidth};
    const {normed, ...settled} = normedOf(backend, stream, place, size, inputs.preAttention);
    scratch.add(normed);
    before = settled;
    let first = 0;
    for (const matrix of qkv) {
      multiply(backend, normed, matrix, {y: projected, first, width: qkvWidth});
      first += matrix.rows;
    }
  }

  const attended = scratch.empty([batch, queries]);
  const normed = inputs.queryNorm !== undefined && inputs.keyNorm !== undefined;
  const scales = normed ? [inputs.queryNorm!, inputs.keyNorm!] : [];
  const parts = partsOfKeys(capacity, attrs.window);
  const split = parts > 1;
  const found = split ? scratch.empty([batch, queryHeads, parts, width + 2]) : attended;
  backend.run(attentionStep({normed, split, halves: keys.dtype === 'int32'}), {
    tensors: [projected, angles, ...scales, keys, values, found],
    numbers: {
      batch,
      length: 1,
      keys: capacity,
      queryHeads,
      keyHeads,
      width,
      scale: attrs.scale,
      cap: attrs.logitSoftCap ?? 0,
      window: attrs.window ?? 2 ** 30,
      tables,
      parts,
      epsilon,
    },
    groups: batch * queryHeads * parts,
  });
  if (split) {
    const heads = batch * queryHeads;
    backend.run(mergeParts, {tensors: [found, attended], numbers: {heads, parts, width}, groups: heads});
  }
  backend.changed(keys);
  backend.changed(values);

  const attention = scratch.add(multiply(backend, attended, output));
  const {postAttention: post, preFfw: scale} = inputs;
  const after: Stream = {...before, branch: attention, ...(post && {post})};
  // The hidden states are behind it, for the next block.
  const hidden = backend.empty([batch * gateDim + batch * hiddenDim]);
  let last: Stream;
  if (fits) {
    last = project(backend, after, gates, hidden, {scale, size, gated: true});
  } else {
    const {normed, ...settled} = normedOf(backend, after, {y: hidden, first: batch * gateDim}, size, scale);
    scratch.add(normed);
    last = settled;
    const [gate, up] = gates.map(matrix => scratch.add(multiply(backend, normed, matrix))) as [TensorInfo, TensorInfo];
    const count = batch * gateDim;
    backend.run(gatedGelu, {tensors: [gate, up, hidden], numbers: {count}, groups: Math.ceil(count / 64)});
  }
  const branch = multiply(backend, {...hidden, shape: [batch, gateDim]}, down);
  scratch.dispose();
  return {...last, branch, ...(inputs.postFfw && {post: inputs.postFfw})};
}

const decoderBlockKernel = kernel<Required, FusedBlockAttrs, Norms>((backend, {x, ...inputs}, attrs) => {
  const [rows, , columns] = x.shape as [number, number, number];
  const tables = attrs.cos.length / (headWidth(inputs.keys) / 2);
  const size = {rows, columns, epsilon: attrs.epsilon};
  const stream = runBlock(backend, streamOf(x), inputs, attrs, size, {angles: angleTable(backend, attrs), tables});
  const y = backend.empty(x.shape);
  settle(backend, stream, {y, first: 0}, size);
  disposeStream(backend, stream);
  return y;
});

export const decoderBlockKernels: KernelMap = {Gemma3DecoderBlock: decoderBlockKernel};
