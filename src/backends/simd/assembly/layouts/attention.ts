/** Argument words of attention and of its gradients, and the sizes of their workspaces. */

/** Which keys each query sees. Part of `AttentionWord`. */
export enum VisibilityWord {
  /** How far back a query sees, in positions. */
  left,
  /** How far ahead it sees, if `bidirectional`. */
  right,
  bidirectional,
  /** int32 (queryPositionRows, length) */
  queryPositions,
  /** 1 or batch. */
  queryPositionRows,
  /** int32 (keyPositionRows, size) */
  keyPositions,
  /** 1 or batch. */
  keyPositionRows,
  /** int32 (batch, size); 0 for none. */
  padding,
  /** int32 (batch, length); 0 for none. */
  queryImages,
  /** int32 (batch, size); 0 for none. */
  keyImages,
  /** float32 (maskRows, length, size); 0 for none. */
  mask,
  /** 1 or batch. */
  maskRows,
  end,
}

export enum AttentionWord {
  /** (batch, length, heads, width) */
  q,
  /** (batch, size, keyHeads, width) */
  k,
  /** (batch, size, keyHeads, width) */
  v,
  /** (batch, length, heads, width) */
  y,
  batch,
  length,
  heads,
  size,
  keyHeads,
  width,
  /** float32 */
  scale,
  /** float32; 0 for none. */
  logitSoftCap,
  /** Of k and v: FLOAT32 or BFLOAT16. */
  keyType,
  /** The words of `VisibilityWord`. */
  visibility,
  /** (batch, ATTENTION_PARTS, heads, PARTIAL_HEADER + width); 0 for none. */
  partials = visibility + VisibilityWord.end,
  end,
}

export enum AttentionGradientWord {
  /** (batch, length, heads, width) */
  dy,
  /**
   * The words of `AttentionWord`, where y is dq and partials are statistics (batch, length, heads, QUERY_STATISTICS).
   */
  attention,
  /** (batch, size, keyHeads, width) */
  dk = attention + AttentionWord.end,
  /** (batch, size, keyHeads, width) */
  dv,
  end,
}

/** Maximum number of parts into which the keys of a row are divided for one new token. */
export const ATTENTION_PARTS = 16;
/** Values before the weighted sum of a head in `partials`: the largest score and the sum of the weights. */
export const PARTIAL_HEADER = 2;

/** Statistics per query and head: largest score, inverse sum of the weights, Σ probability · its gradient. */
export const QUERY_STATISTICS = 3;
