/** Converts bfloat16 bits to float32 values. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

/** All 65,536 values of the format, indexed by their bits. Computed once. */
let values: Float32Array | undefined;
function bfloat16Values(): Float32Array {
  values ??= new Float32Array(Uint32Array.from({length: 65536}, (_, bits) => bits << 16).buffer);
  return values;
}

/**
 * tfjs has no shifts, but floor division and floor modulus split a word exactly, even a negative one, and a table maps
 * the halves to numbers. bits: (R, W) int32 → (R, 2 W) float32, low half first.
 */
export const unpackBfloat16Op: Op<{bits: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3UnpackBfloat16',
  reference: ({bits}) =>
    tf.tidy(() => {
      const [rows, words] = bits.shape as [number, number];
      const base = tf.scalar(65536, 'int32');
      const low = tf.cast(tf.mod(bits, base), 'int32');
      const high = tf.cast(tf.mod(tf.floorDiv(tf.sub(bits, low), base), base), 'int32');
      const index = tf.reshape(tf.stack([low, high], -1), [rows, words * 2]);
      return tf.gather(tf.tensor1d(bfloat16Values()), tf.cast(index, 'int32'));
    }),
};

export function unpackBfloat16(bits: tf.Tensor2D): tf.Tensor2D {
  return runOp(unpackBfloat16Op, {bits}, {}) as tf.Tensor2D;
}
