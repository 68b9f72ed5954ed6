/** Keys and values of tokens seen before, for one decoder block. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments, checkPositiveInteger} from '../base/checks';
import {OutOfMemoryError, ValueError} from '../base/errors';
import {bfloat16Zeros, packBfloat16} from '../ops/bfloat16_cache';
import {cacheUpdate} from '../ops/cache_update';

/** Arguments of {@link KvCache}. */
export interface KvCacheArgs {
  /** Number of rows. */
  batch: number;
  /** Largest number of tokens in a row. Memory is allocated only for existing tokens, with some room for more. */
  maxLength: number;
  /** Number of key and value heads, K. */
  numKeyValueHeads: number;
  /** Width of a head, H. */
  headDim: number;
  /** Keys at this distance or more are never seen, so only this many are kept. Null: all keys are kept. */
  window: number | null;
  /** Number of tokens that `truncate` can always remove: a ring has that many extra slots. Defaults to 0. */
  slack?: number;
  /** How keys and values are stored. bfloat16 takes half the memory; H must be even. Defaults to "float32". */
  dtype?: CacheDtype;
}

/** How keys and values of a cache are stored. */
export type CacheDtype = 'float32' | 'bfloat16';

const KEYS = ['batch', 'maxLength', 'numKeyValueHeads', 'headDim', 'window', 'slack', 'dtype'];

/** Slots per row of a new cache. */
const FIRST_CAPACITY = 256;

/** Where the keys and values of a block are stored, (B, C, K, H) each; for bfloat16 int32 (B, C, K, H / 2). */
export interface Slots {
  keys: tf.Tensor4D;
  values: tf.Tensor4D;
}

/** The keys and values that a query attends to. */
export interface CachedKeys {
  /** (B, S, K, H), or int32 (B, S, K, H / 2): see {@link Slots}. */
  k: tf.Tensor4D;
  /** As k. */
  v: tf.Tensor4D;
  /** Position of each key, int32 (1 or B, S); −1 for an empty slot. */
  keyPositions: tf.Tensor2D;
  /** Takes one number per appended token, int32 (B, T) → the same numbers in the order of the keys, (B, S); else 0. */
  layOut(numbers: tf.Tensor2D): tf.Tensor2D;
}

/**
 * Keys and values in slots; each row of the batch has its own slots and its own length, so prompts of different lengths
 * continue at their own ends. With full attention there is a slot for every position. With a sliding window the slots
 * are a ring as long as the window plus the slack: the token at position p is in slot p mod capacity.
 *
 * The cache owns two tensors, which tfjs operations replace; a kernel may write into them. They start small; when full,
 * they are copied into tensors of twice the size, up to `limit`. A cache is a ring only at its maximum size, so a ring
 * never grows.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class KvCache {
  /** Largest number of slots per row. */
  readonly limit: number;
  /** Largest number of tokens in a row. */
  readonly maxLength: number;
  private seen: number[];
  /**
   * The largest length of each row since it was last empty. Slots up to there may hold tokens that `truncate` removed.
   */
  private furthest: number[];
  private readonly slack: number;
  private keys: tf.Tensor4D;
  private values: tf.Tensor4D;

  constructor(args: KvCacheArgs) {
    checkArguments('KvCache', args, KEYS);
    const {batch, maxLength, numKeyValueHeads, headDim, window, slack = 0, dtype = 'float32'} = args;
    checkArgument('KvCache', 'dtype', dtype, 'cacheDtype');
    for (const [name, value] of Object.entries({batch, maxLength, numKeyValueHeads, headDim})) {
      checkPositiveInteger('KvCache', name, value);
    }
    checkArgument('KvCache', 'window', window, 'sizeOrNull');
    if (slack !== 0) checkPositiveInteger('KvCache', 'slack', slack);
    this.maxLength = maxLength;
    this.limit = window === null ? maxLength : Math.min(maxLength, window + slack);
    // Without a ring no slot is reused, so any number of tokens can be removed.
    this.slack = this.limit === maxLength ? maxLength : slack;
    this.seen = Array.from({length: batch}, () => 0);
    this.furthest = [...this.seen];
    const capacity = Math.min(this.limit, FIRST_CAPACITY);
    [this.keys, this.values] = pairOf(capacity, () => {
      const shape: [number, number, number, number] = [batch, capacity, numKeyValueHeads, headDim];
      return dtype === 'float32' ? tf.zeros(shape) : bfloat16Zeros(shape);
    });
  }

  /** Number of slots per row at present. */
  get capacity(): number {
    return this.keys.shape[1];
  }

  /**
   * Makes room for new tokens in each row, up to the limit. If it fails, nothing has changed. It runs for every block
   * and token, so it allocates nothing unless it must.
   */
  private reserve(counts: readonly number[]): void {
    let needed = 0;
    for (let row = 0; row < counts.length; row++) needed = Math.max(needed, this.seen[row]! + counts[row]!);
    let capacity = this.capacity;
    if (needed <= capacity || capacity === this.limit) return;
    while (capacity < needed && capacity < this.limit) capacity = Math.min(this.limit, 2 * capacity);
    const old = [this.keys, this.values] as const;
    // Before the cache becomes a ring, a token's slot is its position.
    [this.keys, this.values] = pairOf(capacity, i => withCapacity(capacity, old[i], this.seen));
    tf.dispose([...old]);
  }

  /** Number of tokens seen so far, per row: the position of the next token. */
  get lengths(): readonly number[] {
    return this.seen;
  }

  /** Number of rows. */
  get batch(): number {
    return this.seen.length;
  }

  /**
   * Adds T new tokens per row, of which the first `counts[row]` are real, and returns the keys they attend to.
   *
   * @param k (B, T, K, H)
   * @param v (B, T, K, H)
   * @throws ValueError if a row would exceed `maxLength`, or the counts do not match the tokens.
   */
  append(k: tf.Tensor4D, v: tf.Tensor4D, counts: readonly number[]): CachedKeys {
    const starts = [...this.lengths];
    const length = k.shape[1];
    this.check(k.shape[0], length, counts);
    this.reserve(counts);
    // Attention always uses the stored values, so that a text does not depend on the pieces in which it was read.
    if (this.keys.dtype === 'int32') [k, v] = [packBfloat16(k), packBfloat16(v)];
    const fresh = starts.every(start => start === 0);
    // Usually the new tokens are written first, and attention uses the slots directly. In a ring, the new tokens may
    // overwrite keys that the first of them still need; then the slots are copied before writing.
    const fits = starts.every((start, row) => start + counts[row]! <= this.capacity || counts[row]! <= this.slack + 1);
    const inPlace = length === 1 || (!fresh && fits);
    const before = fresh || inPlace ? null : this.joined(k, v);
    this.keys = this.replace(this.keys, k, starts, counts);
    this.values = this.replace(this.values, v, starts, counts);
    const oldPositions = this.positions();
    this.advance(counts);
    if (inPlace) return this.slots(length, starts);
    const newPositions = starts.map((start, row) =>
      Array.from({length}, (_, t) => (t < counts[row]! ? start + t : -1)),
    );
    if (!before) return {k, v, keyPositions: tf.tensor2d(newPositions, undefined, 'int32'), layOut: numbers => numbers};
    const positions = newPositions.map((added, row) => [
      ...oldPositions.subarray(row * this.capacity, (row + 1) * this.capacity),
      ...added,
    ]);
    return {
      ...before,
      keyPositions: tf.tensor2d(positions, undefined, 'int32'),
      layOut: numbers =>
        tf.pad(numbers, [
          [0, 0],
          [this.capacity, 0],
        ]),
    };
  }

  /** Copies of all slots, followed by the new keys and values. */
  private joined(k: tf.Tensor4D, v: tf.Tensor4D): Pick<CachedKeys, 'k' | 'v'> {
    const join = (slots: tf.Tensor4D, added: tf.Tensor4D) =>
      tf.tidy(() => {
        const [all, length] = [this.seen.map(() => this.capacity), added.shape[1]];
        const joined = withCapacity(this.capacity + length, slots, all);
        return cacheUpdate(joined, added, {starts: all, lengths: all.map(() => length)});
      });
    return {k: join(this.keys, k), v: join(this.values, v)};
  }

  /** The slots as they are, with the new tokens in them: up to `length` per row, from position `starts[row]` on. */
  private slots(length: number, starts: readonly number[]): CachedKeys {
    const positions = this.positions();
    return {
      k: this.keys,
      v: this.values,
      keyPositions: tf.tensor2d(positions, [this.batch, this.capacity], 'int32'),
      layOut: numbers =>
        tf.tidy(() => {
          const none = this.batch * length;
          const sources = positions.map((position, slot) => {
            const row = Math.floor(slot / this.capacity);
            return position < starts[row]! ? none : row * length + position - starts[row]!;
          });
          const all = tf.concat([tf.reshape(numbers, [-1]), tf.tensor1d([0], 'int32')]);
          return tf.reshape(tf.gather(all, tf.tensor1d(sources, 'int32')), [this.batch, this.capacity]);
        }),
    };
  }

  /**
   * Adds one new token to each row with a count of 1. `write` runs a kernel that stores the keys and values itself, in
   * slot position mod capacity of each row.
   *
   * @throws ValueError as `append`.
   */
  extend<T>(counts: readonly number[], write: (keys: tf.Tensor4D, values: tf.Tensor4D) => T): T {
    return KvCache.extendAll([this] as const, counts, ([{keys, values}]) => write(keys, values));
  }

  /**
   * `extend` for the caches of several blocks, with one kernel. If it fails, none of them has changed.
   *
   * @internal
   * @throws ValueError as `append`.
   */
  static extendAll<T, Caches extends readonly KvCache[]>(
    caches: Caches,
    counts: readonly number[],
    write: (slots: {[I in keyof Caches]: Slots}) => T,
  ): T {
    for (const cache of caches) {
      cache.check(counts.length, 1, counts);
      cache.reserve(counts);
    }
    const result = write(caches.map(({keys, values}) => ({keys, values})) as {[I in keyof Caches]: Slots});
    for (const cache of caches) cache.advance(counts);
    return result;
  }

  /**
   * Adds tokens that a program will store, one after another, in slot position mod capacity of each row. Returns the
   * tensors to store them in.
   *
   * @throws ValueError as `append`.
   */
  extendBy(counts: readonly number[]): {keys: tf.Tensor4D; values: tf.Tensor4D} {
    this.check(counts.length, Math.max(...counts), counts);
    this.reserve(counts);
    this.advance(counts);
    return {keys: this.keys, values: this.values};
  }

  private advance(counts: readonly number[]): void {
    this.seen = this.seen.map((length, row) => length + counts[row]!);
    this.furthest = this.furthest.map((length, row) => Math.max(length, this.seen[row]!));
  }

  /** Whether `truncate` to these lengths keeps everything that later tokens see. */
  canTruncate(lengths: readonly number[]): boolean {
    return (
      lengths.length === this.batch &&
      lengths.every((length, row) => {
        const fits = Number.isInteger(length) && length >= 0 && length <= this.seen[row]!;
        // A row that becomes empty needs none of its old keys.
        return fits && (length === 0 || this.furthest[row]! - length <= this.slack);
      })
    );
  }

  /**
   * Shortens each row to the given length: forgets its last tokens.
   *
   * @throws ValueError if a row has fewer tokens, or a ring has overwritten keys that later tokens would see.
   */
  truncate(lengths: readonly number[]): void {
    if (!this.canTruncate(lengths)) {
      throw new ValueError(
        `Expected lengths of ${this.batch} rows, at most [${this.seen}], and at most ${this.slack} tokens below the ` +
          `largest lengths so far, [${this.furthest}]. Received: [${lengths}]. ` +
          'Give the cache more `slack` when you create it, or start with a new cache.',
      );
    }
    this.seen = [...lengths];
    this.furthest = this.furthest.map((length, row) => (lengths[row] === 0 ? 0 : length));
  }

  /**
   * Replaces row i by a copy of the old row `rows[i]`, for samplers that follow several continuations. The number of
   * rows may change.
   *
   * @throws ValueError for rows that do not exist.
   */
  select(rows: readonly number[]): void {
    if (rows.length === 0 || !rows.every(row => Number.isInteger(row) && row >= 0 && row < this.batch)) {
      throw new ValueError(`Expected rows from 0 to ${this.batch - 1}, at least one. Received: [${rows}].`);
    }
    if (rows.length === this.batch && rows.every((row, i) => row === i)) return;
    const old = [this.keys, this.values] as const;
    [this.keys, this.values] = pairOf(this.capacity, i => tf.gather(old[i], tf.tensor1d([...rows], 'int32')));
    tf.dispose([...old]);
    this.seen = rows.map(row => this.seen[row]!);
    this.furthest = rows.map(row => this.furthest[row]!);
  }

  /** A separate cache with the same tokens. */
  copy(): KvCache {
    const copy = Object.create(KvCache.prototype) as KvCache;
    const old = [this.keys, this.values] as const;
    const [keys, values] = pairOf(this.capacity, i =>
      withCapacity(
        this.capacity,
        old[i],
        this.seen.map(() => this.capacity),
      ),
    );
    return Object.assign(copy, this, {seen: [...this.seen], furthest: [...this.furthest], keys, values});
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
        `Expected at most ${this.maxLength} tokens per row. Received: ${counts[over]} tokens for row ${over}, which ` +
          `already has ${this.lengths[over]}. Create a longer cache, or generate less.`,
      );
    }
  }

  /** Position of the token in each slot of each row, −1 for none. */
  private positions(): Int32Array {
    const {capacity} = this;
    const positions = new Int32Array(this.batch * capacity);
    this.lengths.forEach((length, row) => {
      const last = length - 1;
      for (let slot = 0; slot < capacity; slot++) {
        const age = (((last - slot) % capacity) + capacity) % capacity;
        positions[row * capacity + slot] = Math.max(-1, last - age);
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

/** A copy of the first `lengths[row]` slots of each row, with another capacity. The other slots are zero. */
function withCapacity(capacity: number, slots: tf.Tensor4D, lengths: readonly number[]): tf.Tensor4D {
  const [batch, , keyHeads, width] = slots.shape;
  const empty = tf.zeros<tf.Rank.R4>([batch, capacity, keyHeads, width], slots.dtype);
  return cacheUpdate(empty, slots, {starts: lengths.map(() => 0), lengths});
}

/** Advice when there is no memory for this many tokens in each row. */
function fewerTokens({figures: {bytes, largest}}: OutOfMemoryError, capacity: number): string {
  const fitting = bytes > largest ? `, and of ${Math.floor((capacity * largest) / bytes)} they fit` : '';
  return (
    `These are keys or values of one block for ${capacity} tokens in each row${fitting}. Pass a smaller \`maxLength\`, or ` +
    'fewer prompts at a time.'
  );
}

/**
 * Creates keys, then values, and keeps both. If the values cannot be created, the keys are disposed.
 *
 * @param capacity tokens in each row.
 */
function pairOf(capacity: number, create: (i: 0 | 1) => tf.Tensor4D): [keys: tf.Tensor4D, values: tf.Tensor4D] {
  const one = (i: 0 | 1) => {
    try {
      return tf.keep(tf.tidy(() => create(i)));
    } catch (error) {
      if (error instanceof OutOfMemoryError) throw new OutOfMemoryError(error.figures, fewerTokens(error, capacity));
      if (!(error instanceof RangeError)) throw error;
      // A typed array that is too large for this machine.
      throw new ValueError(
        `Expected memory for a cache of keys and values. Received: none is left (${error.message}). Generate a shorter text, ` +
          'or pass fewer prompts at a time.',
      );
    }
  };
  const keys = one(0);
  try {
    return [keys, one(1)];
  } catch (error) {
    keys.dispose();
    throw error;
  }
}
