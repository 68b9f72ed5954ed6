/**
 * `Gemma3DecoderBlock`: one token per row through a whole decoder block, in seven programs, and one more where a head sees
 * so many keys that several workgroups share them. See `ops/fused_block.ts`.
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {sizeOf} from '../../../base/shapes';
import {type BlockAttrs, type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {type Operand, type Runner, type WebGpuBackend} from '../webgpu_backend';
import {attentionStep, mergeParts} from '../wgsl/attention_step';
import {gatedGelu} from '../wgsl/elementwise';
import {MAT_VEC_ROWS, matVec} from '../wgsl/mat_vec';
import {residual, rmsNorm} from '../wgsl/norms';
import {blocksOf} from '../wgsl/weights';
import {checkWidth} from './attention';
import {kernel} from './kernel';
import {isWhole, type Matrix, matVecVariant, matVecWorkgroups, multiply} from './products';
import {Scratch} from './scratch';

type Required = 'x' | 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';

/** Keys that one workgroup attends over; and the most workgroups for a head. */
const KEYS_AT_ONCE = 512;
const MOST_PARTS = 64;

/** How many workgroups share the keys of a head, by the keys that it can see as long as the cache has this size. */
const partsOfKeys = (capacity: number, window: number | null): number =>
  Math.min(MOST_PARTS, Math.ceil(Math.min(capacity, window ?? capacity) / KEYS_AT_ONCE));

/** Kernels of the same x, side by side in y; or the gates and their values, as gelu(gates) · values. */
function project(
  backend: Runner,
  x: TensorInfo,
  matrices: readonly Matrix[],
  y: TensorInfo,
  {norm, epsilon = 0, gated = false}: {norm?: TensorInfo; epsilon?: number; gated?: boolean},
): void {
  const {columns} = matrices[0]!;
  const count = sizeOf(x.shape) / columns;
  const variant = {
    ...matVecVariant(
      backend,
      matrices.map(({format}) => format),
      count,
      columns,
    ),
    normed: norm !== undefined,
    gated,
  };
  const own = Object.fromEntries(
    matrices.flatMap(({rows, inner}, i) => [
      [`w${i}Rows`, rows],
      [`w${i}Inner`, inner],
    ]),
  );
  const numbers = {rows: y.shape[1]!, columns, blocks: blocksOf(columns), count, first: 0, epsilon, ...own};
  const used = gated ? matrices.slice(0, 1) : matrices;
  const groups = used.reduce((sum, {rows}) => sum + matVecWorkgroups(rows, variant), 0);
  const tensors = [x, ...(norm ? [norm] : []), ...matrices.map(({tensor}) => tensor), y];
  backend.run(matVec(variant), {tensors, numbers, groups});
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

/** The tensors of a block and its x, by name. */
export type BlockInputs = Record<Required, TensorInfo> & Partial<Record<Norms, TensorInfo>>;

/**
 * One token per row through a block → y (B, 1, D). `angles` has the position of each row, then cosines and sines for
 * `tables` rows.
 */
export function runBlock(
  backend: Runner,
  inputs: BlockInputs,
  attrs: BlockAttrs,
  {angles, tables}: {angles: Operand; tables: number},
): TensorInfo {
  const {x, keys, values} = inputs;
  const [batch, , hiddenDim] = x.shape as [number, number, number];
  const [, capacity, keyHeads, width] = keys.shape as [number, number, number, number];
  const {numQueryHeads: queryHeads, gateDim, epsilon} = attrs;
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
  const rows = batch;
  const columns = hiddenDim;
  const projected = scratch.empty([batch, queries + 2 * keyWidth]);
  if (fits) {
    project(backend, x, qkv, projected, {norm: inputs.preAttention, epsilon});
  } else {
    const normed = scratch.empty([batch, hiddenDim]);
    backend.run(rmsNorm, {tensors: [x, inputs.preAttention, normed], numbers: {rows, columns, epsilon}, groups: batch});
    let first = 0;
    for (const matrix of qkv) {
      multiply(backend, normed, matrix, {y: projected, first, width: projected.shape[1]!});
      first += matrix.rows;
    }
  }

  const attended = scratch.empty([batch, queries]);
  const normed = inputs.queryNorm !== undefined && inputs.keyNorm !== undefined;
  const scales = normed ? [inputs.queryNorm!, inputs.keyNorm!] : [];
  const parts = partsOfKeys(capacity, attrs.window);
  const split = parts > 1;
  const found = split ? scratch.empty([batch, queryHeads, parts, width + 2]) : attended;
  backend.run(attentionStep({normed, split}), {
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

  const afterAttention = scratch.empty([batch, hiddenDim]);
  const forGates = scratch.empty([batch, hiddenDim]);
  const joins = (branch: TensorInfo, from: TensorInfo, to: TensorInfo, post?: TensorInfo, pre?: TensorInfo) =>
    backend.run(residual({post: !!post, pre: !!pre}), {
      tensors: [from, branch, ...(post ? [post] : []), ...(pre ? [pre] : []), to, ...(pre ? [forGates] : [])],
      numbers: {rows, columns, epsilon},
      groups: batch,
    });
  joins(scratch.add(multiply(backend, attended, output)), x, afterAttention, inputs.postAttention, inputs.preFfw);

  const hidden = scratch.empty([batch, gateDim]);
  if (fits) {
    project(backend, forGates, gates, hidden, {gated: true});
  } else {
    const [gate, up] = gates.map(matrix => scratch.add(multiply(backend, forGates, matrix))) as [
      TensorInfo,
      TensorInfo,
    ];
    const count = batch * gateDim;
    backend.run(gatedGelu, {tensors: [gate, up, hidden], numbers: {count}, groups: Math.ceil(count / 64)});
  }
  const y = backend.empty([batch, 1, hiddenDim]);
  joins(scratch.add(multiply(backend, hidden, down)), afterAttention, y, inputs.postFfw);
  scratch.dispose();
  return y;
}

const decoderBlockKernel = kernel<Required, FusedBlockAttrs, Norms>((backend, inputs, attrs) =>
  runBlock(backend, inputs, attrs, {
    angles: angleTable(backend, attrs),
    tables: attrs.cos.length / (inputs.keys.shape[3]! / 2),
  }),
);

export const decoderBlockKernels: KernelMap = {Gemma3DecoderBlock: decoderBlockKernel};
