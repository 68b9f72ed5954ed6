/** The gate of Gemma's feed-forward network: GELU in its tanh form (https://arxiv.org/abs/1606.08415) times a value. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runGradient, runOp} from './op';

type GatedGeluInputs = {gate: tf.Tensor; value: tf.Tensor};

const C = Math.sqrt(2 / Math.PI);

/** tanh(√(2/π) (x + 0.044715 x³)) */
const inner = (x: tf.Tensor) => tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(x, tf.square(x)), 0.044715)), C));

/** GELU without a gated value. */
export const geluOp: Op<{x: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3Gelu',
  reference: ({x}) => tf.tidy(() => tf.mul(tf.mul(x, 0.5), tf.add(inner(x), 1))),
  gradient: (dy, {x}) => ({x: () => runGradient(geluGradientOp, {dy, x}, {})}),
};

/** The gradient of GELU with respect to x, times the gated value if there is one. */
export const geluGradientOp: Op<{dy: tf.Tensor; x: tf.Tensor; value?: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3GeluGradient',
  reference: ({dy, x, value}) =>
    tf.tidy(() => {
      const t = inner(x);
      const slope = tf.mul(tf.add(tf.mul(tf.square(x), 3 * 0.044715), 1), C);
      // d gelu = 0.5 (1 + t) + 0.5 x (1 - t²) · slope
      const derivative = tf.mul(tf.add(tf.add(t, 1), tf.mul(tf.mul(x, tf.sub(1, tf.square(t))), slope)), 0.5);
      return tf.mul(value ? tf.mul(dy, value) : dy, derivative);
    }),
};

/** `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, like `keras.activations.gelu(x, approximate=True)`. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return runOp(geluOp, {x}, {});
}

export const gatedGeluOp: Op<GatedGeluInputs, Record<string, never>> = {
  name: 'Gemma3GatedGelu',
  reference: ({gate, value}) => tf.tidy(() => tf.mul(geluOp.reference({x: gate}, {}), value)),
  gradient: (dy, {gate, value}) => ({
    gate: () => runGradient(geluGradientOp, {dy, x: gate, value}, {}),
    value: () => gatedGelu(gate, dy),
  }),
};

/** `gelu(gate) · value`, elementwise over equal shapes. */
export function gatedGelu(gate: tf.Tensor, value: tf.Tensor): tf.Tensor {
  return runOp(gatedGeluOp, {gate, value}, {});
}
