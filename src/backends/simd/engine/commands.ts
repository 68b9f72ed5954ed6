/**
 * What the engine can do, and how it is told: `engine.run(...matMul({...}))`. Each function below takes named values and
 * makes a command of them; the order of the words is known here and in the kernel of the same name only.
 *
 * All pointers are byte offsets in the engine's memory, multiples of 4; all tensors are float32 in row-major order
 * unless said otherwise. A result must not overlap what it is made from. No tensor may touch the end of a memory of
 * 4 GiB: its last 64 bytes stay free.
 *
 * ## Packed weights
 *
 * A matrix W (rows, columns) rests in groups of eight rows, the last one filled up with zeros, the columns filled up to
 * a multiple of 32. `packedBytes` says how long it is. Group g begins at g · groupBytes.
 *
 * - `BFLOAT16`: for each pair of columns (k, k + 1) eight little-endian words, one a row: column k in the low half, k + 1
 *   in the high half. 16 bytes a column.
 * - `INT8`: for each block of 32 columns eight bfloat16 scales, one a row; then for each four columns eight words, one a
 *   row, of four bytes. W = scale · number; bytes of even columns are the number + 128, those of odd ones the number in
 *   two's complement. 272 bytes a block.
 * - `INT4`: for each block of 32 columns eight bfloat16 scales and eight bfloat16 minima, one a row; then for each eight
 *   columns eight words, one a row: byte i holds column i in its low four bits and column 4 + i in its high ones.
 *   W = scale · number + minimum. 160 bytes a block.
 *
 * A product of fewer than four rows of x with integer weights rounds these, 32 at a time, to a part of their largest:
 * 1/2031 with int8, and with int4 1/127, or 1/32767 without relaxed SIMD. Products of more rows round both sides to 16 bits,
 * in runs of 128 columns: see `integer_tile.ts`. All others compute in float32.
 */
import {
  ARG_MAX,
  ATTENTION,
  BFLOAT16,
  DECODER_BLOCK,
  FLOAT32,
  GATED_GELU,
  GATHER,
  INT4,
  INT8,
  MAT_MUL,
  MAT_MUL_TRANSPOSED,
  NOTHING,
  PACK,
  READ,
  RMS_NORM,
  ROTARY,
  UNPACK,
} from '../assembly/numbers';

export {BFLOAT16, FLOAT32, INT4, INT8};

/** Bits of a float32 as a word. */
export function floatBits(value: number): number {
  floats[0] = value;
  return words[0]!;
}
const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

export type PackedType = typeof BFLOAT16 | typeof INT8 | typeof INT4;
export type NumberType = typeof FLOAT32 | PackedType;

/** Arguments of `engine.run`. */
export type Command = [command: number, args: number[]];

/** Rows and columns that a packed matrix is filled up to. */
export const ROW_GROUP = 8;
export const COLUMN_BLOCK = 32;

/** Bytes of eight rows. */
export function groupBytes(type: PackedType, columns: number): number {
  return Math.ceil(columns / COLUMN_BLOCK) * BLOCK_BYTES[type];
}
const BLOCK_BYTES = {[BFLOAT16]: 512, [INT8]: 272, [INT4]: 160};

export function packedBytes(type: PackedType, rows: number, columns: number): number {
  return Math.ceil(rows / ROW_GROUP) * groupBytes(type, columns);
}

/** Does nothing, on all threads. */
export const nothing = (): Command => [NOTHING, []];

/** Reads memory: what the speed of other commands is measured against. */
export const read = ({at, bytes}: {at: number; bytes: number}): Command => [READ, [at, bytes]];

export interface PackArgs {
  source: number;
  /** `BFLOAT16` here means plain 16-bit values, kept as they are; float32 ones are rounded to the nearest. */
  sourceType: typeof FLOAT32 | typeof BFLOAT16;
  /**
   * Row n = o · inner + i of the source begins at o · outerStride + i · innerStride, and its columns are columnStride
   * apart; strides in values. A table (rows, columns): inner 1, outerStride columns, innerStride 0, columnStride 1. A
   * dense kernel (outer, columns, inner): inner, outerStride columns · inner, innerStride 1, columnStride inner.
   */
  inner: number;
  outerStride: number;
  innerStride: number;
  columnStride: number;
  rows: number;
  columns: number;
  target: number;
  targetType: PackedType;
  /** Columns of the whole target. */
  targetColumns: number;
  /** Where in the target the piece goes: a multiple of 8, and one of 32. Pieces but the last fill whole groups and blocks. */
  firstRow?: number;
  firstColumn?: number;
}

/** A matrix of plain numbers, or a piece of it, into packed form. */
export const pack = (a: PackArgs): Command => [
  PACK,
  [
    a.source,
    a.sourceType,
    a.inner,
    a.outerStride,
    a.innerStride,
    a.columnStride,
    a.rows,
    a.columns,
    a.target,
    a.targetType,
    a.targetColumns,
    a.firstRow ?? 0,
    a.firstColumn ?? 0,
  ],
];

export interface UnpackArgs {
  source: number;
  type: PackedType;
  rows: number;
  columns: number;
  /** (rows, columns) */
  target: number;
}

export const unpack = (a: UnpackArgs): Command => [UNPACK, [a.source, a.type, a.rows, a.columns, a.target]];

export interface GatherArgs {
  /** Packed, or float32 (rows, columns). */
  table: number;
  type: NumberType;
  columns: number;
  /** int32 (count): row numbers; not checked. */
  ids: number;
  count: number;
  /** (count, columns) */
  target: number;
}

/** Rows of a table. */
export const gather = (a: GatherArgs): Command => [GATHER, [a.table, a.type, a.columns, a.ids, a.count, a.target]];

export interface MatMulArgs {
  /** Packed (rows, columns), or float32 (rows / inner, columns, inner). */
  w: number;
  type: NumberType;
  /** Only for float32: 1 for a table (rows, columns), `rows` for a matrix (columns, rows). Defaults to 1. */
  inner?: number;
  x: number;
  m: number;
  y: number;
  rows: number;
  columns: number;
}

const product = (a: MatMulArgs): number[] => [a.type, a.w, a.inner ?? 1, a.x, a.m, a.y, a.rows, a.columns];

/** y (m, rows) = x (m, columns) · Wᵀ */
export const matMul = (a: MatMulArgs): Command => [MAT_MUL, product(a)];

/** y (m, columns) = x (m, rows) · W: the gradient of `matMul` with respect to its x. */
export const matMulTransposed = (a: MatMulArgs): Command => [MAT_MUL_TRANSPOSED, product(a)];

export interface RmsNormArgs {
  x: number;
  /** (columns) */
  scale: number;
  /** May be x. */
  y: number;
  rows: number;
  columns: number;
  epsilon: number;
}

/** y = x / √(mean(x²) + epsilon) · (1 + scale) */
export const rmsNorm = (a: RmsNormArgs): Command => [
  RMS_NORM,
  [a.x, a.scale, a.y, a.rows, a.columns, floatBits(a.epsilon)],
];

export interface RotaryArgs {
  /** (batch, length, heads, width) */
  x: number;
  /** (tableRows, length, width / 2), both. */
  cos: number;
  sin: number;
  /** May be x. */
  y: number;
  batch: number;
  length: number;
  heads: number;
  width: number;
  tableRows: number;
  /** −1 turns back, which is the gradient. Defaults to 1. */
  direction?: 1 | -1;
}

export const rotary = (a: RotaryArgs): Command => [
  ROTARY,
  [a.x, a.cos, a.sin, a.y, a.batch, a.length, a.heads, a.width, a.tableRows, floatBits(a.direction ?? 1)],
];

/** y = gelu(gate) · value, in its tanh form; y may be either. */
export const gatedGelu = (a: {gate: number; value: number; y: number; count: number}): Command => [
  GATED_GELU,
  [a.gate, a.value, a.y, a.count],
];

/** Index of the largest value of each row, the first of equals: x (rows, columns) → target, int32 (rows). */
export const argMax = (a: {x: number; rows: number; columns: number; target: number}): Command => [
  ARG_MAX,
  [a.x, a.rows, a.columns, a.target],
];

export interface AttentionArgs {
  /** (batch, length, heads, width) */
  q: number;
  /** (batch, size, keyHeads, width), both. */
  k: number;
  v: number;
  /** As q. */
  y: number;
  batch: number;
  length: number;
  heads: number;
  size: number;
  keyHeads: number;
  width: number;
  scale: number;
  /** Null or left out: none. */
  logitSoftCap?: number | null;
  window?: number | null;
  bidirectional?: boolean;
  /** int32 (1 or batch, length) and (1 or batch, size); a key at −1 does not count. */
  queryPositions: number;
  queryPositionRows: number;
  keyPositions: number;
  keyPositionRows: number;
  /** int32 (batch, size); 0 or left out: none. */
  padding?: number;
  /** int32 (batch, length) and (batch, size): both or none. */
  queryImages?: number;
  keyImages?: number;
  /** float32 (maskRows, length, size): 0 hides. */
  mask?: number;
  maskRows?: number;
  /**
   * With length 1: `attentionPartialBytes` of memory, over which threads share the keys. Left out they share rows of the
   * batch and key heads, of which there may be only one.
   */
  partials?: number;
}

const FAR = 0x7fffffff;

/** See `src/ops/attention.ts` for what it computes. */
export function attention(a: AttentionArgs): Command {
  const {window = null, bidirectional = false} = a;
  const right = window === null ? FAR : bidirectional ? Math.floor(window / 2) : window - 1;
  const left = window === null ? FAR : bidirectional ? window - right - 1 : window - 1;
  return [
    ATTENTION,
    [
      ...[a.q, a.k, a.v, a.y, a.batch, a.length, a.heads, a.size, a.keyHeads, a.width],
      ...[floatBits(a.scale), floatBits(a.logitSoftCap ?? 0), left, right, Number(bidirectional)],
      ...[a.queryPositions, a.queryPositionRows, a.keyPositions, a.keyPositionRows],
      ...[a.padding ?? 0, a.queryImages ?? 0, a.keyImages ?? 0, a.mask ?? 0, a.maskRows ?? 1, a.partials ?? 0],
    ],
  ];
}

export function attentionPartialBytes(
  {batch, heads, width}: {batch: number; heads: number; width: number},
  threads: number,
): number {
  return threads * batch * heads * (width + 2) * 4;
}

/** A dense kernel of a block: see `MatMulArgs`. */
export interface DenseArgs {
  type: NumberType;
  w: number;
  inner?: number;
}

export interface DecoderBlockSizes {
  batch: number;
  hiddenDim: number;
  /** Width of the gates: intermediateDim / gateDimReduction. */
  gateDim: number;
  numQueryHeads: number;
  numKeyValueHeads: number;
  headDim: number;
}

export interface DecoderBlockArgs extends DecoderBlockSizes {
  /** (batch, hiddenDim) */
  x: number;
  /** As x; may be x. */
  y: number;
  epsilon: number;
  /** Queries are multiplied by this. */
  scale: number;
  logitSoftCap?: number | null;
  window?: number | null;
  /** (batch, capacity, numKeyValueHeads, headDim), both: the token at position p rests at place p mod capacity. */
  cachedKeys: number;
  cachedValues: number;
  capacity: number;
  /** int32 (batch): position of the new token; negative for a row without one, whose cache and attention are left out. */
  positions: number;
  /** (tableRows, headDim / 2), both: angles at these positions; tableRows is 1 or batch. */
  cos: number;
  sin: number;
  tableRows: number;
  /** Scales of norms; 0 or left out: no such norm. */
  norms: {
    preAttention: number;
    postAttention?: number;
    preFfw: number;
    postFfw?: number;
    query?: number;
    key?: number;
  };
  query: DenseArgs;
  key: DenseArgs;
  value: DenseArgs;
  output: DenseArgs;
  gate: DenseArgs;
  up: DenseArgs;
  down: DenseArgs;
  /** `decoderBlockWorkspaceBytes` of memory; what is in it does not matter. */
  workspace: number;
}

/**
 * One token a row through `Gemma3DecoderBlock`, which is causal here; its keys and values are added to the cache. One array
 * and nothing else: this is made for every block of every token.
 */
export function decoderBlock(a: DecoderBlockArgs): Command {
  const {norms, query, key, value, output, gate, up, down} = a;
  // prettier-ignore
  const args = [
    a.x, a.y, a.batch, a.hiddenDim, a.gateDim, a.numQueryHeads, a.numKeyValueHeads, a.headDim,
    floatBits(a.epsilon), floatBits(a.scale), floatBits(a.logitSoftCap ?? 0), a.window ?? FAR,
    a.cachedKeys, a.cachedValues, a.capacity, a.positions, a.cos, a.sin, a.tableRows,
    norms.postAttention ?? 0, norms.preFfw, norms.postFfw ?? 0, norms.query ?? 0, norms.key ?? 0,
    query.type, query.w, query.inner ?? 1,
    key.type, key.w, key.inner ?? 1,
    value.type, value.w, value.inner ?? 1,
    output.type, output.w, output.inner ?? 1,
    gate.type, gate.w, gate.inner ?? 1,
    up.type, up.w, up.inner ?? 1,
    down.type, down.w, down.inner ?? 1,
    a.workspace, norms.preAttention,
  ];
  return [DECODER_BLOCK, args];
}

export function decoderBlockWorkspaceBytes(a: DecoderBlockSizes, threads: number): number {
  const queries = a.batch * a.numQueryHeads * a.headDim;
  const keys = a.batch * a.numKeyValueHeads * a.headDim;
  const hidden = a.batch * a.hiddenDim;
  const partials = attentionPartialBytes({batch: a.batch, heads: a.numQueryHeads, width: a.headDim}, threads);
  const shared = 4 * (queries + 2 * keys + hidden + 2 * a.batch * a.gateDim) + partials + 7 * 64;
  return shared + threads * (4 * (2 * hidden + queries + keys) + 256);
}
