/** The command that packs weights. The formats are described in `../engine/command.ts`. */
import {PackWord, WidenWord} from '../assembly/layouts/packing';
import {PACK, WIDEN} from '../assembly/numbers';
import {type BFLOAT16, type Command, type FLOAT32, type PackedType} from '../engine/command';

export interface PackArgs {
  source: number;
  /**
   * `BFLOAT16` means plain 16-bit values here. Packing them as bfloat16 is exact; float32 values are rounded to
   * nearest.
   */
  sourceType: typeof FLOAT32 | typeof BFLOAT16;
  /**
   * Row n = o · inner + i of the source begins at o · outerStride + i · innerStride, and its columns are columnStride
   * apart; strides count values. A table (rows, columns): inner 1, outerStride columns, innerStride 0, columnStride 1.
   * A dense kernel (outer, columns, inner): inner, outerStride columns · inner, innerStride 1, columnStride inner.
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
  /**
   * Position of the piece in the target: a multiple of 8 rows and of 32 columns, 0 by default. All pieces except the
   * last consist of whole groups and blocks.
   */
  firstRow?: number;
  firstColumn?: number;
  /** How much an error in each column of the piece counts for int4, float32; 0, the default, if all count the same. */
  energies?: number;
}

/** Widens bfloat16 values to float32. Up to seven values after the last one are overwritten. */
export function widen(a: {source: number; target: number; count: number}): Command {
  const words = new Array<number>(WidenWord.end);
  words[WidenWord.source] = a.source;
  words[WidenWord.target] = a.target;
  words[WidenWord.count] = a.count;
  return [WIDEN, words];
}

/** Packs a matrix of plain numbers, or a piece of it. */
export function pack(a: PackArgs): Command {
  const words = new Array<number>(PackWord.end);
  words[PackWord.source] = a.source;
  words[PackWord.sourceType] = a.sourceType;
  words[PackWord.inner] = a.inner;
  words[PackWord.outerStride] = a.outerStride;
  words[PackWord.innerStride] = a.innerStride;
  words[PackWord.columnStride] = a.columnStride;
  words[PackWord.rows] = a.rows;
  words[PackWord.columns] = a.columns;
  words[PackWord.target] = a.target;
  words[PackWord.targetType] = a.targetType;
  words[PackWord.targetColumns] = a.targetColumns;
  words[PackWord.firstRow] = a.firstRow ?? 0;
  words[PackWord.firstColumn] = a.firstColumn ?? 0;
  words[PackWord.energies] = a.energies ?? 0;
  return [PACK, words];
}
