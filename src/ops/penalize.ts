/** Lowers the logits of a few tokens, for repetition penalties and the like. No gradient. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

/** The tokens to penalize in one row, without duplicates, and the number to subtract from the logit of each. */
export interface PenalizedTokens {
  tokens: readonly number[];
  losses: readonly number[];
}

type PenalizeAttrs = {
  /** One per row. */
  rows: readonly PenalizedTokens[];
  /** Before the subtraction, positive logits are divided by this and negative ones are multiplied by it. */
  factor: number;
};

export const penalizeOp: Op<{x: tf.Tensor}, PenalizeAttrs> = {
  name: 'Gemma3Penalize',
  reference: ({x}, {rows, factor}) =>
    tf.tidy(() => {
      const places = rows.flatMap(({tokens}, row) => tokens.map(token => [row, token]));
      if (places.length === 0) return tf.clone(x);
      const indices = tf.tensor2d(places, undefined, 'int32');
      const values = tf.gatherND(x, indices);
      const scaled = tf.where(tf.greater(values, 0), tf.div(values, factor), tf.mul(values, factor));
      const losses = tf.tensor1d(rows.flatMap(({losses}) => [...losses]));
      return tf.tensorScatterUpdate(x, indices, tf.sub(scaled, losses));
    }),
};

export function penalizeTokens(x: tf.Tensor2D, attrs: PenalizeAttrs): tf.Tensor2D {
  return runOp(penalizeOp, {x}, attrs) as tf.Tensor2D;
}
