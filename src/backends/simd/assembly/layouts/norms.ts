/** Argument words of norms and of their gradients. `x`, `y`, `dy` and `dx` are (rows, columns). */

export enum RmsNormWord {
  x,
  /** (columns) */
  scale,
  y,
  rows,
  columns,
  /** float32 */
  epsilon,
  end,
}

export enum LayerNormWord {
  x,
  /** (columns) */
  gamma,
  /** (columns) */
  beta,
  y,
  rows,
  columns,
  /** float32 */
  epsilon,
  end,
}

export enum NormGradientXWord {
  dy,
  x,
  /** (columns): gamma, or the scale of an RMS norm, to which 1 is added. */
  scale,
  dx,
  rows,
  columns,
  /** float32 */
  epsilon,
  /** 1 for a layer norm, 0 for an RMS norm. */
  centred,
  end,
}

export enum NormGradientScaleWord {
  dy,
  x,
  /** (columns) */
  target,
  rows,
  columns,
  /** float32 */
  epsilon,
  /** 1 for a layer norm, 0 for an RMS norm. */
  centred,
  /** (rows, 2) */
  workspace,
  end,
}
