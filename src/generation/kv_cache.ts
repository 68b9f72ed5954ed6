/** Keys and values of tokens seen before, for one decoder block. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../errors';
import {cacheUpdate} from '../ops/cache_update';

export interface KvCacheArgs {
  batch: number;
  /** Positions a row may reach. */
  maxLength: number;
  numKeyValueHeads: number;
  headDim: number;
  /** Keys at this distance are never seen again, so that only so many are kept; null keeps all. */
  window: number | null;
}

/** What a query attends over. */
export interface CachedKeys {
  /** (B, S, K, H) */
  k: tf.Tensor4D;
  v: tf.Tensor4D;
  /** int32 (1 or B, S); −1 where a place holds nothing. */
  keyPositions: tf.Tensor2D;
  /** True if the last T of the S keys are those just appended. */
  endsWithNew: boolean;
}

/**
 * A block of places for each row of the batch. Rows are independent: each has its own length, so prompts of different
 * lengths go on from their own ends. Blocks with full attention have a place for every position; blocks with a sliding
 * window have a ring of as many places as the window is wide: the token at position p rests at place p mod capacity.
 *
 * The cache owns two tensors of fixed size. Plain operations replace them, a kernel may write into them.
 */
export class KvCache {
  readonly capacity: number;
  readonly maxLength: number;
  /** Tokens seen so far, one number a row: the position of the next token. */
  readonly lengths: number[];
  private keys: tf.Tensor4D;
  private values: tf.Tensor4D;

  constructor({batch, maxLength, numKeyValueHeads, headDim, window}: KvCacheArgs) {
    this.maxLength = maxLength;
    this.capacity = Math.min(maxLength, window ?? maxLength);
    this.lengths = Array.from({length: batch}, () => 0);
    const shape: [number, number, number, number] = [batch, this.capacity, numKeyValueHeads, headDim];
    this.keys = tf.keep(tf.zeros(shape));
    this.values = tf.keep(tf.zeros(shape));
  }

  get batch(): number {
    return this.lengths.length;
  }

  /**
   * Takes T new tokens a row, of which the first `counts[row]` are real, and says what they attend over.
   *
   * @param k (B, T, K, H), @param v (B, T, K, H)
   * @throws ValueError if a row would pass `maxLength`, or the counts do not fit the tokens.
   */
  append(k: tf.Tensor4D, v: tf.Tensor4D, counts: readonly number[]): CachedKeys {
    const starts = [...this.lengths];
    const length = k.shape[1];
    this.check(k.shape[0], length, counts);
    const before = {k: this.keys, v: this.values, positions: this.positions()};
    const fresh = starts.every(start => start === 0);
    // Attending over old places and new tokens needs the places as they were: the ring may overwrite what is still seen.
    const history = length > 1 && !fresh;
    const old = history
      ? tf.tidy(() => [tf.mul(before.k, 1), tf.mul(before.v, 1)] as [tf.Tensor4D, tf.Tensor4D])
      : null;
    this.keys = this.replace(this.keys, k, starts, counts);
    this.values = this.replace(this.values, v, starts, counts);
    counts.forEach((count, row) => (this.lengths[row]! += count));
    if (length === 1) {
      const keyPositions = tf.tensor2d(this.positions(), [this.batch, this.capacity], 'int32');
      return {k: this.keys, v: this.values, keyPositions, endsWithNew: false};
    }
    const news = Array.from({length}, (_, t) => t);
    const newPositions = starts.map((start, row) => news.map(t => (t < counts[row]! ? start + t : -1)));
    if (!old) return {k, v, keyPositions: tf.tensor2d(newPositions, undefined, 'int32'), endsWithNew: true};
    const positions = newPositions.map((added, row) => [
      ...before.positions.subarray(row * this.capacity, (row + 1) * this.capacity),
      ...added,
    ]);
    return {
      k: tf.concat([old[0], k], 1),
      v: tf.concat([old[1], v], 1),
      keyPositions: tf.tensor2d(positions, undefined, 'int32'),
      endsWithNew: true,
    };
  }

  /**
   * One new token a row by a kernel that writes keys and values itself: into the places at position mod capacity, of rows
   * whose count is 1.
   *
   * @throws ValueError as `append`.
   */
  extend<T>(counts: readonly number[], write: (keys: tf.Tensor4D, values: tf.Tensor4D) => T): T {
    this.check(counts.length, 1, counts);
    const result = write(this.keys, this.values);
    counts.forEach((count, row) => (this.lengths[row]! += count));
    return result;
  }

  private check(batch: number, length: number, counts: readonly number[]): void {
    const fits = (count: number) => Number.isInteger(count) && count >= 0 && count <= length;
    if (batch !== this.batch || counts.length !== this.batch || !counts.every(fits)) {
      throw new ValueError(
        `Expected tokens for ${this.batch} rows, and for each row a count of new tokens from 0 to ${length}. ` +
          `Received: ${batch} rows, counts [${counts}].`,
      );
    }
    const over = this.lengths.findIndex((start, row) => start + counts[row]! > this.maxLength);
    if (over >= 0) {
      throw new ValueError(
        `The cache holds ${this.maxLength} positions. Received: ${counts[over]} tokens for row ${over}, which has ` +
          `${this.lengths[over]} already. Make the cache longer, or generate less.`,
      );
    }
  }

  /** Position of the token at each place of each row, −1 for none. */
  private positions(): Int32Array {
    const positions = new Int32Array(this.batch * this.capacity);
    this.lengths.forEach((length, row) => {
      const last = length - 1;
      for (let place = 0; place < this.capacity; place++) {
        const behind = (((last - place) % this.capacity) + this.capacity) % this.capacity;
        positions[row * this.capacity + place] = Math.max(-1, last - behind);
      }
    });
    return positions;
  }

  private replace(old: tf.Tensor4D, update: tf.Tensor4D, starts: number[], lengths: readonly number[]): tf.Tensor4D {
    const next = tf.keep(cacheUpdate(old, update, {starts, lengths}));
    old.dispose();
    return next;
  }

  dispose(): void {
    this.keys.dispose();
    this.values.dispose();
  }
}
