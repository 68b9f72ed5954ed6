/** Root mean square normalization, https://arxiv.org/abs/1910.07467, with Gemma's `1 + scale`. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runGradient, runOp} from './op';

type RmsNormInputs = {x: tf.Tensor; scale: tf.Tensor};
type RmsNormAttrs = {epsilon: number};

const inverseRms = (x: tf.Tensor, epsilon: number) => tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon));

/** Gradient for x. */
export const rmsNormGradientXOp: Op<{dy: tf.Tensor; x: tf.Tensor; scale: tf.Tensor}, RmsNormAttrs> = {
  name: 'Gemma3RmsNormGradientX',
  reference: ({dy, x, scale}, {epsilon}) =>
    tf.tidy(() => {
      const inverse = inverseRms(x, epsilon);
      const normed = tf.mul(x, inverse);
      const dNormed = tf.mul(dy, tf.add(scale, 1));
      return tf.mul(inverse, tf.sub(dNormed, tf.mul(normed, tf.mean(tf.mul(dNormed, normed), -1, true))));
    }),
};

/** Gradient for scale. */
export const rmsNormGradientScaleOp: Op<{dy: tf.Tensor; x: tf.Tensor}, RmsNormAttrs> = {
  name: 'Gemma3RmsNormGradientScale',
  reference: ({dy, x}, {epsilon}) =>
    tf.tidy(() => tf.sum(tf.reshape(tf.mul(dy, tf.mul(x, inverseRms(x, epsilon))), [-1, x.shape.at(-1)!]), 0)),
};

export const rmsNormOp: Op<RmsNormInputs, RmsNormAttrs> = {
  name: 'Gemma3RmsNorm',
  reference: ({x, scale}, {epsilon}) => tf.tidy(() => tf.mul(tf.mul(x, inverseRms(x, epsilon)), tf.add(scale, 1))),
  gradient: (dy, {x, scale}, attrs) => ({
    x: () => runGradient(rmsNormGradientXOp, {dy, x, scale}, attrs),
    scale: () => runGradient(rmsNormGradientScaleOp, {dy, x}, attrs),
  }),
};

/** `x / sqrt(mean(x²) + epsilon) · (1 + scale)` over the last axis. x: (…, D), scale: (D) → (…, D). */
export function rmsNorm(x: tf.Tensor, scale: tf.Tensor, epsilon: number): tf.Tensor {
  return runOp(rmsNormOp, {x, scale}, {epsilon});
}
