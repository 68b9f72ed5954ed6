/** Argument words of HEAD_LOSS, and the parts of its workspace. */
export enum HeadLossWord {
  type,
  /** (vocabulary, width), packed or float32. */
  w,
  /** (rows, width) */
  x,
  /** int32 (rows) */
  targets,
  /** (rows) */
  differences,
  /** (rows) */
  sums,
  /** (rows, width); 0 for none. */
  gradients,
  rows,
  vocabulary,
  width,
  /** float32; 0 for none. */
  softCap,
  workspace,
  end,
}

/** The fewest parts of the vocabulary with separate sums. Engines of more threads have one for each thread. */
export const HEAD_SHARES = 8;
/** Rows of the head, and tokens, that are processed at a time. */
export const HEAD_TILE = 128;
export const HEAD_ROWS = 80;
/**
 * The number of interleaved tokens is rounded up to a multiple of this. Both tile heights divide it and `HEAD_ROWS`.
 */
export const HEAD_ROUND = 20;
/** Bytes per token and share: reference (float32), logit of the target (float32), sum of the weights (float64). */
export const HEAD_STATISTICS_BYTES = 16;
