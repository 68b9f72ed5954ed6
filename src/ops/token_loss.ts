/** The cross-entropy of given tokens. */
import * as tf from '@tensorflow/tfjs';
import {type IndexRange} from '../base/checks';
import {checkIndexTensor} from '../weights/host_values';
import {type Op, runOp} from './op';

/** The valid targets of a vocabulary of this size. */
export const targetRange = (size: number): IndexRange => ({
  what: 'target ids',
  limit: size,
  of: `since the vocabulary has ${size} tokens`,
  advice:
    'Take labels from the tokenizer of this model. To leave out tokens, give them the label 0 and, in training, the ' +
    'weight 0: other numbers, such as -100, have no meaning here.',
});

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
 *
 * @throws ValueError for targets outside the vocabulary, on backends whose tensors the host can read.
 */
export function tokenLoss(logits: tf.Tensor, targets: tf.Tensor): tf.Tensor {
  checkIndexTensor(targets, targetRange(logits.shape.at(-1)!));
  return tf.tidy(() => {
    const rows = tf.reshape(logits, [-1, logits.shape.at(-1)!]);
    const flat = tf.reshape(tf.cast(targets, 'int32'), [-1]);
    return tf.reshape(runOp(tokenLossOp, {logits: rows, targets: flat}, {}), targets.shape);
  });
}
