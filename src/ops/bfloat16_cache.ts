/** Keys and values of a cache as bfloat16: (B, S, K, H) as int32 words of two values, low half first, (B, S, K, H / 2). */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {unpackBfloat16} from './unpack';

const NAME = 'Gemma3PackBfloat16';

/**
 * Zeros of the shape (B, S, K, H).
 *
 * @throws ValueError for an odd H, and on a backend that cannot store them.
 */
export function bfloat16Zeros([...shape]: [number, number, number, number]): tf.Tensor4D {
  if (!tf.getKernel(NAME, tf.getBackend())) {
    throw new ValueError(
      `Expected a backend that stores keys and values as bfloat16. Received: "${tf.getBackend()}". Choose another one ` +
        'with `useBackend`, or leave them float32.',
    );
  }
  if (shape[3] % 2) throw new ValueError(`Expected an even \`headDim\` for bfloat16. Received: ${shape[3]}.`);
  shape[3] /= 2;
  return tf.zeros(shape, 'int32');
}

/** Rounds float32 keys or values (B, S, K, H) to nearest, ties to even. Only for backends that have a kernel. */
export const packBfloat16 = (x: tf.Tensor4D): tf.Tensor4D => tf.engine().runKernel(NAME, {x}) as tf.Tensor4D;

/** Keys or values (B, S, K, H) as float32, from either form. */
export function asFloat32<T extends tf.Tensor>(x: T): T {
  if (x.dtype !== 'int32') return x;
  const bits = tf.reshape(x, [-1, x.shape.at(-1)!]) as tf.Tensor2D;
  return tf.reshape(unpackBfloat16(bits), [...x.shape.slice(0, -1), -1]) as tf.Tensor as T;
}
