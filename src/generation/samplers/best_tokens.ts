/** Reads only the most probable tokens from the backend. */
import type * as tf from '@tensorflow/tfjs';
import {topK} from '../../ops/top_k';
import {unusableLogits} from './checked_tokens';

/** The most probable tokens of a row with their logits, best first. */
export interface BestTokens {
  values: number[];
  tokens: number[];
}

/**
 * The `count` most probable tokens of each row of logits (B, V), or all if there are fewer.
 *
 * @throws ValueError if a row has a NaN, or no logit above −Infinity.
 */
export async function bestTokens(logits: tf.Tensor2D, count: number): Promise<BestTokens[]> {
  const [rows, size] = logits.shape;
  const k = Math.min(count, size);
  const best = topK(logits, k);
  const numbers = await best.data();
  best.dispose();
  for (let row = 0; row < rows; row++) if (!(numbers[2 * row * k]! > -Infinity)) throw await unusableLogits(logits);
  const part = (from: number) => Array.from(numbers.subarray(from, from + k));
  return Array.from({length: rows}, (_, row) => ({values: part(2 * row * k), tokens: part((2 * row + 1) * k)}));
}

/** How many tokens are read first, and the factor by which that number grows. Usually the first ones are enough. */
export const FIRST_COUNT = 64;
export const GROWTH = 8;

/** Reads more and more of the most probable tokens, at most `limit`, until `convert` finds enough for every row. */
export async function bestUntil<T extends {enough: boolean}>(
  logits: tf.Tensor2D,
  limit: number,
  convert: (best: BestTokens, row: number) => T,
): Promise<T[]> {
  for (let count = Math.min(FIRST_COUNT, limit); ; count = Math.min(count * GROWTH, limit)) {
    const rows = (await bestTokens(logits, count)).map(convert);
    if (count === limit || rows.every(({enough}) => enough)) return rows;
  }
}
