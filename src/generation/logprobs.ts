/**
 * Log probabilities of tokens, computed from the model's own logits: before temperature, penalties and anything else
 * that a sampler applies.
 */
import * as tf from '@tensorflow/tfjs';
import {logWeight} from '../ops/row_numbers';
import {softmaxSums} from '../ops/sampling';
import {bestTokens} from './samplers/best_tokens';
import {unusableLogits} from './samplers/checked_tokens';

/** A token and its log probability. */
export interface TokenLogprob {
  /** Token id. */
  id: number;
  /** Natural logarithm of the probability. */
  logprob: number;
}

/** A chosen token and the most probable tokens at its position. */
export interface TokenLogprobs extends TokenLogprob {
  /** The most probable tokens, best first, including the chosen token if it is one of them. */
  top: TokenLogprob[];
}

/**
 * Log probabilities of chosen tokens.
 *
 * @param logits (N, V); the caller disposes them.
 * @param chosen tokens, and the row of the logits that each was chosen from.
 * @param count how many tokens go into `top`.
 * @throws ValueError if a row of the logits has a NaN, or no value above −Infinity.
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
  if (chosen.some(({row}) => !(sumValues[2 * row]! > -Infinity))) throw await unusableLogits(logits);
  const best = count > 0 ? await bestTokens(logits, count) : null;
  return chosen.map(({row, token}, i) => {
    const log = (logit: number) => logWeight(logit, sumValues[2 * row]!, 1) - Math.log(sumValues[2 * row + 1]!);
    const {values = [], tokens = []} = best?.[row] ?? {};
    return {
      id: token,
      logprob: log(pickedValues[i]!),
      top: tokens.map((id, rank) => ({id, logprob: log(values[rank]!)})),
    };
  });
}
