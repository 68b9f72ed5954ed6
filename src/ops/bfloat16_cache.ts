/** Keys and values of a cache as bfloat16: (B, S, K, H) as int32 words (B, S, K, H / 2), low halves first. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';

const NAME = 'Gemma3PackBfloat16';

/**
 * Zeros of the shape (B, S, K, H).
 *
 * @throws ValueError for an odd H, and on a backend that cannot store bfloat16.
 */
export function bfloat16Zeros([...shape]: [number, number, number, number]): tf.Tensor4D {
  const backend = tf.getBackend();
  if (!tf.getKernel(NAME, backend) || shape[3] % 2) {
    throw new ValueError(
      'Expected another backend, or an even `headDim`, for keys and values as bfloat16. ' +
        `Received: "${backend}", headDim=${shape[3]}. Leave them float32.`,
    );
  }
  shape[3] /= 2;
  return tf.zeros(shape, 'int32');
}

/** Rounds float32 keys or values (B, S, K, H) to nearest, ties to even. Only for backends that have a kernel. */
export const packBfloat16 = (x: tf.Tensor4D): tf.Tensor4D => tf.engine().runKernel(NAME, {x}) as tf.Tensor4D;
