/** The cross-entropy of tokens, with its gradient. */
import * as tf from '@tensorflow/tfjs';
import {tokenLoss} from '../../src/ops/token_loss';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

function plain(logits: tf.Tensor, targets: tf.Tensor): tf.Tensor {
  const logProbabilities = tf.sub(logits, tf.log(tf.sum(tf.exp(logits), -1, true)));
  const oneHot = tf.reshape(tf.oneHot(tf.reshape(tf.cast(targets, 'int32'), [-1]), logits.shape.at(-1)!), logits.shape);
  return tf.neg(tf.sum(tf.mul(logProbabilities, oneHot), -1));
}

onEachBackend(() => {
  disposeAfterEach();

  test.each([[[1]], [[6]], [[2, 3]]])('targets %j: values and gradients', shape => {
    const logits = tf.mul(normal([...shape, 7], 1), 3);
    // Targets of type float32 are converted inside of the differentiated function, and must last until the gradient.
    for (const dtype of ['int32', 'float32'] as const) {
      const targets = tf.cast(tf.randomUniform(shape, 0, 7, 'int32', 3), dtype);
      expectSameGradients(
        x => tokenLoss(x, targets),
        x => plain(x, targets),
        [logits],
      );
    }
  });

  test('large logits', () => {
    const logits = tf.tensor2d([[1e4, 0, -1e4]]);
    expect(tokenLoss(logits, tf.tensor1d([0], 'int32'))).toBeAllClose([0]);
    expect(tokenLoss(logits, tf.tensor1d([2], 'int32'))).toBeAllClose([2e4]);
  });
});
