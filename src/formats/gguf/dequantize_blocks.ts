/**
 * Blocks of 32 values with one scale, and for some formats a minimum, in half precision. In all of them, byte j of the
 * nibbles holds value j in its low half and value 16 + j in its high half.
 */
import {type Dequantize, halfAt, signed} from './blocks';

/** scale · (n − 8), n of 4 bits. */
const q4_0: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 18, o += 32) {
    const scale = halfAt(bytes, at);
    for (let j = 0; j < 16; j++) {
      const byte = bytes[at + 2 + j]!;
      out[o + j] = scale * ((byte & 15) - 8);
      out[o + 16 + j] = scale * ((byte >> 4) - 8);
    }
  }
};

/** scale · n + minimum, n of 4 bits. */
const q4_1: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 20, o += 32) {
    const scale = halfAt(bytes, at);
    const minimum = halfAt(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const byte = bytes[at + 4 + j]!;
      out[o + j] = scale * (byte & 15) + minimum;
      out[o + 16 + j] = scale * (byte >> 4) + minimum;
    }
  }
};

/** The fifth bits of a block: bit j belongs to value j. */
const wordAt = (bytes: Uint8Array, at: number) =>
  bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);

/** scale · (n − 16), n of 5 bits. */
const q5_0: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 22, o += 32) {
    const scale = halfAt(bytes, at);
    const fifth = wordAt(bytes, at + 2);
    for (let j = 0; j < 16; j++) {
      const byte = bytes[at + 6 + j]!;
      out[o + j] = scale * (((byte & 15) | (((fifth >> j) & 1) << 4)) - 16);
      out[o + 16 + j] = scale * (((byte >> 4) | (((fifth >> (16 + j)) & 1) << 4)) - 16);
    }
  }
};

/** scale · n + minimum, n of 5 bits. */
const q5_1: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 24, o += 32) {
    const scale = halfAt(bytes, at);
    const minimum = halfAt(bytes, at + 2);
    const fifth = wordAt(bytes, at + 4);
    for (let j = 0; j < 16; j++) {
      const byte = bytes[at + 8 + j]!;
      out[o + j] = scale * ((byte & 15) | (((fifth >> j) & 1) << 4)) + minimum;
      out[o + 16 + j] = scale * ((byte >> 4) | (((fifth >> (16 + j)) & 1) << 4)) + minimum;
    }
  }
};

/** scale · n, n of 8 bits with a sign. */
const q8_0: Dequantize = (bytes, count, out) => {
  const integers = signed(bytes);
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 34, o += 32) {
    const scale = halfAt(bytes, at);
    for (let j = 0; j < 32; j++) out[o + j] = scale * integers[at + 2 + j]!;
  }
};

/** The 16 numbers of IQ4_NL, closer to each other around zero. */
const STEPS = Int8Array.of(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

/** scale · STEPS[n], n of 4 bits. */
const iq4_nl: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 18, o += 32) {
    const scale = halfAt(bytes, at);
    for (let j = 0; j < 16; j++) {
      const byte = bytes[at + 2 + j]!;
      out[o + j] = scale * STEPS[byte & 15]!;
      out[o + 16 + j] = scale * STEPS[byte >> 4]!;
    }
  }
};

export const SMALL_BLOCKS: Readonly<Record<string, Dequantize>> = {
  Q4_0: q4_0,
  Q4_1: q4_1,
  Q5_0: q5_0,
  Q5_1: q5_1,
  Q8_0: q8_0,
  IQ4_NL: iq4_nl,
};
