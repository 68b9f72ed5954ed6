/** Pads columns to whole blocks. */
import {COLUMN_BLOCK} from '../layouts/packing';

/** The number of columns, including the zeros that pad the last block. */
export function padded(columns: i32): i32 {
  return (columns + COLUMN_BLOCK - 1) & -COLUMN_BLOCK;
}
