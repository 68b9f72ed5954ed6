/** The largest logits of each row, so that the others need not be read. No gradient. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type TopKAttrs = {
  /** At most the number of columns. */
  k: number;
};

/** The largest finite float32. */
const LARGEST = (2 - 2 ** -23) * 2 ** 127;

/**
 * x: (rows, columns) → (rows, 2, k): the k largest values of each row, largest first, then their indices as float32,
 * which holds them exactly up to 2²⁴. Among equals the lower index comes first. If a row has a NaN, its first value is
 * NaN, and the others have no meaning.
 */
export const topKOp: Op<{x: tf.Tensor}, TopKAttrs> = {
  name: 'Gemma3TopK',
  reference: ({x}, {k}) =>
    tf.tidy(() => {
      // tfjs' topk compares values by their difference, which for two infinities is NaN. It then loses values.
      const {indices} = tf.topk(tf.clipByValue(x, -LARGEST, LARGEST), k);
      const values = tf.gather(x, indices, 1, 1);
      const invalid = tf.any(tf.isNaN(x), -1, true);
      return tf.stack([tf.where(invalid, tf.scalar(NaN), values), tf.cast(indices, 'float32')], 1);
    }),
};

export function topK(x: tf.Tensor2D, k: number): tf.Tensor3D {
  return runOp(topKOp, {x}, {k}) as tf.Tensor3D;
}
