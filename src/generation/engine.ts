/**
 * Generation. Token ids in, token ids out: it knows no tokenizer and no model but by these few functions. Here is what is around
 * the loop, which is the sampler's: `Sampler.steps`.
 */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform';
import {ValueError} from '../errors';
import {type TokenLogprobs, tokenLogprobs} from './logprobs';
import {prefill, type PrefillOptions} from './prefill';
import {type RowText, type Sampler} from './samplers/sampler';

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

export interface GenerationRequest extends Omit<PrefillOptions, 'onHidden'> {
  /** At least one. */
  prompts: readonly Prompt[];
  /** Length at which a row ends, its prompt included. */
  maxLength: number;
  /** A row ends behind any of these; null: only at `maxLength`. */
  stopTokenIds: readonly number[] | null;
  sampler: Sampler;
  /** Asked about each row that goes on, after its new token was taken: true ends it. */
  hasEnded?: (row: number) => boolean;
  /** Tell how probable each token was, beside this many of the most probable. Left out: nothing of it. */
  logprobs?: number;
}

/** What a step adds to each row: a token, or null for rows that have ended or get none this time. */
export interface Step {
  tokens: (number | null)[];
  /** Of the same tokens, if the request has `logprobs`. */
  logprobs?: (TokenLogprobs | null)[];
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

/** A row under way. */
export interface Row extends RowText {
  readonly tokens: number[];
  done: boolean;
}

/** A request under way, for samplers: what its rows have so far, and where they end. */
export class Generation {
  readonly rows: readonly Row[];

  constructor(
    readonly decoder: Decoder,
    readonly request: GenerationRequest,
  ) {
    this.rows = request.prompts.map(({tokens}) => ({
      tokens: [...tokens],
      promptLength: tokens.length,
      done: tokens.length >= request.maxLength,
    }));
  }

  get done(): boolean {
    return this.rows.every(row => row.done);
  }

  newCache(slack = 0, decoder = this.decoder): DecoderCache {
    return decoder.newCache(this.rows.length, Math.max(this.request.maxLength, ...this.lengths), slack);
  }

  /** Tokens of each row, its prompt included. */
  get lengths(): number[] {
    return this.rows.map(({tokens}) => tokens.length);
  }

  /** Adds the prompts to a cache → logits (B, V) behind each. */
  readPrompts(
    cache: DecoderCache,
    {decoder = this.decoder, onHidden}: {decoder?: Decoder; onHidden?: OnHidden} = {},
  ): Promise<tf.Tensor2D> {
    const {prompts, prefillChunk, onPrefill, signal} = this.request;
    const told = decoder === this.decoder ? {onPrefill} : {};
    return prefill(decoder, prompts, cache, {prefillChunk, onHidden, signal, ...told});
  }

  /** Whether a row of this length ends with this token, its last. */
  endsWith(token: number, length: number): boolean {
    return length >= this.request.maxLength || (this.request.stopTokenIds?.includes(token) ?? false);
  }

  /** Log probabilities of tokens that were chosen from rows of logits, or undefined if nobody asked. */
  async logprobs(
    logits: tf.Tensor2D,
    chosen: readonly {row: number; token: number}[],
  ): Promise<TokenLogprobs[] | undefined> {
    const {logprobs: count} = this.request;
    return count === undefined ? undefined : tokenLogprobs(logits, chosen, count);
  }

  /** To be called once a pass: backends that compute at once never let other code run, so that nobody could abort. */
  async turn(): Promise<void> {
    await nextTurn();
    this.request.signal?.throwIfAborted();
  }

  /** Yields a step, and then adds it to the rows. */
  async *give(step: Step): AsyncGenerator<Step, void> {
    yield step;
    step.tokens.forEach((token, i) => {
      const row = this.rows[i]!;
      if (token === null || row.done) return;
      row.tokens.push(token);
      row.done = this.endsWith(token, row.tokens.length) || (this.request.hasEnded?.(i) ?? false);
    });
  }
}

/**
 * Yields, step by step, what the sampler adds to each row. Rows are independent: each goes on from the end of its own
 * prompt, whatever the lengths of the others.
 *
 * @throws ValueError on an empty prompt; what the signal says when it is aborted. The cache is freed in any case.
 */
export async function* generateSteps(decoder: Decoder, request: GenerationRequest): AsyncGenerator<Step, void> {
  const empty = request.prompts.findIndex(({tokens}) => tokens.length === 0);
  if (empty >= 0) {
    throw new ValueError(`Expected at least one token in each prompt. Received: none in row ${empty}.`);
  }
  request.signal?.throwIfAborted();
  const generation = new Generation(decoder, request);
  if (!generation.done) yield* request.sampler.steps(generation);
}

/** As {@link generateSteps}, the tokens alone. */
export async function* generateTokens(
  decoder: Decoder,
  request: GenerationRequest,
): AsyncGenerator<(number | null)[], void> {
  for await (const {tokens} of generateSteps(decoder, request)) yield tokens;
}
