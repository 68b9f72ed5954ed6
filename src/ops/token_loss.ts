/** The cross-entropy of given tokens. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type TokenLossInputs = {
  /** (N, V) */
  logits: tf.Tensor;
  /** int32 (N), each below V. */
  targets: tf.Tensor;
};

/**
 * `−log softmax(logits)[target]`, (N). The targets are an input of the operation: its gradient reads them, and a tensor
 * that a gradient only closes over may be disposed by then.
 */
export const tokenLossOp: Op<TokenLossInputs, Record<string, never>> = {
  name: 'Gemma3TokenLoss',
  reference: ({logits, targets}) =>
    tf.tidy(() => {
      const indices = tf.stack([tf.range(0, logits.shape[0]!, 1, 'int32'), targets], 1);
      return tf.sub(tf.logSumExp(logits, -1), tf.gatherND(logits, indices));
    }),
  gradient: (dy, {logits, targets}) => ({
    // Probabilities minus one-hot targets.
    logits: () =>
      tf.tidy(() => {
        const oneHot = tf.oneHot(targets as tf.Tensor1D, logits.shape[1]!);
        return tf.mul(tf.sub(tf.softmax(logits as tf.Tensor2D), oneHot), tf.expandDims(dy, -1));
      }),
  }),
};

/**
 * Logits (…, V), targets int32 (…) → −log softmax(logits)[target], (…). Like Keras' sparse categorical cross-entropy
 * with `from_logits=True`.
 */
export function tokenLoss(logits: tf.Tensor, targets: tf.Tensor): tf.Tensor {
  return tf.tidy(() => {
    const rows = tf.reshape(logits, [-1, logits.shape.at(-1)!]);
    const flat = tf.reshape(tf.cast(targets, 'int32'), [-1]);
    return tf.reshape(runOp(tokenLossOp, {logits: rows, targets: flat}, {}), targets.shape);
  });
}
