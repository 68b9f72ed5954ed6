/** The cross-entropy of given tokens. */
import * as tf from '@tensorflow/tfjs';
import {type IndexRange} from '../base/checks';
import {checkIndexTensor} from '../weights/host_values';

/** The valid targets of a vocabulary of this size. */
export const targetRange = (size: number): IndexRange => ({
  what: 'target ids',
  limit: size,
  of: `since the vocabulary has ${size} tokens`,
  advice:
    'Take labels from the tokenizer of this model. To leave out tokens, give them the label 0 and, in training, the ' +
    'weight 0: other numbers, such as -100, have no meaning here.',
});

/**
 * Logits (…, V), targets int32 (…) → −log softmax(logits)[target], (…). Like Keras' sparse categorical cross-entropy
 * with `from_logits=True`.
 *
 * @throws ValueError for targets outside the vocabulary, on backends whose tensors the host can read.
 */
export function tokenLoss(logits: tf.Tensor, targets: tf.Tensor): tf.Tensor {
  const size = logits.shape.at(-1)!;
  checkIndexTensor(targets, targetRange(size));
  const loss = tf.customGrad((logits, save) => {
    const x = logits as tf.Tensor2D;
    (save as tf.GradSaveFunc)([x]);
    const rows = x.shape[0];
    const indices = tf.stack([tf.range(0, rows, 1, 'int32'), tf.reshape(targets, [rows])], 1);
    const value = tf.sub(tf.logSumExp(x, -1), tf.gatherND(x, indices));
    const gradFunc = (dy: tf.Tensor, [x]: tf.Tensor[]) => {
      // Probabilities minus one-hot targets.
      const dx = tf.sub(tf.softmax(x as tf.Tensor2D), tf.oneHot(tf.reshape(targets, [rows]).toInt(), size));
      return tf.mul(dx, tf.expandDims(dy, -1));
    };
    return {value, gradFunc: gradFunc as (dy: tf.Tensor, saved: tf.Tensor[]) => tf.Tensor};
  });
  return tf.tidy(() => tf.reshape(loss(tf.reshape(logits, [-1, size])), targets.shape));
}
