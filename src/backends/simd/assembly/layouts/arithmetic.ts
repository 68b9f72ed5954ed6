/** Argument words of tfjs' own operations. */

export enum Operation {
  add,
  subtract,
  multiply,
}

/** COMBINE: y[i] = x[i] ∘ b[i mod period], for i = 0 … count − 1. */
export enum CombineWord {
  operation,
  /** (count) */
  x,
  /** (period) */
  b,
  /** (count) */
  y,
  count,
  period,
  end,
}

export enum ColumnSumsWord {
  /** (rows, columns) */
  x,
  /** (columns) */
  target,
  rows,
  columns,
  end,
}

/** The number of axes of TRANSPOSE, after axes that stay adjacent are merged. */
export const TRANSPOSE_AXES = 6;

export enum TransposeWord {
  x,
  y,
  /** Sizes of y's axes, first to last. */
  sizes,
  /** For each axis of y its stride in x, in values. */
  strides = sizes + TRANSPOSE_AXES,
  end = strides + TRANSPOSE_AXES,
}
