import * as tf from '@tensorflow/tfjs';

/** What holds keys and values of all blocks. */
export interface DecoderCache {
  /** Tokens seen so far, one number a row. */
  readonly lengths: readonly number[];
  /**
   * Forgets the last tokens of rows, down to these lengths.
   *
   * @throws ValueError if what a window no longer holds would be needed: see `canTruncate`.
   */
  truncate(lengths: readonly number[]): void;
  canTruncate(lengths: readonly number[]): boolean;
  /** One of its own that holds the same. */
  copy(): DecoderCache;
  /** Makes row i a copy of what row `rows[i]` was; there may be more rows afterwards, or fewer. */
  select(rows: readonly number[]): void;
  dispose(): void;
}

/** New tokens of a batch of rows. */
export interface NewTokens {
  /** Token ids of each row, all of one length, padded behind `counts[row]`. */
  rows: readonly (readonly number[])[];
  counts: readonly number[];
  images?: ImageTokens;
}

/** Tokens that stand for parts of images. */
export interface ImageTokens {
  /** (M, D), the parts of all images, as the vision encoder gives them. */
  embeddings: tf.Tensor2D;
  /** For each token of each row, which of the M it is; −1 for text. Neighbours that are no text are one image. */
  parts: readonly (readonly number[])[];
}

/** What the loop needs of a model. */
export interface Decoder<C extends DecoderCache = DecoderCache> {
  /** @param slack how many tokens `truncate` may take back, whatever the windows; 0 unless told. */
  newCache(batch: number, maxLength: number, slack?: number): C;
  /** Images (I, S, S, 3) → their parts (I · tokens an image, D). */
  encodeImages(images: tf.Tensor4D): tf.Tensor2D;
  /** Adds tokens to the cache → hidden states of all of them, (B, T, D). */
  hiddenStates(tokens: NewTokens, cache: C): tf.Tensor3D;
  /** Hidden states (N, D) → logits (N, V). */
  logits(hidden: tf.Tensor2D): tf.Tensor2D;
  /** Hidden states (N, D) as the head takes them, behind the last norm: what samplers compare. */
  finalStates(hidden: tf.Tensor2D): tf.Tensor2D;
}

/** Token ids, and what some of them stand for. */
export interface Prompt {
  tokens: readonly number[];
  /** (I, S, S, 3), as the vision encoder takes them; not disposed. Null or left out: text alone. */
  images?: tf.Tensor4D | null;
  /** With images: true for tokens that stand for parts of them, in order. */
  visionMask?: readonly boolean[];
}

/** Shown the hidden states (B, T, D) of new tokens, of which `counts[row]` are real; they are disposed afterwards. */
export type OnHidden = (hidden: tf.Tensor3D, counts: readonly number[]) => void;

/**
 * Logits (B, V) behind the last real token of each row; the tokens are added to the cache. Norm and head see one position
 * a row: the head is the largest product of all.
 */
export function nextLogits<C extends DecoderCache>(
  decoder: Decoder<C>,
  tokens: NewTokens,
  cache: C,
  onHidden?: OnHidden,
): tf.Tensor2D {
  return tf.tidy(() => {
    const hidden = decoder.hiddenStates(tokens, cache);
    onHidden?.(hidden, tokens.counts);
    const [batch, length, width] = hidden.shape;
    const flat = tf.reshape(hidden, [batch * length, width]) as tf.Tensor2D;
    if (length === 1) return decoder.logits(flat);
    const last = tokens.counts.map((count, row) => row * length + Math.max(0, count - 1));
    return decoder.logits(tf.gather(flat, tf.tensor1d(last, 'int32')));
  });
}

/** A row so far. */
export interface RowText {
  /** Its prompt and what was added. */
  readonly tokens: readonly number[];
  readonly promptLength: number;
}
