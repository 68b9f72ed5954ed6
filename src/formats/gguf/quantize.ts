/**
 * Values of tensors in the number formats that are written, with the same bits as the Python package `gguf` and
 * llama.cpp's reference: arithmetic is float32, rounded after each step.
 */
import {float32ToBfloat16, float32ToFloat16} from '../../base/half';

/**
 * Writes whole blocks of values to `out`, from byte 0 on. Returns the place of the first value that the format cannot
 * hold, or in quantized formats that of its block; -1 if it holds them all.
 */
export type Quantize = (values: Float32Array, out: Uint8Array) => number;

/** Values of a block of Q8_0 and Q4_0. */
const BLOCK = 32;

const {abs, floor, fround, min, sign, trunc} = Math;

const sixteenBits =
  (round: (values: Float32Array, out: Uint16Array) => void): Quantize =>
  (values, out) => {
    const halves = new Uint16Array(values.length);
    round(values, halves);
    out.set(new Uint8Array(halves.buffer));
    return -1;
  };

const f32: Quantize = (values, out) => {
  out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return -1;
};

/** The largest number that is not rounded to infinity. */
const LARGEST_HALF = 65_519.996;

const toHalves = sixteenBits(float32ToFloat16);
const f16: Quantize = (values, out) => {
  toHalves(values, out);
  return values.findIndex(value => abs(value) > LARGEST_HALF && abs(value) !== Infinity);
};

/** Rounds ties away from zero, as C's `roundf`. */
function rounded(value: number): number {
  const size = abs(value);
  const below = floor(size);
  return sign(value) * (below + floor(2 * (size - below)));
}

/** The value of the largest size in a block, the first of several; NaN if there is one. */
function extreme(values: Float32Array, start: number): number {
  let found = values[start]!;
  for (let i = start + 1; i < start + BLOCK; i++) {
    const value = values[i]!;
    if (abs(value) > abs(found) || value !== value) found = value;
  }
  return found;
}

const scaleWord = {float: new Float32Array(1), half: new Uint16Array(1)};

/** Writes a scale in half precision. Returns false if half precision cannot hold it. */
function writeScale(scale: number, out: Uint8Array, at: number): boolean {
  const {float, half} = scaleWord;
  float[0] = scale;
  float32ToFloat16(float, half);
  out[at] = half[0]! & 255;
  out[at + 1] = half[0]! >> 8;
  return abs(scale) <= LARGEST_HALF;
}

/** 1 / scale; 0 for scales that are too small, in half precision 0 as well. */
function reciprocal(scale: number): number {
  const inverse = scale === 0 ? 0 : fround(1 / scale);
  return Number.isFinite(inverse) ? inverse : 0;
}

/** scale · n, n of 8 bits with a sign. */
const q8_0: Quantize = (values, out) => {
  let unfit = -1;
  for (let start = 0, at = 0; start < values.length; start += BLOCK, at += 34) {
    const scale = fround(abs(extreme(values, start)) / 127);
    if (!writeScale(scale, out, at) && unfit < 0) unfit = start;
    const inverse = reciprocal(scale);
    for (let j = 0; j < BLOCK; j++) out[at + 2 + j] = rounded(fround(values[start + j]! * inverse));
  }
  return unfit;
};

/** scale · (n − 8), n of 4 bits: byte j of a block holds value j in its low half and value 16 + j in its high half. */
const q4_0: Quantize = (values, out) => {
  let unfit = -1;
  for (let start = 0, at = 0; start < values.length; start += BLOCK, at += 18) {
    const scale = fround(extreme(values, start) / -8);
    if (!writeScale(scale, out, at) && unfit < 0) unfit = start;
    const inverse = reciprocal(scale);
    const nibble = (i: number) => min(15, trunc(fround(fround(values[start + i]! * inverse) + 8.5)));
    for (let j = 0; j < 16; j++) out[at + 2 + j] = nibble(j) | (nibble(16 + j) << 4);
  }
  return unfit;
};

const encoders: Readonly<Record<string, Quantize>> = {
  F32: f32,
  F16: f16,
  BF16: sixteenBits(float32ToBfloat16),
  Q8_0: q8_0,
  Q4_0: q4_0,
};

/** Names of the types that values can be written in. */
export const WRITABLE_TYPES: readonly string[] = Object.keys(encoders);

/** The encoder of a type; undefined for types that are only read. */
export const encoderOf = (type: string): Quantize | undefined =>
  Object.hasOwn(encoders, type) ? encoders[type] : undefined;

/** Writes blocks of integers with their scales, the counterpart of `IntegerType.read`. The result is as for `Quantize`. */
export type WriteIntegers = (integers: Int8Array, scales: Float32Array, out: Uint8Array) => number;

const integerWriters: Readonly<Record<string, WriteIntegers>> = {
  Q8_0: (integers, scales, out) => {
    let unfit = -1;
    for (let block = 0, at = 0; block < scales.length; block++, at += 34) {
      if (!writeScale(scales[block]!, out, at) && unfit < 0) unfit = block * BLOCK;
      for (let j = 0; j < BLOCK; j++) out[at + 2 + j] = integers[block * BLOCK + j]!;
    }
    return unfit;
  },
  Q4_0: (integers, scales, out) => {
    let unfit = -1;
    for (let block = 0, at = 0; block < scales.length; block++, at += 18) {
      if (!writeScale(scales[block]!, out, at) && unfit < 0) unfit = block * BLOCK;
      const nibble = (i: number) => integers[block * BLOCK + i]! + 8;
      for (let j = 0; j < 16; j++) out[at + 2 + j] = nibble(j) | (nibble(16 + j) << 4);
    }
    return unfit;
  },
};

/** How a type writes integers; undefined for other types. */
export const integerWriterOf = (type: string): WriteIntegers | undefined =>
  Object.hasOwn(integerWriters, type) ? integerWriters[type] : undefined;
