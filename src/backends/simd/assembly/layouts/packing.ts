/** Packed formats, and the argument words of the commands that write and read them. */

/** Rows of a packed matrix are stored in groups of this many; the last group is padded with zeros. */
export const ROW_GROUP = 8;
/** Columns are stored in blocks of this many; the last block is padded with zeros. */
export const COLUMN_BLOCK = 32;

/** Bytes of a block of columns of one group of rows. */
export const BFLOAT16_BLOCK_BYTES = 512;
export const INT8_BLOCK_BYTES = 272;
export const INT4_BLOCK_BYTES = 160;

/** PACK: packs a matrix of plain numbers, or a piece of it. */
export enum PackWord {
  source,
  /** FLOAT32 or BFLOAT16. */
  sourceType,
  /** Strides are in values: see `parts/panel.ts`. */
  inner,
  outerStride,
  innerStride,
  columnStride,
  rows,
  columns,
  target,
  targetType,
  /** Columns of the whole target. */
  targetColumns,
  /** A multiple of `ROW_GROUP`. */
  firstRow,
  /** A multiple of `COLUMN_BLOCK`. */
  firstColumn,
  /** How much an error in each column of the piece counts, float32; 0 if all count the same. Used for int4. */
  energies,
  end,
}

/** WIDEN: widens bfloat16 values to float32. */
export enum WidenWord {
  source,
  target,
  count,
  end,
}

export enum UnpackWord {
  source,
  type,
  rows,
  columns,
  /** float32 (rows, columns) */
  target,
  end,
}
