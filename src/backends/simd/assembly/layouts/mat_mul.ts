/** Argument words of matrix products. */

/** MAT_MUL, and MAT_MUL_TRANSPOSED, where x is dy (m, rows) and y is dx (m, columns). */
export enum MatMulWord {
  type,
  /** Packed (rows, columns), or float32 (rows / inner, columns, inner). */
  w,
  /** Used only for float32. */
  inner,
  /** (m, columns) */
  x,
  m,
  /** (m, rows) */
  y,
  rows,
  columns,
  end,
}

/** Strides count values, from one matrix to the next (0 to use the same one each time) and from one row to the next. */
export enum BatchMatMulWord {
  /** (m, k), or (k, m) if transposed. */
  a,
  aStride,
  aRowStride,
  aTransposed,
  /** (k, n), or (n, k) if transposed. */
  b,
  bStride,
  bRowStride,
  bTransposed,
  /** (m, n) */
  y,
  yStride,
  yRowStride,
  batch,
  m,
  n,
  k,
  end,
}
