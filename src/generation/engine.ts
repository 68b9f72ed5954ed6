/** The loop of generation. Token ids in, token ids out: it knows no tokenizer and no model but by these few functions. */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform';
import {ValueError} from '../errors';
import {type Sampler} from './samplers';

/** What holds keys and values of all blocks. */
export interface DecoderCache {
  /** Tokens seen so far, one number a row. */
  readonly lengths: readonly number[];
  /**
   * Forgets the last tokens of rows, down to these lengths.
   *
   * @throws ValueError if what a window no longer holds would be needed: see {@link DecoderCache.canTruncate}.
   */
  truncate(lengths: readonly number[]): void;
  canTruncate(lengths: readonly number[]): boolean;
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
}

/** Token ids, and what some of them stand for. */
export interface Prompt {
  tokens: readonly number[];
  /** (I, S, S, 3), as the vision encoder takes them; not disposed. Null or left out: text alone. */
  images?: tf.Tensor4D | null;
  /** With images: true for tokens that stand for parts of them, in order. */
  visionMask?: readonly boolean[];
}

export interface GenerationRequest {
  /** At least one. */
  prompts: readonly Prompt[];
  /** Length at which a row ends, its prompt included. */
  maxLength: number;
  /** A row ends behind any of these; null: only at `maxLength`. */
  stopTokenIds: readonly number[] | null;
  sampler: Sampler;
  signal?: AbortSignal;
}

/**
 * Logits (B, V) behind the last real token of each row; the tokens are added to the cache. Norm and head see one position
 * a row: the head is the largest product of all.
 */
export function nextLogits<C extends DecoderCache>(decoder: Decoder<C>, tokens: NewTokens, cache: C): tf.Tensor2D {
  return tf.tidy(() => {
    const hidden = decoder.hiddenStates(tokens, cache);
    const [batch, length, width] = hidden.shape;
    const flat = tf.reshape(hidden, [batch * length, width]) as tf.Tensor2D;
    if (length === 1) return decoder.logits(flat);
    const last = tokens.counts.map((count, row) => row * length + Math.max(0, count - 1));
    return decoder.logits(tf.gather(flat, tf.tensor1d(last, 'int32')));
  });
}

/** Tokens of prompts of any lengths, with their images encoded; the caller disposes `images.embeddings`. */
export function promptTokens(decoder: Decoder, prompts: readonly Prompt[]): NewTokens {
  const counts = prompts.map(({tokens}) => tokens.length);
  const longest = Math.max(...counts);
  const padded = <T>(row: readonly T[], fill: T): T[] => [
    ...row,
    ...Array.from({length: longest - row.length}, () => fill),
  ];
  const rows = prompts.map(({tokens}) => padded(tokens, 0));
  const images = prompts.flatMap(({images}) => (images && images.shape[0] > 0 ? [images] : []));
  if (images.length === 0) return {rows, counts};
  const embeddings = tf.tidy(() => decoder.encodeImages(tf.concat(images, 0)));
  let next = 0;
  const parts = prompts.map(({visionMask = []}) =>
    padded(
      visionMask.map(part => (part ? next++ : -1)),
      -1,
    ),
  );
  if (next === embeddings.shape[0]) return {rows, counts, images: {embeddings, parts}};
  const received = embeddings.shape[0];
  embeddings.dispose();
  throw new ValueError(
    `Expected a token for each part of an image. Received: ${received} parts in ${images.length} tensors of images, and ` +
      `${next} tokens for them in visionMask. Make maxLength longer if it cut an image.`,
  );
}

/**
 * Yields, step by step, the next token of each row, or null for rows that have ended. Rows are independent: each goes on
 * from the end of its own prompt, whatever the lengths of the others.
 *
 * @throws ValueError on an empty prompt; what the signal says when it is aborted. The cache is freed in any case.
 */
export async function* generateTokens(
  decoder: Decoder,
  {prompts, maxLength, stopTokenIds, sampler, signal}: GenerationRequest,
): AsyncGenerator<(number | null)[], void> {
  const empty = prompts.findIndex(({tokens}) => tokens.length === 0);
  if (empty >= 0) {
    throw new ValueError(`Expected at least one token in each prompt. Received: none in row ${empty}.`);
  }
  signal?.throwIfAborted();
  const lengths = prompts.map(({tokens}) => tokens.length);
  const done = lengths.map(length => length >= maxLength);
  if (done.every(Boolean)) return;

  const cache = decoder.newCache(prompts.length, Math.max(maxLength, ...lengths));
  let next: NewTokens | undefined;
  try {
    next = promptTokens(decoder, prompts);
    while (!done.every(Boolean)) {
      const logits = nextLogits(decoder, next, cache);
      next.images?.embeddings.dispose();
      let tokens: number[];
      try {
        tokens = await sampler.sample(logits);
      } finally {
        logits.dispose();
      }
      // Backends that compute at once never let other code run, so that nobody could abort.
      await nextTurn();
      signal?.throwIfAborted();
      const step = tokens.map((token, row) => (done[row] ? null : token));
      yield step;
      step.forEach((token, row) => {
        if (token === null) return;
        lengths[row]! += 1;
        done[row] = lengths[row]! >= maxLength || (stopTokenIds?.includes(token) ?? false);
      });
      next = {
        rows: tokens.map((token, row) => [done[row] ? 0 : token]),
        counts: done.map(ended => (ended ? 0 : 1)),
      };
    }
  } finally {
    next?.images?.embeddings.dispose();
    cache.dispose();
  }
}
