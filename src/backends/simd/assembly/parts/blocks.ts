/** Blocks of columns. */

/** Columns are stored in blocks of this many. The last block is filled up with zeros. */
export const BLOCK = 32;

/** Columns including the zeros that fill up the last block. */
export function padded(columns: i32): i32 {
  return (columns + BLOCK - 1) & -BLOCK;
}
