/**
 * Quantizes one row of x for products with integer weights: for each block of 32 columns, its scales and then its
 * integers. The rounding error is far below that of the weights: x keeps 12 bits for int8, 8 for int4 (no measurable
 * difference, as in llama.cpp), or 16 for int4 without relaxed instructions. Sums are exact.
 */
import {padded} from './blocks';
import {INT8} from '../numbers';
import {loadSome, maxOf, sumOf, zero} from './vector';

/** Bytes of a block with two bytes per integer, after a header of 16 bytes. */
export const PAIRS_BLOCK: usize = 80;
export const WORDS_BLOCK: usize = 80;
/** Bytes of a block with one byte per integer. */
export const BYTES_BLOCK: usize = 48;

export function activationBytes(type: i32, columns: i32): usize {
  return <usize>(padded(columns) >> 5) * blockBytes(type);
}

function blockBytes(type: i32): usize {
  if (type == INT8) return PAIRS_BLOCK;
  return ASC_FEATURE_RELAXED_SIMD ? BYTES_BLOCK : WORDS_BLOCK;
}

/** Quantizes to the form that products with weights of this type read. */
export function quantizeRow(type: i32, x: usize, columns: i32, to: usize): void {
  const bytes = blockBytes(type);
  for (; columns > 0; columns -= 32, x += 128, to += bytes) {
    if (type == INT8) quantizeToPairs(x, columns, to);
    else if (ASC_FEATURE_RELAXED_SIMD) quantizeToBytes(x, columns, to);
    else quantizeToWords(x, columns, to);
  }
}

function largestOf(x: usize, columns: i32): f32 {
  let largest = zero();
  for (let i = 0; i < 32; i += 4) {
    largest = f32x4.pmax(largest, f32x4.abs(loadSome(x + ((<usize>i) << 2), columns - i)));
  }
  return maxOf(largest);
}

function roundTo(v: v128, factor: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v, factor)));
}

function sumOfIntegers(v: v128): i32 {
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3);
}

// With int8 weights ---------------------------------------------------------------------------------------------------

/** The largest integer: 16 · 2031, plus the correction below, fits in 16 bits. */
const PAIRS_MOST: f32 = 2031;

/**
 * For `matVecInt8`, which reads the bytes (e, o) of an even and an odd column as one 16-bit number, 256 · o + e. It
 * multiplies that number by the odd column's x, and e on its own by the even column's. The contribution of e to the
 * first product is subtracted from the second factor here: with the odd column's x₁ as an integer and the even column's
 * x₀ in sixteenths, z = 16 · (x₀ − x₁ / 256).
 *
 * Bytes of even columns are stored 128 too large, so the sums start at a value that cancels this. A block has the
 * factors of the sums with x₁ and with z (float32), the initial values of these sums (int32), and then, for every four
 * columns, z₀, z₂, x₁, x₃.
 */
function quantizeToPairs(x: usize, columns: i32, to: usize): void {
  const most = largestOf(x, columns);
  const unit = most / PAIRS_MOST;
  const factor = f32x4.splat(most > 0 ? PAIRS_MOST / most : 0);
  let sums = i32x4.splat(0);
  for (let i = 0; i < 32; i += 8) {
    const at = x + ((<usize>i) << 2);
    const a = pairs(loadSome(at, columns - i), factor);
    const b = pairs(loadSome(at + 16, columns - i - 4), factor);
    sums = i32x4.add(sums, i32x4.add(a, b));
    v128.store(to + 16 + ((<usize>i) << 1), i16x8.narrow_i32x4_s(a, b));
  }
  store<f32>(to, unit * <f32>(1.0 / 256.0));
  store<f32>(to, unit * <f32>(1.0 / 16.0), 4);
  store<i32>(to, -128 * (i32x4.extract_lane(sums, 2) + i32x4.extract_lane(sums, 3)), 8);
  store<i32>(to, -128 * (i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1)), 12);
}

/** Turns x₀ … x₃ into z₀, z₂, x₁, x₃. */
function pairs(v: v128, factor: v128): v128 {
  const exact = f32x4.mul(v, factor);
  const whole = f32x4.nearest(exact);
  const odd = i32x4.shuffle(whole, whole, 1, 1, 3, 3);
  const z = f32x4.sub(f32x4.mul(exact, f32x4.splat(16)), f32x4.mul(odd, f32x4.splat(<f32>(1.0 / 16.0))));
  return i32x4.shuffle(i32x4.trunc_sat_f32x4_s(f32x4.nearest(z)), i32x4.trunc_sat_f32x4_s(whole), 0, 2, 5, 7);
}

// With int4 weights ---------------------------------------------------------------------------------------------------

/** A block has the scale, the sum of the rounded values, 8 unused bytes, and then 32 signed bytes in order. */
function quantizeToBytes(x: usize, columns: i32, to: usize): void {
  const most = largestOf(x, columns);
  const scale = most / 127;
  const factor = f32x4.splat(most > 0 ? 127 / most : 0);
  let sums = i32x4.splat(0);
  for (let i = 0; i < 32; i += 16) {
    const at = x + ((<usize>i) << 2);
    const a = roundTo(loadSome(at, columns - i), factor);
    const b = roundTo(loadSome(at + 16, columns - i - 4), factor);
    const c = roundTo(loadSome(at + 32, columns - i - 8), factor);
    const d = roundTo(loadSome(at + 48, columns - i - 12), factor);
    sums = i32x4.add(sums, i32x4.add(i32x4.add(a, b), i32x4.add(c, d)));
    const bytes = i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(a, b), i16x8.narrow_i32x4_s(c, d));
    v128.store(to + 16 + <usize>i, bytes);
  }
  store<f32>(to, scale);
  store<f32>(to, <f32>sumOfIntegers(sums) * scale, 4);
}

/**
 * A block has the same header, then 32 signed 16-bit integers. Every four are in the order of the nibbles: 0, 2, 1, 3.
 */
function quantizeToWords(x: usize, columns: i32, to: usize): void {
  const most = largestOf(x, columns);
  const scale = most / 32767;
  const factor = f32x4.splat(most > 0 ? 32767 / most : 0);
  let sums = i32x4.splat(0);
  for (let i = 0; i < 32; i += 8) {
    const at = x + ((<usize>i) << 2);
    const a = roundTo(loadSome(at, columns - i), factor);
    const b = roundTo(loadSome(at + 16, columns - i - 4), factor);
    sums = i32x4.add(sums, i32x4.add(a, b));
    const h = i16x8.narrow_i32x4_s(a, b);
    v128.store(to + 16 + ((<usize>i) << 1), i16x8.shuffle(h, h, 0, 2, 1, 3, 4, 6, 5, 7));
  }
  store<f32>(to, scale);
  store<f32>(to, sumOf(f32x4.convert_i32x4_s(sums)) * scale, 4);
}
