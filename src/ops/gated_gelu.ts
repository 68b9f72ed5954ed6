/** The gate of Gemma's feed-forward network: GELU in its tanh form (https://arxiv.org/abs/1606.08415) times a value. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type GatedGeluInputs = {gate: tf.Tensor; value: tf.Tensor};

const C = Math.sqrt(2 / Math.PI);

/** tanh(√(2/π) (x + 0.044715 x³)) */
const inner = (x: tf.Tensor) => tf.tanh(tf.mul(tf.add(x, tf.mul(tf.mul(x, tf.square(x)), 0.044715)), C));

/** `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, as `keras.activations.gelu(x, approximate=True)`. */
export function gelu(x: tf.Tensor): tf.Tensor {
  return tf.tidy(() => tf.mul(tf.mul(x, 0.5), tf.add(inner(x), 1)));
}

export const gatedGeluOp: Op<GatedGeluInputs, Record<string, never>> = {
  name: 'Gemma3GatedGelu',
  reference: ({gate, value}) => tf.tidy(() => tf.mul(gelu(gate), value)),
  gradient: (dy, {gate, value}) => ({
    gate: () =>
      tf.tidy(() => {
        const t = inner(gate);
        const slope = tf.mul(tf.add(tf.mul(tf.square(gate), 3 * 0.044715), 1), C);
        // d gelu = 0.5 (1 + t) + 0.5 x (1 - t²) · slope
        const derivative = tf.mul(tf.add(tf.add(t, 1), tf.mul(tf.mul(gate, tf.sub(1, tf.square(t))), slope)), 0.5);
        return tf.mul(tf.mul(dy, value), derivative);
      }),
    value: () => tf.tidy(() => tf.mul(dy, gelu(gate))),
  }),
};

/** `gelu(gate) · value`, elementwise over equal shapes. */
export function gatedGelu(gate: tf.Tensor, value: tf.Tensor): tf.Tensor {
  return runOp(gatedGeluOp, {gate, value}, {});
}
