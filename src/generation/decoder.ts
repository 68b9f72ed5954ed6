/** The contract between generation and a model. */
import * as tf from '@tensorflow/tfjs';
import {type TokenChoice} from '../ops/token_program';

/** The keys and values of all blocks. */
export interface DecoderCache {
  /** Number of tokens seen so far, per row. */
  readonly lengths: readonly number[];
  /**
   * Shortens each row to the given length: forgets its last tokens.
   *
   * @throws ValueError if `canTruncate` is false for these lengths.
   */
  truncate(lengths: readonly number[]): void;
  /** False if a sliding window has already dropped keys that the remaining tokens would need. */
  canTruncate(lengths: readonly number[]): boolean;
  /** A separate cache with the same tokens. */
  copy(): DecoderCache;
  /** Replaces row i by a copy of the old row `rows[i]`. The number of rows may change. */
  select(rows: readonly number[]): void;
  dispose(): void;
}

/** New tokens of a batch of rows. */
export interface NewTokens {
  /** Token ids. All rows have the same length, with padding after the first `counts[row]` tokens. */
  rows: readonly (readonly number[])[];
  /** How many tokens of each row are real. */
  counts: readonly number[];
  /** Left out if no token stands for a part of an image. */
  images?: ImageTokens;
  /** The states of tokens before this index are not needed: `hiddenSteps` may leave them out. Defaults to 0. */
  firstWanted?: number;
}

/** Tokens that stand for parts of images. */
export interface ImageTokens {
  /** (M, D), the embeddings of all M parts of all images, as the vision encoder returns them. */
  embeddings: tf.Tensor2D;
  /** For each token of each row, the index of the part it stands for; −1 for text. Consecutive parts are one image. */
  parts: readonly (readonly number[])[];
}

/** A model as generation sees it. */
export interface Decoder<C extends DecoderCache = DecoderCache> {
  /**
   * Creates an empty cache for `batch` rows of at most `maxLength` tokens. The caller disposes it.
   *
   * @param slack how many tokens `truncate` can always remove, even from sliding windows. Defaults to 0.
   */
  newCache(batch: number, maxLength: number, slack?: number): C;
  /** Images (I, S, S, 3) → their parts (I · tokens per image, D). */
  encodeImages(images: tf.Tensor4D): tf.Tensor2D;
  /** Adds tokens to the cache → hidden states of all of them, (B, T, D). */
  hiddenStates(tokens: NewTokens, cache: C): tf.Tensor3D;
  /**
   * The same in steps, between which other code may run; the caller owns the result, which may begin with any token up
   * to `firstWanted`. The cache cannot be used before the last step. Left out if the work cannot be divided.
   */
  hiddenSteps?(tokens: NewTokens, cache: C): Generator<void, tf.Tensor3D>;
  /** `encodeImages` in steps. Left out if the work cannot be divided. */
  encodeSteps?(images: tf.Tensor4D): Generator<void, tf.Tensor2D>;
  /** Hidden states (N, D) → logits (N, V). */
  logits(hidden: tf.Tensor2D): tf.Tensor2D;
  /** Applies the final norm to hidden states (N, D). Samplers compare the results; the head takes them as its input. */
  finalStates(hidden: tf.Tensor2D): tf.Tensor2D;
  /**
   * Chooses tokens without the host, for this many rows. Undefined, or left out, if the backend or the model cannot do
   * so. A cache for it needs a slack of twice `mostSteps`.
   */
  tokensAhead?(choice: TokenChoice, rows: number): StepsAhead<C> | undefined;
}

/** Decoding that need not wait until the host has read the last tokens. */
export interface StepsAhead<C extends DecoderCache = DecoderCache> {
  /** The most steps in one call of `run`. */
  readonly mostSteps: number;
  /** Starts with the last token of each row, which is not in the cache yet. */
  start(rows: readonly RowText[], cache: C): void;
  /**
   * Runs steps: each adds the tokens that the previous step has chosen to the cache, and chooses the next ones. More
   * steps may be started before these have a result.
   *
   * @returns the chosen tokens, (steps, rows); a negative number where the host has to choose.
   */
  run(steps: readonly AheadStep[]): Promise<Int32Array>;
  dispose(): void;
}

/** A step of {@link StepsAhead}. */
export interface AheadStep {
  /** The rows to continue. */
  active: readonly boolean[];
  /** A random number for each row, if tokens are drawn. */
  uniforms: readonly number[];
}

/** Token ids, and the images that some of them stand for. */
export interface Prompt {
  tokens: readonly number[];
  /** (I, S, S, 3), as the vision encoder takes them; the caller disposes them. Null or left out for text only. */
  images?: tf.Tensor4D | null;
  /** With images: true for the tokens that stand for their parts, in the order of the images. */
  visionMask?: readonly boolean[];
}

/**
 * Receives the hidden states (B, T, D) of new tokens, of which `counts[row]` are real; they are disposed afterwards.
 */
export type OnHidden = (hidden: tf.Tensor3D, counts: readonly number[]) => void;

/**
 * Adds tokens to the cache → logits (B, V) after the last real token of each row. The norm and the head run on one
 * position per row: the head is the model's largest matrix product.
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

/** The tokens of a row so far. */
export interface RowText {
  /** The prompt and the tokens added to it. */
  readonly tokens: readonly number[];
  /** Number of tokens in the prompt. */
  readonly promptLength: number;
}
