/** Quantized blocks as signed integers with a scale, for the types that consist of just these. */
import {halfAt, signed} from './blocks';

/** Blocks of 32 values. */
export interface IntegerType {
  /** The range of the integers. */
  readonly least: number;
  readonly largest: number;
  /** Writes 32 integers and one scale for each of `count` blocks. The first block begins at byte 0. */
  read(bytes: Uint8Array, count: number, integers: Int8Array, scales: Float32Array): void;
}

const q4_0: IntegerType = {
  least: -8,
  largest: 7,
  read: (bytes, count, integers, scales) => {
    for (let block = 0, at = 0, o = 0; block < count; block++, at += 18, o += 32) {
      scales[block] = halfAt(bytes, at);
      for (let j = 0; j < 16; j++) {
        const byte = bytes[at + 2 + j]!;
        integers[o + j] = (byte & 15) - 8;
        integers[o + 16 + j] = (byte >> 4) - 8;
      }
    }
  },
};

const q8_0: IntegerType = {
  least: -128,
  largest: 127,
  read: (bytes, count, integers, scales) => {
    const values = signed(bytes);
    for (let block = 0, at = 0; block < count; block++, at += 34) {
      scales[block] = halfAt(bytes, at);
      integers.set(values.subarray(at + 2, at + 34), block * 32);
    }
  },
};

const types: Readonly<Record<string, IntegerType>> = {Q4_0: q4_0, Q8_0: q8_0};

/** How a type holds integers; undefined for other types. */
export const integerType = (type: string): IntegerType | undefined =>
  Object.hasOwn(types, type) ? types[type] : undefined;
