/** Penalties on tokens that a text already has. These are few, so only their logits are changed, on the backend. */
import type * as tf from '@tensorflow/tfjs';
import {penalizeTokens} from '../../ops/penalize';
import {type RowText} from '../decoder';

export interface Penalties {
  /**
   * Positive logits of tokens in the prompt and the new text are divided by this, negative ones multiplied; Keskar et
   * al., https://arxiv.org/abs/1909.05858. Values above 1 repeat less; 1, the default, changes nothing.
   */
  repetitionPenalty: number;
  /** Subtracted from logits of tokens in the new text. Defaults to 0. */
  presencePenalty: number;
  /** The same, times the number of occurrences of the token. Defaults to 0. */
  frequencyPenalty: number;
}

export function hasPenalties({repetitionPenalty, presencePenalty, frequencyPenalty}: Penalties): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** Logits (B, V) → logits with penalties on the tokens of each row. */
export function penalize(logits: tf.Tensor2D, texts: readonly RowText[], penalties: Penalties): tf.Tensor2D {
  const {repetitionPenalty, presencePenalty, frequencyPenalty} = penalties;
  const rows = texts.map(({tokens, promptLength}) => {
    const counts = new Map<number, number>();
    tokens.forEach((token, at) => counts.set(token, (counts.get(token) ?? 0) + (at < promptLength ? 0 : 1)));
    const losses = [...counts.values()].map(count => (count > 0 ? presencePenalty + count * frequencyPenalty : 0));
    return {tokens: [...counts.keys()], losses};
  });
  return penalizeTokens(logits, {rows, factor: repetitionPenalty});
}
