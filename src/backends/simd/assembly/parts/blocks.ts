/** Columns rest in blocks of this many, the last one filled up with zeros. */
export const BLOCK = 32;

export function padded(columns: i32): i32 {
  return (columns + BLOCK - 1) & -BLOCK;
}
