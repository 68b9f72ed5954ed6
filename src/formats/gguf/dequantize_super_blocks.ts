/**
 * The "K" formats: super-blocks of 256 values in groups of 16 or 32. Each group has its own small integer scale, which
 * is multiplied by a scale of the super-block in half precision.
 */
import {type Dequantize, halfAt, signed} from './blocks';

/**
 * 16 groups of 16; scale · n − minimum, n of 2 bits. Layout: a byte per group (scale low, minimum high), 64 bytes of n,
 * scale, scale of the minima.
 */
const q2_k: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 84, o += 256) {
    const unit = halfAt(bytes, at + 80);
    const minimumUnit = halfAt(bytes, at + 82);
    for (let group = 0; group < 16; group++) {
      const packed = bytes[at + group]!;
      const scale = unit * (packed & 15);
      const minimum = minimumUnit * (packed >> 4);
      // 32 bytes hold 128 values: bits 0 and 1 of each the first 32, and so on.
      const from = at + 16 + (group >> 3) * 32 + (group & 1) * 16;
      const shift = ((group >> 1) & 3) * 2;
      for (let j = 0; j < 16; j++) out[o + group * 16 + j] = scale * ((bytes[from + j]! >> shift) & 3) - minimum;
    }
  }
};

/**
 * 16 groups of 16; scale · n, n of 3 bits from −4 on. Layout: 32 bytes of third bits, 64 bytes of the lower two, 12
 * bytes with scales of 6 bits, scale.
 */
const q3_k: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 110, o += 256) {
    const unit = halfAt(bytes, at + 108);
    for (let group = 0; group < 16; group++) {
      // Eight bytes hold the lower four bits of two scales each, four bytes the upper two bits of four each.
      const low = (bytes[at + 96 + (group & 7)]! >> (group >> 3 ? 4 : 0)) & 15;
      const high = (bytes[at + 104 + (group & 3)]! >> ((group >> 2) * 2)) & 3;
      const scale = unit * ((low | (high << 4)) - 32);
      const column = (group & 1) * 16;
      const from = at + 32 + (group >> 3) * 32 + column;
      const shift = ((group >> 1) & 3) * 2;
      const bit = group >> 1;
      for (let j = 0; j < 16; j++) {
        const two = (bytes[from + j]! >> shift) & 3;
        const third = (bytes[at + column + j]! >> bit) & 1;
        out[o + group * 16 + j] = scale * (third ? two : two - 4);
      }
    }
  }
};

/** The scale (low) and the minimum (high) of group 0 … 7 in 12 bytes that hold 6 bits of each: minimum · 64 + scale. */
function scaleAndMinimum(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return (bytes[at + group]! & 63) | ((bytes[at + 4 + group]! & 63) << 6);
  const lower = bytes[at + 4 + group]!;
  const scale = (lower & 15) | ((bytes[at + group - 4]! >> 6) << 4);
  const minimum = (lower >> 4) | ((bytes[at + group]! >> 6) << 4);
  return scale | (minimum << 6);
}

/** 8 groups of 32; scale · n − minimum, n of 4 bits. Layout: scale, scale of the minima, 12 bytes of both, 128 of n. */
const q4_k: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 144, o += 256) {
    const unit = halfAt(bytes, at);
    const minimumUnit = halfAt(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const both = scaleAndMinimum(bytes, at + 4, group);
      const scale = unit * (both & 63);
      const minimum = minimumUnit * (both >> 6);
      // 32 bytes hold two groups, one in each half of a byte.
      const from = at + 16 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) out[o + group * 32 + j] = scale * ((bytes[from + j]! >> shift) & 15) - minimum;
    }
  }
};

/** As Q4_K, with a fifth bit in 32 bytes before the nibbles: bit g of byte j belongs to value j of group g. */
const q5_k: Dequantize = (bytes, count, out) => {
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 176, o += 256) {
    const unit = halfAt(bytes, at);
    const minimumUnit = halfAt(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const both = scaleAndMinimum(bytes, at + 4, group);
      const scale = unit * (both & 63);
      const minimum = minimumUnit * (both >> 6);
      const from = at + 48 + (group >> 1) * 32;
      const shift = (group & 1) * 4;
      for (let j = 0; j < 32; j++) {
        const fifth = (bytes[at + 16 + j]! >> group) & 1;
        out[o + group * 32 + j] = scale * (((bytes[from + j]! >> shift) & 15) | (fifth << 4)) - minimum;
      }
    }
  }
};

/**
 * 16 groups of 16; scale · n, n of 6 bits from −32 on. Layout: 128 bytes of the lower four bits, 64 of the upper two, 16
 * scales of 8 bits with a sign, scale.
 */
const q6_k: Dequantize = (bytes, count, out) => {
  const integers = signed(bytes);
  for (let block = 0, at = 0, o = 0; block < count; block++, at += 210, o += 256) {
    const unit = halfAt(bytes, at + 208);
    for (let group = 0; group < 16; group++) {
      const scale = unit * integers[at + 192 + group]!;
      const half = group >> 3;
      // Of 128 values, 64 bytes hold the first half in their lower nibbles and the second in their upper ones.
      const quarter = (group >> 1) & 3;
      const column = (group & 1) * 16;
      const from = at + half * 64 + (quarter & 1) * 32 + column;
      const shift = (quarter >> 1) * 4;
      const upper = at + 128 + half * 32 + column;
      const upperShift = quarter * 2;
      for (let j = 0; j < 16; j++) {
        const low = (bytes[from + j]! >> shift) & 15;
        const high = (bytes[upper + j]! >> upperShift) & 3;
        out[o + group * 16 + j] = scale * ((low | (high << 4)) - 32);
      }
    }
  }
};

export const SUPER_BLOCKS: Readonly<Record<string, Dequantize>> = {
  Q2_K: q2_k,
  Q3_K: q3_k,
  Q4_K: q4_k,
  Q5_K: q5_k,
  Q6_K: q6_k,
};
