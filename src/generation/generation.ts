/**
 * Generation on token ids. Knows the model only through `Decoder`. The loop itself is `Sampler.steps`; this file holds
 * its state.
 */
import type * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';
import {ValueError} from '../base/errors';
import {type Decoder, type DecoderCache, type OnHidden, type Prompt, type RowText} from './decoder';
import {type Ending, type FinishReason} from './ending';
import {type TokenLogprobs, tokenLogprobs} from './logprobs';
import {prefill, type PrefillOptions} from './prefill';

/** A request for generation on token ids. Each prompt becomes a row. */
export interface GenerationRequest extends Omit<PrefillOptions, 'onHidden'> {
  /** At least one prompt. */
  prompts: readonly Prompt[];
  /** Length at which a row ends, including its prompt. */
  maxLength: number;
  /** Number of new tokens at which a row ends before that. Left out: no such limit. */
  maxNewTokens?: number;
  /** A row ends after any of these tokens. Null: rows end only at `maxLength`. */
  stopTokenIds: readonly number[] | null;
  /** Runs the loop: yields what each step adds to the rows, through {@link Generation.give}. */
  sampler: {steps(generation: Generation): AsyncGenerator<Step, void>};
  /** Called after each new token of a row that has not ended; returning true ends the row. */
  hasEnded?: (row: number) => boolean;
  /** Called for each row when the generation ends or is aborted, but not when it fails. */
  onFinish?: (ending: Ending, row: number) => void;
  /** Report the log probability of each token, and of this many of the most probable ones. Left out: no report. */
  logprobs?: number;
}

/** The tokens that one step adds to the rows. */
export interface Step {
  /** One per row: a token, or null for a row that has ended or gets none in this step. */
  tokens: (number | null)[];
  /** Log probabilities of the same tokens, if the request has `logprobs`. */
  logprobs?: (TokenLogprobs | null)[];
}

/** The tokens of a row, and whether it has ended. */
export interface Row extends RowText {
  readonly tokens: number[];
  /** Number of tokens at which the row ends. */
  readonly maxLength: number;
  done: boolean;
  /** Why the row has ended; left out as long as it has not. */
  finishReason?: FinishReason;
}

/** The state of a request, for samplers: its rows so far, and the conditions that end them. */
export class Generation {
  readonly rows: readonly Row[];

  constructor(
    readonly decoder: Decoder,
    readonly request: GenerationRequest,
  ) {
    this.rows = request.prompts.map(({tokens}) => {
      const {length} = tokens;
      const maxLength = Math.min(request.maxLength, length + (request.maxNewTokens ?? Infinity));
      return {tokens: [...tokens], promptLength: length, maxLength, done: length >= maxLength};
    });
  }

  get done(): boolean {
    return this.rows.every(row => row.done);
  }

  /**
   * Creates a cache for all rows; the caller disposes it.
   *
   * @param slack how many tokens `truncate` can always remove. Defaults to 0.
   * @param decoder the model that fills the cache. Defaults to the model that generates.
   */
  newCache(slack = 0, decoder = this.decoder): DecoderCache {
    const limits = this.rows.map(({maxLength}) => maxLength);
    return decoder.newCache(this.rows.length, Math.max(...limits, ...this.lengths), slack);
  }

  /** Number of tokens in each row, including its prompt. */
  get lengths(): number[] {
    return this.rows.map(({tokens}) => tokens.length);
  }

  /** Adds the prompts to a cache → logits (B, V) after the last token of each prompt. */
  readPrompts(
    cache: DecoderCache,
    {decoder = this.decoder, onHidden}: {decoder?: Decoder; onHidden?: OnHidden} = {},
  ): Promise<tf.Tensor2D> {
    const {prompts, prefillChunk, onPrefill, signal} = this.request;
    // A draft model reads the prompts as well, and must not report their progress twice.
    const reported = decoder === this.decoder ? {onPrefill} : {};
    return prefill(decoder, prompts, cache, {prefillChunk, onHidden, signal, ...reported});
  }

  /** Whether a row ends if `token` is its last token and `length` its number of tokens. */
  endsWith(token: number, length: number, row: number): boolean {
    return length >= this.rows[row]!.maxLength || (this.request.stopTokenIds?.includes(token) ?? false);
  }

  /** Log probabilities of tokens that were chosen from rows of logits; undefined if the request has no `logprobs`. */
  async logprobs(
    logits: tf.Tensor2D,
    chosen: readonly {row: number; token: number}[],
  ): Promise<TokenLogprobs[] | undefined> {
    const {logprobs: count} = this.request;
    return count === undefined ? undefined : tokenLogprobs(logits, chosen, count);
  }

  /**
   * Lets other code run. Call it once per pass: on synchronous backends an abort would otherwise never be noticed.
   *
   * @throws the signal's reason when aborted.
   */
  async turn(): Promise<void> {
    await nextTurn();
    this.request.signal?.throwIfAborted();
  }

  /** Yields a step, then adds it to the rows, even if the loop is left there. */
  async *give(step: Step): AsyncGenerator<Step, void> {
    try {
      yield step;
    } finally {
      step.tokens.forEach((token, i) => token !== null && this.add(i, token));
    }
  }

  private add(i: number, token: number): void {
    const row = this.rows[i]!;
    if (row.done) return;
    row.tokens.push(token);
    const {stopTokenIds, hasEnded} = this.request;
    if (stopTokenIds?.includes(token) || hasEnded?.(i)) row.finishReason = 'stop';
    else if (row.tokens.length >= row.maxLength) row.finishReason = 'length';
    row.done = row.finishReason !== undefined;
  }

  /** How each row has ended; rows that have not ended count as aborted. */
  get endings(): Ending[] {
    return this.rows.map(({tokens, promptLength, done, finishReason = done ? 'length' : 'aborted'}) => ({
      finishReason,
      usage: {promptTokens: promptLength, newTokens: tokens.length - promptLength},
    }));
  }
}

/**
 * Runs a request and yields the tokens that the sampler adds to the rows, step by step. Rows are independent: each
 * continues at the end of its own prompt, regardless of the lengths of the other prompts.
 *
 * @throws ValueError on an empty prompt; the signal's reason when aborted. The cache is freed in any case.
 */
export async function* generateSteps(decoder: Decoder, request: GenerationRequest): AsyncGenerator<Step, void> {
  const empty = request.prompts.findIndex(({tokens}) => tokens.length === 0);
  if (empty >= 0) {
    throw new ValueError(`Expected at least one token in each prompt. Received: none in row ${empty}.`);
  }
  const generation = new Generation(decoder, request);
  let failed = false;
  try {
    request.signal?.throwIfAborted();
    if (!generation.done) yield* request.sampler.steps(generation);
  } catch (error) {
    failed = !request.signal?.aborted;
    throw error;
  } finally {
    if (!failed) generation.endings.forEach((ending, row) => request.onFinish?.(ending, row));
  }
}

/** Only the tokens of each step. */
export async function* tokensOf(steps: AsyncGenerator<Step, void>): AsyncGenerator<(number | null)[], void> {
  for await (const {tokens} of steps) yield tokens;
}
