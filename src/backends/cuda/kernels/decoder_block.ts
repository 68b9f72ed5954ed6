/**
 * `Gemma3DecoderBlock`: one token per row through a whole decoder block, without a tensor of tfjs in between. See
 * `ops/fused_block.ts`. A row of the residual stream is a row of a matrix, (B, D).
 *
 * What has a single row or head is a matrix wherever it can be: `MatMul` takes a third less time than `BatchMatMulV2`, and
 * `Einsum` and `FusedBatchNormV3` take several times as long as the operations that they stand for.
 */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type BlockAttrs, type DenseName, type FusedBlockAttrs} from '../../../ops/fused_block';
import {type KernelMap} from '../../kernel_map';
import {BFLOAT16, type Device, FLOAT, INT8, type Program} from '../device';
import {writeRows} from './cache_update';
import {gainOf, gatedRows} from './layers';
import {matrixOf, multiplyPacked} from './matrices';
import {multiply} from './products';
import {type StepTables, tablesOf} from './step_tables';

type Required = 'keys' | 'values' | 'preAttention' | 'preFfw' | DenseName;
type Norms = 'postAttention' | 'postFfw' | 'queryNorm' | 'keyNorm';
/** The tensors of a block. */
export type BlockInputs = Record<Required, TensorInfo> & Partial<Record<Norms, TensorInfo>>;

/** Rows (B, D), normalized. */
export function norm(p: Program, x: number, batch: number, scale: TensorInfo, epsilon: number): number {
  // Of a single row the product with itself is the sum of squares.
  const squares = batch === 1 ? p.matMul(x, x, false, true) : p.sum(p.square(x), 1); // (B, 1)
  const inverse = p.rsqrt(p.plus(squares, scale.shape[0]! * epsilon));
  return p.mul(p.mul(x, inverse), gainOf(p.device, scale));
}

/** x (B, columns) through a dense kernel of the block → (B, rows) */
function dense(p: Program, inputs: BlockInputs, attrs: BlockAttrs, name: DenseName, x: number, batch: number): number {
  const kernel = inputs[name];
  const {packing, inner} = attrs.forms[name];
  if (packing) return multiplyPacked(p, x, kernel);
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
function headGains(device: Device, inputs: BlockInputs, attrs: BlockAttrs, keyHeads: number, width: number): number {
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

/** Queries and keys (B, (N + K) · H), in one product if their weights can be joined. */
function queriesAndKeys(p: Program, x: number, inputs: BlockInputs, attrs: BlockAttrs, batch: number): number {
  const {query, key} = inputs;
  const types = [query, key].map(kernel => (attrs.forms.query.packing ? matrixOf(p.device, kernel).type : FLOAT));
  const [type] = types as [number];
  const same = (attrs.forms.query.packing === null) === (attrs.forms.key.packing === null) && types[1] === type;
  if (!same || type === INT8) {
    return p.concat(dense(p, inputs, attrs, 'query', x, batch), dense(p, inputs, attrs, 'key', x, batch), 1);
  }
  const joined = p.device.joined(query, key, type);
  if (attrs.forms.query.packing) return p.matMul(x, type === BFLOAT16 ? p.widen(joined) : joined, false, true);
  const [heads, columns, width] = query.shape as [number, number, number];
  return multiply(p, x, batch, joined, [heads + key.shape[0]!, columns, width]);
}

/**
 * Queries and keys, normalized, scaled and rotated: (B, N, H) and (B, K, H), of one row (N, H) and (K, H).
 */
function headsOf(
  p: Program,
  joined: number,
  inputs: BlockInputs,
  attrs: BlockAttrs,
  tables: StepTables,
  batch: number,
) {
  const [, , keyHeads, width] = inputs.keys.shape as [number, number, number, number];
  const count = attrs.numQueryHeads + keyHeads;
  const axis = batch === 1 ? 0 : 1;
  const gains = headGains(p.device, inputs, attrs, keyHeads, width);
  let heads = p.reshape(joined, [...(batch === 1 ? [] : [batch]), count, width]);
  if (inputs.queryNorm) {
    const squares = p.sum(p.square(heads), axis + 1); // (B, N + K, 1)
    heads = p.mul(heads, p.rsqrt(p.plus(squares, width * attrs.epsilon)));
  }
  const scaled = p.mul(heads, gains);
  const rotated = batch === 1 ? p.matMul(scaled, tables.rotation) : p.batchMatMul(scaled, tables.rotation);
  return p.split(rotated, [attrs.numQueryHeads, keyHeads], axis) as [number, number];
}

/** Keys or values of the cache, (B, C, K, H), by head: of one head (B, C, H), of one row too (C, H), else (B, K, C, H). */
function byHead(p: Program, cache: TensorInfo): number {
  const [batch, capacity, keyHeads, width] = cache.shape as [number, number, number, number];
  if (keyHeads > 1) return p.transpose(p.of(cache), [0, 2, 1, 3]);
  const shape = batch === 1 ? [capacity, width] : [batch, capacity, width];
  return p.device.attached(cache, 'head', own => own.reshape(own.of(cache), shape));
}

/** The cache as rows, in the same memory. */
const rowsOf = (device: Device, cache: TensorInfo, shape: readonly number[]): number =>
  device.attached(cache, 'rows', own => own.reshape(own.of(cache), [-1, ...shape]));

/** What queries (B, N, H), or (N, H), see → (B, N · H). */
function attend(p: Program, queries: number, inputs: BlockInputs, attrs: BlockAttrs, tables: StepTables): number {
  const [batch, , keyHeads, width] = inputs.keys.shape as [number, number, number, number];
  const heads = attrs.numQueryHeads;
  const one = keyHeads === 1 && batch === 1;
  const product = (a: number, b: number, transpose: boolean) =>
    one ? p.matMul(a, b, false, transpose) : p.batchMatMul(a, b, false, transpose);
  const grouped = keyHeads === 1 ? queries : p.reshape(queries, [batch, keyHeads, heads / keyHeads, width]);
  let logits = product(grouped, byHead(p, inputs.keys), true);
  const cap = attrs.logitSoftCap;
  if (cap !== null) logits = p.scale(p.tanh(p.scale(logits, 1 / cap)), cap);
  // (B, 1, C), of one row (1, C).
  const hidden = keyHeads === 1 || batch === 1 ? tables.hidden : p.reshape(tables.hidden, [batch, 1, 1, -1]);
  const probabilities = p.softmax(p.add(logits, hidden));
  return p.reshape(product(probabilities, byHead(p, inputs.values), false), [batch, heads * width]);
}

/** Of rows (B, …), those that have a new token. */
function active(p: Program, rows: number, positions: readonly number[]): number {
  if (positions.every(position => position >= 0)) return rows;
  const found = positions.flatMap((position, row) => (position >= 0 ? [row] : []));
  return p.gather(rows, p.list(found));
}

/** Writes the new keys and values of rows that have a token. */
function remember(p: Program, newKeys: number, newValues: number, inputs: BlockInputs, positions: readonly number[]) {
  const {keys, values} = inputs;
  const [batch, capacity, keyHeads, width] = keys.shape as [number, number, number, number];
  const places = positions.flatMap((position, row) => (position < 0 ? [] : [row * capacity + (position % capacity)]));
  if (batch === 1) {
    // (K, H): a row of each head.
    const own = Array.from({length: keyHeads}, (_, head) => places[0]! * keyHeads + head);
    writeRows(p, rowsOf(p.device, keys, [width]), own, newKeys);
  } else {
    writeRows(p, rowsOf(p.device, keys, [keyHeads, width]), places, active(p, newKeys, positions));
  }
  writeRows(p, rowsOf(p.device, values, [keyHeads * width]), places, active(p, newValues, positions));
}

/** x (B, D) → (B, D) */
export function runBlock(p: Program, x: number, inputs: BlockInputs, attrs: FusedBlockAttrs): number {
  const [batch, capacity, , width] = inputs.keys.shape as [number, number, number, number];
  const {epsilon, positions} = attrs;
  const tables = tablesOf(p, attrs, {capacity, width});
  const product = (name: DenseName, input: number) => dense(p, inputs, attrs, name, input, batch);
  const plus = (stream: number, branch: number, scale: TensorInfo | undefined) =>
    p.add(stream, scale ? norm(p, branch, batch, scale, epsilon) : branch);

  const normed = norm(p, x, batch, inputs.preAttention, epsilon);
  const joined = queriesAndKeys(p, normed, inputs, attrs, batch);
  const [queries, newKeys] = headsOf(p, joined, inputs, attrs, tables, batch);
  if (positions.some(position => position >= 0)) {
    remember(p, newKeys, product('value', normed), inputs, positions);
  }

  const attended = product('output', attend(p, queries, inputs, attrs, tables));
  const middle = plus(x, attended, inputs.postAttention);
  const forGates = norm(p, middle, batch, inputs.preFfw, epsilon);
  const inside = gatedRows(p, product('gate', forGates), product('up', forGates), [batch, attrs.gateDim]);
  return plus(middle, product('down', inside), inputs.postFfw);
}

export const decoderBlockKernels = (device: Device): KernelMap => ({
  Gemma3DecoderBlock: params => {
    const inputs = params.inputs as object as BlockInputs & {x: TensorInfo};
    const {shape} = inputs.x;
    return device.program(p => {
      const x = p.reshape(p.of(inputs.x), [shape[0]!, shape[2]!]);
      return p.take(p.reshape(runBlock(p, x, inputs, params.attrs as object as FusedBlockAttrs), shape), shape);
    });
  },
});
