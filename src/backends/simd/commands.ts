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
 */
import {BFLOAT16, FLOAT32, GATHER, MAT_MUL, MAT_MUL_TRANSPOSED, NOTHING, PACK, READ, UNPACK} from './assembly/numbers';

export {BFLOAT16, FLOAT32};

export type PackedType = typeof BFLOAT16;
export type NumberType = typeof FLOAT32 | PackedType;

/** Arguments of `engine.run`. */
export type Command = [command: number, args: number[]];

/** Rows and columns that a packed matrix is filled up to. */
export const ROW_GROUP = 8;
export const COLUMN_BLOCK = 32;

/** Bytes of eight rows. */
export function groupBytes(_type: PackedType, columns: number): number {
  return Math.ceil(columns / COLUMN_BLOCK) * COLUMN_BLOCK * 16;
}

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
