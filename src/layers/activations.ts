/** Activations by their names in Keras and KerasHub. Several differ from tfjs' activations of the same name. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {gelu} from '../ops/gated_gelu';

export type Activation = (x: tf.Tensor) => tf.Tensor;

const ACTIVATIONS = {
  linear: x => x,
  relu: x => tf.relu(x),
  relu6: x => tf.relu6(x),
  elu: x => tf.elu(x),
  selu: x => tf.selu(x),
  sigmoid: x => tf.sigmoid(x),
  // The Keras 3 definition. tfjs has the one of Keras 2: clip(0.2 · x + 0.5, 0, 1).
  hard_sigmoid: x => tf.div(tf.relu6(tf.add(x, 3)), 6),
  silu: x => tf.mul(x, tf.sigmoid(x)),
  swish: x => tf.mul(x, tf.sigmoid(x)),
  softmax: x => tf.softmax(x),
  softplus: x => tf.softplus(x),
  softsign: x => tf.div(x, tf.add(tf.abs(x), 1)),
  tanh: x => tf.tanh(x),
  mish: x => tf.mul(x, tf.tanh(tf.softplus(x))),
  gelu: x => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
  gelu_approximate: gelu,
} satisfies Record<string, Activation>;

/** Names of activations, as in Keras; in camel case, too. */
export type ActivationName = keyof typeof ACTIVATIONS;

/**
 * Returns Keras' name of an activation, null for none. The name may be in snake case or camel case, because tfjs
 * changes the casing of strings in configs when it writes and reads JSON.
 *
 * @throws ValueError for an unknown name.
 */
export function activationName(owner: string, identifier: string | null | undefined): ActivationName | null {
  if (identifier == null) return null;
  const name = String(identifier).replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
  if (typeof identifier !== 'string' || !Object.hasOwn(ACTIVATIONS, name)) {
    throw new ValueError(
      `${owner} expected an activation, one of: ${Object.keys(ACTIVATIONS).join(', ')}; or null. ` +
        `Received: ${show(identifier)}.`,
    );
  }
  return name as ActivationName;
}

/** Applies the activation that `activationName` returned; null leaves `x` unchanged. */
export const activate = (name: ActivationName | null, x: tf.Tensor): tf.Tensor =>
  name === null ? x : ACTIVATIONS[name](x);
