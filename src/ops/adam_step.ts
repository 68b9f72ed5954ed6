/** One Adam step (https://arxiv.org/abs/1412.6980) for one variable, which a kernel can do in a single pass. */
import * as tf from '@tensorflow/tfjs';
import {type Attributes, type Inputs, runSeveral, type SeveralOp} from './op';

/** All four have the same shape. */
export interface AdamStepInputs extends Inputs {
  variable: tf.Tensor;
  gradient: tf.Tensor;
  /** Running mean of the gradients. */
  momentum: tf.Tensor;
  /** Running mean of the squared gradients. */
  velocity: tf.Tensor;
}

export interface AdamStepAttrs extends Attributes {
  beta1: number;
  beta2: number;
  epsilon: number;
  /** The learning rate with Adam's bias correction, because both means start at 0. */
  alpha: number;
}

/** Returns the new variable, momentum and velocity. */
export const adamStepOp: SeveralOp<AdamStepInputs, AdamStepAttrs> = {
  name: 'Gemma3AdamStep',
  reference: ({variable, gradient, momentum, velocity}, {beta1, beta2, epsilon, alpha}) =>
    tf.tidy(() => {
      const m = tf.add(momentum, tf.mul(tf.sub(gradient, momentum), 1 - beta1));
      const v = tf.add(velocity, tf.mul(tf.sub(tf.square(gradient), velocity), 1 - beta2));
      return [tf.sub(variable, tf.div(tf.mul(m, alpha), tf.add(tf.sqrt(v), epsilon))), m, v];
    }),
};

export function adamStep(
  inputs: AdamStepInputs,
  attrs: AdamStepAttrs,
): [variable: tf.Tensor, momentum: tf.Tensor, velocity: tf.Tensor] {
  return runSeveral(adamStepOp, inputs, attrs) as [tf.Tensor, tf.Tensor, tf.Tensor];
}
