/** Determines which image each token belongs to. */
import * as tf from '@tensorflow/tfjs';

/**
 * Numbers the runs of a vision mask: tokens of one run belong to one image.
 * [0, 1, 1, 0, 1] → [0, 1, 1, 0, 2]. (B, T) → int32 (B, T), 0 for text.
 */
export function imageNumbers(visionMask: tf.Tensor): tf.Tensor2D {
  return tf.tidy(() => {
    const mask = tf.cast(visionMask, 'int32') as tf.Tensor2D;
    const [batch, length] = mask.shape;
    const before = tf.slice(
      tf.pad(mask, [
        [0, 0],
        [1, 0],
      ]),
      [0, 0],
      [batch, length],
    );
    const starts = tf.cast(tf.greater(mask, before), 'int32');
    return tf.mul(mask, tf.cumsum(starts, 1)) as tf.Tensor2D;
  });
}
