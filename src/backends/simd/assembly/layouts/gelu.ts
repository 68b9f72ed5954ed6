/** Argument words of GELU, of its gated form and of the gradient. Every tensor has `count` values. */

export enum GatedGeluWord {
  gate,
  value,
  y,
  count,
  end,
}

export enum GeluWord {
  x,
  y,
  count,
  end,
}

export enum GeluGradientWord {
  dy,
  x,
  /** 0 for none. */
  value,
  dx,
  count,
  end,
}
