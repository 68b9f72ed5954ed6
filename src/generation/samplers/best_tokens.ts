import type * as tf from '@tensorflow/tfjs';
import {topK} from '../../ops/top_k';

/** The most probable tokens of a row with their logits, best first. */
export interface BestTokens {
  values: number[];
  tokens: number[];
}

/** The `count` most probable tokens of each row of logits (B, V), or all if there are not so many. */
export async function bestTokens(logits: tf.Tensor2D, count: number): Promise<BestTokens[]> {
  const [rows, size] = logits.shape;
  const k = Math.min(count, size);
  const best = topK(logits, k);
  const numbers = await best.data();
  best.dispose();
  const part = (from: number) => Array.from(numbers.subarray(from, from + k));
  return Array.from({length: rows}, (_, row) => ({values: part(2 * row * k), tokens: part((2 * row + 1) * k)}));
}
