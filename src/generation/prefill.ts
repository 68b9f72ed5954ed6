/** Reads prompts into a cache, in pieces, so that memory does not grow with their length. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {type Decoder, type DecoderCache, type ImageTokens, type NewTokens, type OnHidden, type Prompt} from './decoder';
import {Turns} from './turns';

/** Default number of tokens in a piece: each piece reads all weights, and larger ones are no faster. */
export const PREFILL_CHUNK = 512;

/** How far the model has read the prompts. */
export interface PrefillProgress {
  /** Number of tokens that are in the cache, for all prompts together, including those that a session already held. */
  tokens: number;
  /** Number of tokens in all prompts. */
  total: number;
}

export interface PrefillOptions {
  /**
   * How many tokens of a prompt go through the model at once. An image is never split: its tokens see each other.
   * Defaults to 512.
   */
  prefillChunk?: number;
  /** Called after each piece. */
  onPrefill?: (progress: PrefillProgress) => void;
  onHidden?: OnHidden;
  signal?: AbortSignal;
}

/**
 * Adds prompts to a cache that may already hold a prefix of each prompt, but not all of it → logits (B, V) after the
 * last token of each. The head, the largest matrix product, runs on these positions only.
 *
 * @throws ValueError if images and their tokens do not match; the signal's reason when aborted, also within a piece.
 */
export async function prefill<C extends DecoderCache>(
  decoder: Decoder<C>,
  prompts: readonly Prompt[],
  cache: C,
  {prefillChunk = PREFILL_CHUNK, onPrefill, onHidden, signal}: PrefillOptions = {},
): Promise<tf.Tensor2D> {
  const total = prompts.reduce((sum, {tokens}) => sum + tokens.length, 0);
  const turns = new Turns(signal);
  const images = await encodeRest(decoder, prompts, cache.lengths, turns);
  // The hidden state of the last token of each row, (1, D): rows may end in different pieces.
  const last: tf.Tensor[] = [];
  try {
    while (prompts.some(({tokens}, row) => cache.lengths[row]! < tokens.length)) {
      const starts = [...cache.lengths];
      const ends = prompts.map((prompt, row) => endOfPiece(prompt, starts[row]!, prefillChunk));
      const piece = pieceOf(prompts, starts, ends, images);
      const ending = prompts.flatMap(({tokens}, row) =>
        starts[row]! < ends[row]! && ends[row] === tokens.length ? [row] : [],
      );
      // The last token of each prompt. Before it, the last block is only needed for its keys and values.
      const length = piece.rows[0]!.length;
      const firstWanted = onHidden ? 0 : Math.min(length, ...ending.map(row => piece.counts[row]! - 1));
      const states = await turns.run(stepsOf(decoder, {...piece, firstWanted}, cache));
      const missing = length - states.shape[1];
      const hidden = tf.tidy(() => {
        onHidden?.(states, piece.counts);
        const at = (row: number) => piece.counts[row]! - 1 - missing;
        return ending.map(row => tf.slice(states, [row, at(row), 0], [1, 1, -1]).squeeze([1]));
      });
      states.dispose();
      ending.forEach((row, i) => (last[row] = hidden[i]!));
      onPrefill?.({tokens: cache.lengths.reduce((sum, length) => sum + length, 0), total});
      // On synchronous backends no other code would run otherwise, so an abort would never be noticed.
      await turns.next();
    }
    const logits = tf.tidy(() => decoder.logits(tf.concat(last, 0) as tf.Tensor2D));
    try {
      await turns.next();
    } catch (error) {
      logits.dispose();
      throw error;
    }
    return logits;
  } finally {
    tf.dispose([last.filter(Boolean), images?.embeddings ?? []]);
  }
}

const isPart = ({visionMask}: Prompt, t: number): boolean => visionMask?.[t] ?? false;

/** The last position, at or before `position`, that is not inside an image. */
export function outsideImage(prompt: Prompt, position: number): number {
  while (position > 0 && isPart(prompt, position - 1) && isPart(prompt, position)) position -= 1;
  return position;
}

/** Where the piece that begins at `start` ends: within `chunk` tokens, or after an image that is longer. */
function endOfPiece(prompt: Prompt, start: number, chunk: number): number {
  const {length} = prompt.tokens;
  if (start + chunk >= length) return length;
  const end = outsideImage(prompt, start + chunk);
  if (end > start) return end;
  let next = start + chunk;
  while (next < length && isPart(prompt, next)) next += 1;
  return next;
}

/** Tokens `starts[row]` … `ends[row]` − 1 of each prompt. */
function pieceOf(
  prompts: readonly Prompt[],
  starts: readonly number[],
  ends: readonly number[],
  images: ImageTokens | undefined,
): NewTokens {
  const counts = ends.map((end, row) => end - starts[row]!);
  const length = Math.max(...counts);
  const cut = (values: readonly number[], row: number, fill: number): number[] => {
    const kept = values.slice(starts[row], ends[row]);
    return [...kept, ...Array<number>(length - kept.length).fill(fill)];
  };
  const rows = prompts.map(({tokens}, row) => cut(tokens, row, 0));
  const parts = images?.parts.map((row, i) => cut(row, i, -1));
  // A piece without images takes the fast path.
  const any = parts?.some(row => row.some(part => part >= 0));
  return {rows, counts, ...(images && any && {images: {embeddings: images.embeddings, parts: parts!}})};
}

/**
 * Encodes the images that are not in the cache yet, and maps each token of the prompts to the part it stands for.
 * Returns undefined for text only. The caller disposes `embeddings`.
 */
async function encodeRest(
  decoder: Decoder,
  prompts: readonly Prompt[],
  starts: readonly number[],
  turns: Turns,
): Promise<ImageTokens | undefined> {
  let next = 0;
  const rest: tf.Tensor4D[] = [];
  const parts = prompts.map(({images, visionMask = []}, row) => {
    const seen = visionMask.slice(0, starts[row]).filter(Boolean).length;
    const all = visionMask.filter(Boolean).length;
    const count = images?.shape[0] ?? 0;
    if (count > 0) {
      // All images have the same number of parts, and a cache holds only whole images.
      const skipped = Math.round((seen / all) * count) || 0;
      if (skipped < count) rest.push(tf.slice(images!, skipped));
    }
    return visionMask.map((part, t) => (part && t >= starts[row]! ? next++ : -1));
  });
  if (rest.length === 0 && next === 0) return undefined;
  const embeddings = await encoded(decoder, rest, turns);
  if (next === embeddings.shape[0]) return {embeddings, parts};
  const received = embeddings.shape[0];
  embeddings.dispose();
  throw new ValueError(
    `Expected one token for each part of an image. Received: ${received} parts in ${rest.length} tensors of images, and ` +
      `${next} tokens for them in visionMask. Increase maxLength if it cuts an image.`,
  );
}

/** The parts of images, which are disposed. */
async function encoded(decoder: Decoder, images: tf.Tensor4D[], turns: Turns): Promise<tf.Tensor2D> {
  const all = images.length ? (tf.tidy(() => tf.concat(images, 0)) as tf.Tensor4D) : undefined;
  tf.dispose(images);
  if (!all) return tf.zeros([0, 1]);
  try {
    return await (decoder.encodeSteps ? turns.run(decoder.encodeSteps(all)) : decoder.encodeImages(all));
  } finally {
    all.dispose();
  }
}

/** The hidden states of new tokens, in steps if the model has any. */
function* stepsOf<C extends DecoderCache>(
  decoder: Decoder<C>,
  tokens: NewTokens,
  cache: C,
): Generator<void, tf.Tensor3D> {
  if (decoder.hiddenSteps) return yield* decoder.hiddenSteps(tokens, cache);
  return decoder.hiddenStates(tokens, cache);
}
