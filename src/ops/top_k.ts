/** The largest logits of each row, so that the others need not be read. No gradient. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type TopKAttrs = {
  /** At most the number of columns. */
  k: number;
};

/**
 * x: (rows, columns) → (rows, 2, k): the k largest values of each row, largest first, then their indices as float32,
 * which holds them exactly up to 2²⁴. Among equals the lower index comes first.
 */
export const topKOp: Op<{x: tf.Tensor}, TopKAttrs> = {
  name: 'Gemma3TopK',
  reference: ({x}, {k}) =>
    tf.tidy(() => {
      const {values, indices} = tf.topk(x, k);
      return tf.stack([values, tf.cast(indices, 'float32')], 1);
    }),
};

export function topK(x: tf.Tensor2D, k: number): tf.Tensor3D {
  return runOp(topKOp, {x}, {k}) as tf.Tensor3D;
}
