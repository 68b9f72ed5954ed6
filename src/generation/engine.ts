/** The loop of generation. Token ids in, token ids out: it knows no tokenizer and no model but by these few functions. */
import type * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform';
import {ValueError} from '../errors';
import {type Sampler} from './samplers';

/** What holds keys and values of all blocks. */
export interface DecoderCache {
  dispose(): void;
}

/** What the loop needs of a model. */
export interface Decoder<C extends DecoderCache = DecoderCache> {
  newCache(batch: number, maxLength: number): C;
  /**
   * Logits (B, V) behind the last real token of each row, and nothing else of the head.
   *
   * @param rows new tokens of each row, of equal length, padded behind `counts[row]`.
   */
  nextLogits(rows: readonly (readonly number[])[], counts: readonly number[], cache: C): tf.Tensor2D;
}

export interface GenerationRequest {
  /** Token ids of each prompt; at least one. */
  prompts: readonly (readonly number[])[];
  /** Length at which a row ends, its prompt included. */
  maxLength: number;
  /** A row ends behind any of these; null: only at `maxLength`. */
  stopTokenIds: readonly number[] | null;
  sampler: Sampler;
  signal?: AbortSignal;
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
  const empty = prompts.findIndex(prompt => prompt.length === 0);
  if (empty >= 0) {
    throw new ValueError(`Expected at least one token in each prompt. Received: none in row ${empty}.`);
  }
  signal?.throwIfAborted();
  const lengths = prompts.map(prompt => prompt.length);
  const done = lengths.map(length => length >= maxLength);
  if (done.every(Boolean)) return;

  const longest = Math.max(...lengths);
  let rows: readonly (readonly number[])[] = prompts.map(prompt => [
    ...prompt,
    ...Array.from({length: longest - prompt.length}, () => 0),
  ]);
  let counts = [...lengths];
  const cache = decoder.newCache(prompts.length, Math.max(maxLength, longest));
  try {
    while (!done.every(Boolean)) {
      const logits = decoder.nextLogits(rows, counts, cache);
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
      rows = tokens.map((token, row) => [done[row] ? 0 : token]);
      counts = done.map(ended => (ended ? 0 : 1));
    }
  } finally {
    cache.dispose();
  }
}
