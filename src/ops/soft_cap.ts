/** Soft capping of logits, as in Gemma 2 (https://arxiv.org/abs/2408.00118). */
import * as tf from '@tensorflow/tfjs';

/** `tanh(x / cap) · cap`; `x` itself when there is no cap. */
export function softCap(x: tf.Tensor, cap: number | null): tf.Tensor {
  return cap === null ? x : tf.tidy(() => tf.mul(tf.tanh(tf.div(x, cap)), cap));
}
