/** Argument words of FUSED_BLOCK and FUSED_BLOCKS, and the parts of their workspace. */

/** A dense kernel: see `MatMulWord`. */
export enum DenseWord {
  type,
  w,
  inner,
  end,
}

export enum FusedBlockWord {
  /** (batch, hiddenDim); 0 for the result of the previous block. */
  x,
  /** (batch, hiddenDim); 0 if only the next block takes it. */
  y,
  batch,
  hiddenDim,
  gateDim,
  numQueryHeads,
  numKeyValueHeads,
  headDim,
  /** float32 */
  epsilon,
  /** float32 */
  scale,
  /** float32; 0 for none. */
  logitSoftCap,
  window,
  /** (batch, capacity, numKeyValueHeads, headDim) */
  cachedKeys,
  /** (batch, capacity, numKeyValueHeads, headDim) */
  cachedValues,
  capacity,
  /** Of cached keys and values: FLOAT32 or BFLOAT16. */
  cacheType,
  /** int32 (batch); negative for a row without a token. */
  positions,
  /** (tableRows, headDim / 2) */
  cos,
  /** (tableRows, headDim / 2) */
  sin,
  /** 1 or batch. */
  tableRows,
  // Scales of norms; 0 if the block has no such norm.
  postAttentionNorm,
  preFfwNorm,
  postFfwNorm,
  queryNorm,
  keyNorm,
  // Dense kernels, each with the words of `DenseWord`.
  query,
  key = query + DenseWord.end,
  value = key + DenseWord.end,
  output = value + DenseWord.end,
  gate = output + DenseWord.end,
  up = gate + DenseWord.end,
  down = up + DenseWord.end,
  workspace = down + DenseWord.end,
  /** Scale of the norm before attention. */
  preAttentionNorm,
  end,
}

/** The blocks must have the same sizes and the same workspace. */
export enum FusedBlocksWord {
  /** The words of each block, one after another: see `FusedBlockWord`. */
  table,
  count,
  end,
}

/** Each part of the workspace is rounded up to this many bytes, a cache line. */
export const PART_ALIGNMENT = 64;
/** Numbers of workspace parts that all threads share, and that are private to each thread. */
export const SHARED_PARTS = 7;
export const OWN_PARTS = 4;
