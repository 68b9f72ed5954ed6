/** Layer normalization, https://arxiv.org/abs/1607.06450, over the last axis. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runGradient, runOp} from './op';

type LayerNormInputs = {x: tf.Tensor; gamma: tf.Tensor; beta: tf.Tensor};
type LayerNormAttrs = {epsilon: number};

/** `normed` (…, D) has mean 0 and variance 1 along the last axis; `inverse` (…, 1) is 1 / sqrt(variance + epsilon). */
function normalize(x: tf.Tensor, epsilon: number): {normed: tf.Tensor; inverse: tf.Tensor} {
  const centred = tf.sub(x, tf.mean(x, -1, true));
  const inverse = tf.rsqrt(tf.add(tf.mean(tf.square(centred), -1, true), epsilon));
  return {normed: tf.mul(centred, inverse), inverse};
}

const sumRows = (x: tf.Tensor) => tf.sum(tf.reshape(x, [-1, x.shape.at(-1)!]), 0);

/** Gradient for x. */
export const layerNormGradientXOp: Op<{dy: tf.Tensor; x: tf.Tensor; gamma: tf.Tensor}, LayerNormAttrs> = {
  name: 'Gemma3LayerNormGradientX',
  reference: ({dy, x, gamma}, {epsilon}) =>
    tf.tidy(() => {
      const {normed, inverse} = normalize(x, epsilon);
      const dNormed = tf.mul(dy, gamma);
      // Mean and variance depend on x: the parts of the gradient that would shift or stretch all of x are removed.
      const shift = tf.mean(dNormed, -1, true);
      const stretch = tf.mul(normed, tf.mean(tf.mul(dNormed, normed), -1, true));
      return tf.mul(inverse, tf.sub(tf.sub(dNormed, shift), stretch));
    }),
};

/** Gradient for gamma. */
export const layerNormGradientGammaOp: Op<{dy: tf.Tensor; x: tf.Tensor}, LayerNormAttrs> = {
  name: 'Gemma3LayerNormGradientGamma',
  reference: ({dy, x}, {epsilon}) => tf.tidy(() => sumRows(tf.mul(dy, normalize(x, epsilon).normed))),
};

export const layerNormOp: Op<LayerNormInputs, LayerNormAttrs> = {
  name: 'Gemma3LayerNorm',
  reference: ({x, gamma, beta}, {epsilon}) => tf.tidy(() => tf.add(tf.mul(normalize(x, epsilon).normed, gamma), beta)),
  gradient: (dy, {x, gamma}, attrs) => ({
    x: () => runGradient(layerNormGradientXOp, {dy, x, gamma}, attrs),
    gamma: () => runGradient(layerNormGradientGammaOp, {dy, x}, attrs),
    beta: () => tf.tidy(() => sumRows(dy)),
  }),
};

/**
 * `(x - mean) / sqrt(variance + epsilon) · gamma + beta` over the last axis.
 *
 * x: (…, D), gamma and beta: (D) → (…, D).
 */
export function layerNorm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: number): tf.Tensor {
  return runOp(layerNormOp, {x, gamma, beta}, {epsilon});
}
