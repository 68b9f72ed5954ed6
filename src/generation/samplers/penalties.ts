/** Penalties on tokens that a text already has. There are few of them, so the backend changes only their logits. */
import type * as tf from '@tensorflow/tfjs';
import {penalizeTokens} from '../../ops/penalize';
import {type TokenChoice} from '../../ops/token_program';
import {type RowText} from '../decoder';

/** How strongly a sampler avoids tokens that a text already has. */
export interface Penalties {
  /**
   * For tokens in the prompt and the new text, positive logits are divided by this and negative ones multiplied; Keskar
   * et al., https://arxiv.org/abs/1909.05858. Values above 1 reduce repetition; 1, the default, changes nothing.
   */
  repetitionPenalty: number;
  /** Subtracted from the logits of tokens in the new text. Defaults to 0. */
  presencePenalty: number;
  /** Subtracted from the logits of tokens in the new text, once per occurrence of the token. Defaults to 0. */
  frequencyPenalty: number;
}

/** Calls `run` with the logits after a sampler's penalties. */
export type WithPenalties = <T>(
  logits: tf.Tensor2D,
  rows: readonly RowText[] | undefined,
  run: (logits: tf.Tensor2D) => Promise<T>,
) => Promise<T>;

export function hasPenalties({repetitionPenalty, presencePenalty, frequencyPenalty}: Penalties): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** The largest float32. A larger number would become Infinity, and 0 times that is not a number. */
const MOST = 3.4028234663852886e38;
const inFloat32 = (x: number) => Math.min(MOST, Math.max(-MOST, x));

/** Penalties for a program of a backend; null for none. */
export function penaltiesInFloat32(penalties: Penalties): TokenChoice['penalties'] {
  if (!hasPenalties(penalties)) return null;
  const {repetitionPenalty, presencePenalty, frequencyPenalty} = penalties;
  return {
    factor: inFloat32(repetitionPenalty),
    presence: inFloat32(presencePenalty),
    frequency: inFloat32(frequencyPenalty),
  };
}

/** Logits (B, V) → logits (B, V) with penalties on the tokens of each row. */
export function penalize(logits: tf.Tensor2D, texts: readonly RowText[], penalties: Penalties): tf.Tensor2D {
  const {repetitionPenalty, presencePenalty, frequencyPenalty} = penalties;
  const rows = texts.map(({tokens, promptLength}) => {
    const counts = new Map<number, number>();
    tokens.forEach((token, at) => counts.set(token, (counts.get(token) ?? 0) + (at < promptLength ? 0 : 1)));
    const losses = [...counts.values()].map(count =>
      count > 0 ? inFloat32(presencePenalty + count * frequencyPenalty) : 0,
    );
    return {tokens: [...counts.keys()], losses};
  });
  return penalizeTokens(logits, {rows, factor: inFloat32(repetitionPenalty)});
}
