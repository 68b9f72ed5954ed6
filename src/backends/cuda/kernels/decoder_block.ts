/**
 * `Gemma3DecoderBlock`: one token per row through a whole decoder block, without a tensor of tfjs in between. See
 * `ops/fused_block.ts`. A row of the residual stream is a row of a matrix, (B, D).
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type BlockAttrs, type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {type Device, type Program} from '../device';
import {writeRows} from './cache_update';
import {kernelOf} from './kernel';
import {gatedGelu} from './layers';
import {multiply} from './products';
import {type StepTables, tablesOf} from './step_tables';

type Required = 'x' | 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';
type Inputs = Record<Required, TensorInfo> & Partial<Record<Norms, TensorInfo>>;

/** The factor of a norm, with √D instead of the mean: x / √(mean(x²) + ε) = x · √D / √(Σ x² + D ε). */
const gainOf = (device: Device, scale: TensorInfo): number =>
  device.attached(scale, 'gain', p => p.scale(p.plus(p.of(scale), 1), Math.sqrt(scale.shape[0]!)));

/** Rows (B, D), normalized. */
function norm(p: Program, x: number, batch: number, scale: TensorInfo, epsilon: number): number {
  // Of a single row the product with itself is the sum of squares.
  const squares = batch === 1 ? p.matMul(x, x, false, true) : p.sum(p.square(x), 1); // (B, 1)
  const inverse = p.rsqrt(p.plus(squares, scale.shape[0]! * epsilon));
  return p.mul(p.mul(x, inverse), gainOf(p.device, scale));
}

/** x (B, columns) through a dense kernel of the block → (B, rows) */
function dense(p: Program, inputs: Inputs, attrs: BlockAttrs, name: DenseName, x: number, batch: number): number {
  const kernel = inputs[name];
  const {packing, inner} = attrs.forms[name];
  if (packing) return p.matMul(x, p.matrix(kernel), false, true);
  const {shape} = kernel;
  // (D, F), (F, D): as it is. (N, D, H): a product for each head. (N, H, D): one for all heads.
  if (shape.length === 2) return p.matMul(x, p.of(kernel));
  const [heads, second, last] = shape as [number, number, number];
  if (inner === last) {
    return name === 'output'
      ? p.matMul(x, p.reshape(p.of(kernel), [heads * second, last]))
      : multiply(p, x, batch, p.of(kernel), [heads, second, last]);
  }
  throw new Error(`internal: a kernel of shape [${shape.join()}] with ${inner} outputs.`);
}

/** Factors of queries and keys, (N + K, H): of their norms, and the scale of the queries. */
function headGains(device: Device, inputs: Inputs, attrs: BlockAttrs, keyHeads: number, width: number): number {
  const {queryNorm, keyNorm, keys} = inputs;
  const heads = attrs.numQueryHeads;
  const row = (p: Program, scale: TensorInfo | undefined, count: number, factor: number) => {
    const ones = p.values(new Float32Array(count * width).fill(factor), [count, width]);
    return scale ? p.mul(ones, gainOf(device, scale)) : ones;
  };
  const make = (p: Program) => p.concat(row(p, queryNorm, heads, attrs.scale), row(p, keyNorm, keyHeads, 1), 0);
  const other = keyNorm ? device.numberOf(keyNorm) : 'none';
  return device.attached(queryNorm ?? keys, `heads ${heads} ${keyHeads} ${attrs.scale} ${other}`, make);
}

/** Queries and keys (B, N + K, H): normalized, scaled and rotated. */
function headsOf(p: Program, joined: number, inputs: Inputs, attrs: BlockAttrs, tables: StepTables): number {
  const [, , keyHeads, width] = inputs.keys.shape as [number, number, number, number];
  const gains = headGains(p.device, inputs, attrs, keyHeads, width);
  let heads = p.reshape(joined, [-1, attrs.numQueryHeads + keyHeads, width]);
  if (inputs.queryNorm) {
    const squares = p.sum(p.square(heads), 2); // (B, N + K, 1)
    heads = p.mul(heads, p.rsqrt(p.plus(squares, width * attrs.epsilon)));
  }
  return p.batchMatMul(p.mul(heads, gains), tables.rotation);
}

/** Keys or values of the cache, (B, C, K, H), by head: (B, C, H) of one head, else (B, K, C, H). */
function byHead(p: Program, cache: TensorInfo): number {
  const [batch, capacity, keyHeads, width] = cache.shape as [number, number, number, number];
  if (keyHeads > 1) return p.transpose(p.of(cache), [0, 2, 1, 3]);
  return p.device.attached(cache, 'head', own => own.reshape(own.of(cache), [batch, capacity, width]));
}

/** The cache as rows (B · C, …), in the same memory. */
const rowsOf = (device: Device, cache: TensorInfo, shape: readonly number[]): number =>
  device.attached(cache, 'rows', own => own.reshape(own.of(cache), [-1, ...shape]));

/** What queries (B, N, H) see → (B, N · H). */
function attend(p: Program, queries: number, inputs: Inputs, attrs: BlockAttrs, tables: StepTables): number {
  const [batch, , keyHeads, width] = inputs.keys.shape as [number, number, number, number];
  const heads = attrs.numQueryHeads;
  const grouped = keyHeads === 1 ? queries : p.reshape(queries, [batch, keyHeads, heads / keyHeads, width]);
  let logits = p.batchMatMul(grouped, byHead(p, inputs.keys), false, true);
  const cap = attrs.logitSoftCap;
  if (cap !== null) logits = p.scale(p.tanh(p.scale(logits, 1 / cap)), cap);
  const hidden = keyHeads === 1 ? tables.hidden : p.reshape(tables.hidden, [batch, 1, 1, -1]);
  const probabilities = p.softmax(p.add(logits, hidden));
  return p.reshape(p.batchMatMul(probabilities, byHead(p, inputs.values)), [batch, heads * width]);
}

/** Of rows (B, …), those that have a new token. */
function active(p: Program, rows: number, positions: readonly number[]): number {
  if (positions.every(position => position >= 0)) return rows;
  const found = positions.flatMap((position, row) => (position >= 0 ? [row] : []));
  return p.gather(rows, p.list(found));
}

function runBlock(p: Program, inputs: Inputs, attrs: FusedBlockAttrs): TensorInfo {
  const {keys, values} = inputs;
  const [batch, , hiddenDim] = inputs.x.shape as [number, number, number];
  const [, capacity, keyHeads, width] = keys.shape as [number, number, number, number];
  const {epsilon, numQueryHeads, positions} = attrs;
  const tables = tablesOf(p, attrs, {capacity, width});
  const product = (name: DenseName, input: number) => dense(p, inputs, attrs, name, input, batch);
  const plus = (stream: number, branch: number, scale: TensorInfo | undefined) =>
    p.add(stream, scale ? norm(p, branch, batch, scale, epsilon) : branch);

  const x = p.reshape(p.of(inputs.x), [batch, hiddenDim]);
  const normed = norm(p, x, batch, inputs.preAttention, epsilon);
  const joined = p.concat(product('query', normed), product('key', normed), 1);
  const heads = headsOf(p, joined, inputs, attrs, tables);
  const [queries, newKeys] = p.split(heads, [numQueryHeads, keyHeads], 1) as [number, number];

  const places = positions.flatMap((position, row) => (position < 0 ? [] : [row * capacity + (position % capacity)]));
  if (places.length > 0) {
    const newValues = product('value', normed);
    writeRows(p, rowsOf(p.device, keys, [keyHeads, width]), places, active(p, newKeys, positions));
    writeRows(p, rowsOf(p.device, values, [keyHeads * width]), places, active(p, newValues, positions));
  }

  const attended = product('output', attend(p, queries, inputs, attrs, tables));
  const middle = plus(x, attended, inputs.postAttention);
  const forGates = norm(p, middle, batch, inputs.preFfw, epsilon);
  const hidden = gatedGelu(p, product('gate', forGates), product('up', forGates));
  const y = plus(middle, product('down', hidden), inputs.postFfw);
  return p.take(p.reshape(y, [batch, 1, hiddenDim]), [batch, 1, hiddenDim]);
}

export const decoderBlockKernels = (device: Device): KernelMap => ({
  Gemma3DecoderBlock: kernelOf<Required, FusedBlockAttrs, Norms>(device, runBlock),
});
