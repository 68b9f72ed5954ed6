/** Argument words of the commands that samplers use. `x` is (rows, columns). */

export enum ArgMaxWord {
  x,
  rows,
  columns,
  /** int32 (rows) */
  target,
  /** Whether the result is −1 for a row that has a NaN or no value above −Infinity. */
  strict,
  end,
}

export enum TopKWord {
  x,
  rows,
  columns,
  k,
  /** (rows, k); rows are `step` bytes apart. */
  values,
  /** Laid out like `values`; int32, or float32 if `indicesAsFloats`. */
  indices,
  step,
  indicesAsFloats,
  end,
}

export enum SoftmaxWord {
  x,
  /** (rows, columns) */
  y,
  rows,
  columns,
  end,
}

export enum SoftmaxSumsWord {
  x,
  rows,
  columns,
  /** (rows, 2): largest value and sum of the weights. */
  target,
  /** float32: factor of x, a power of two. */
  scale,
  /** float32, multiplied by `scale`. */
  temperature,
  end,
}

export enum DrawWord {
  x,
  rows,
  columns,
  /** int32 (rows) */
  target,
  /** float32: factor of x, a power of two. */
  scale,
  /** float32, multiplied by `scale`. */
  temperature,
  /** float64 (rows) in [0, 1) */
  uniforms,
  end,
}

/** Bytes of a thread's scratch memory before the values and indices that TOP_K keeps there. */
export const TOP_K_HEADER = 128;
