/** Penalties on tokens that a text has already. They are few: their logits alone are changed, where the logits are. */
import type * as tf from '@tensorflow/tfjs';
import {penalizeTokens} from '../../ops/penalize';
import {type RowText} from '../decoder';

export interface Penalties {
  /**
   * Logits of tokens in prompt and new text are divided by this where positive, multiplied where negative; Keskar et al.,
   * https://arxiv.org/abs/1909.05858. Above 1 repeats less, 1, the default, changes nothing.
   */
  repetitionPenalty: number;
  /** Subtracted from logits of tokens in the new text. Defaults to 0. */
  presencePenalty: number;
  /** The same, times how often the token is there. Defaults to 0. */
  frequencyPenalty: number;
}

export function hasPenalties({repetitionPenalty, presencePenalty, frequencyPenalty}: Penalties): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** Logits (B, V) → new ones, those of tokens that the rows have being changed. */
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
