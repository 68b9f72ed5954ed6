/** How probable tokens were, by the model's own logits: before temperature, penalties and what else a sampler does. */
import * as tf from '@tensorflow/tfjs';
import {softmaxSums} from '../ops/sampling';
import {bestTokens} from './samplers/best_tokens';

export interface TokenLogprob {
  id: number;
  /** Natural logarithm of the probability. */
  logprob: number;
}

/** A token that was chosen, and the most probable in its place, best first: it is among them if it is that probable. */
export interface TokenLogprobs extends TokenLogprob {
  top: TokenLogprob[];
}

/** @param chosen tokens, and from which row of logits (N, V) each was chosen; @param count how many go into `top`. */
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
