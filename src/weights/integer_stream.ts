/** Values that files store as integers times a scale, so that packing them needs no rounding. */

/** Values that share a scale. */
export const INTEGER_BLOCK = 32;

/** Integers in blocks of `INTEGER_BLOCK`, with the scale of each. */
export interface IntegerBlocks {
  readonly integers: Int8Array;
  readonly scales: Float32Array;
}

/** Reads the integers of one stored tensor, in logical order. */
export interface IntegerStream {
  /** All integers are in this range. */
  readonly least: number;
  readonly largest: number;
  /**
   * `count` integers from element `start` on. Both are multiples of `INTEGER_BLOCK`. The next call reuses the
   * arrays.
   */
  readIntegers(start: number, count: number): Promise<IntegerBlocks>;
}

/** A matrix that is being packed from integers. */
export interface IntegerTarget {
  /** Every piece except the last must be a multiple of this many rows. */
  readonly multiple: number;
  /** Takes `count` rows, beginning with row `first`. The arrays are not kept. */
  place(blocks: IntegerBlocks, first: number, count: number): void;
}
