/** Blocks of columns. */
import {COLUMN_BLOCK} from '../layouts/packing';

/** Columns including the zeros that fill up the last block. */
export function padded(columns: i32): i32 {
  return (columns + COLUMN_BLOCK - 1) & -COLUMN_BLOCK;
}
