/** Writes new keys or values into a cache, which is a ring buffer. */
import * as tf from '@tensorflow/tfjs';
import {type Attributes, type Op, runOp} from './op';

export interface CacheUpdateAttrs extends Attributes {
  /** Position of the first new token, one per row. */
  starts: readonly number[];
  /** Number of new tokens that are not padding, one per row. */
  lengths: readonly number[];
}

/**
 * cache: (B, C, K, H), update: (B, T, K, H), both float32 or int32 → (B, C, K, H): the token at position p is stored
 * at index p mod C. If there are more than C new tokens, only the last C are kept. No gradient: caches are used only in
 * generation.
 *
 * A kernel may update the cache in place and return it, so the caller must not use the old tensor afterwards.
 */
export const cacheUpdateOp: Op<{cache: tf.Tensor; update: tf.Tensor}, CacheUpdateAttrs> = {
  name: 'Gemma3CacheUpdate',
  reference: ({cache, update}, {starts, lengths}) =>
    tf.tidy(() => {
      const [batch, capacity, keyHeads, headDim] = cache.shape as [number, number, number, number];
      const [, length] = update.shape as [number, number];
      const from: number[] = [];
      const to: [number][] = [];
      for (let row = 0; row < batch; row++) {
        for (let t = Math.max(0, lengths[row]! - capacity); t < lengths[row]!; t++) {
          from.push(row * length + t);
          to.push([row * capacity + ((starts[row]! + t) % capacity)]);
        }
      }
      const width = keyHeads * headDim;
      // A copy: the CPU backend's scatter writes into its input.
      const places = tf.reshape(tf.mul(cache, tf.scalar(1, cache.dtype as 'int32')), [batch * capacity, width]);
      if (from.length === 0) return tf.reshape(places, cache.shape);
      const rows = tf.gather(tf.reshape(update, [batch * length, width]), tf.tensor1d(from, 'int32'));
      return tf.reshape(tf.tensorScatterUpdate(places, tf.tensor2d(to, undefined, 'int32'), rows), cache.shape);
    }),
};

export function cacheUpdate(cache: tf.Tensor4D, update: tf.Tensor4D, attrs: CacheUpdateAttrs): tf.Tensor4D {
  return runOp(cacheUpdateOp, {cache, update}, attrs) as tf.Tensor4D;
}
