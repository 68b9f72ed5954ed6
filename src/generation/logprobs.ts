/**
 * Log probabilities of tokens by the model's own logits, before temperature, penalties and anything else a sampler
 * does.
 */
import * as tf from '@tensorflow/tfjs';
import {softmaxSums} from '../ops/sampling';
import {bestTokens} from './samplers/best_tokens';

export interface TokenLogprob {
  id: number;
  /** Natural logarithm of the probability. */
  logprob: number;
}

/**
 * A chosen token and the most probable tokens at its position, best first. They include the chosen one if it is among
 * the best.
 */
export interface TokenLogprobs extends TokenLogprob {
  top: TokenLogprob[];
}

/**
 * @param chosen tokens, and the row of logits (N, V) that each was chosen from.
 * @param count how many tokens go into `top`.
 */
export async function tokenLogprobs(
  logits: tf.Tensor2D,
  chosen: readonly {row: number; token: number}[],
  count: number,
): Promise<TokenLogprobs[]> {
  if (chosen.length === 0) return [];
  const [sums, picked] = tf.tidy(() => {
    const places = chosen.map(({row, token}) => [row, token]);
    return [softmaxSums(logits, 1), tf.gatherND(logits, tf.tensor2d(places, undefined, 'int32'))] as const;
  });
  const [sumValues, pickedValues] = await Promise.all([sums.data(), picked.data()]);
  tf.dispose([sums, picked]);
  const best = count > 0 ? await bestTokens(logits, count) : null;
  return chosen.map(({row, token}, i) => {
    const log = (logit: number) => logit - sumValues[2 * row]! - Math.log(sumValues[2 * row + 1]!);
    const {values = [], tokens = []} = best?.[row] ?? {};
    return {
      id: token,
      logprob: log(pickedValues[i]!),
      top: tokens.map((id, rank) => ({id, logprob: log(values[rank]!)})),
    };
  });
}
