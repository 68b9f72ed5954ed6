/**
 * Rounds rows of x for products with int8 and int4 weights. Each block of 32 columns becomes integers of 16 bits with
 * one scale, by the same rule for every weight format, tile shape and instruction set: a row's result must not depend
 * on how many rows are multiplied together. Coarser integers would not do. A difference in the last bit of x can move
 * it to the next integer, and layer after layer such steps grow to the size of the rounding itself.
 */
import {INT8, INT8_WORDS} from '../numbers';
import {padded} from './blocks';
import {int8Kernel} from './int8_kernel';
import {loadSome, zero} from './vector';

/** Bytes of a block of one row: a header of 16 bytes and 32 integers. */
export const ROUNDED_BLOCK: usize = 80;
/** The largest integer. Both of its bytes are signed: 127 · 256 + 127. */
const MOST: f32 = 32639;

export function roundedBytes(columns: i32): usize {
  return <usize>(padded(columns) >> 5) * ROUNDED_BLOCK;
}

/** Writes a row as blocks of words. */
export function quantizeWords(x: usize, columns: i32, to: usize): void {
  for (; columns > 0; columns -= 32, x += 128, to += ROUNDED_BLOCK) quantizeBlock(x, columns, to);
}

/**
 * Writes a row in the form that products of one row with weights of this type read: blocks of words, or of bytes for
 * int4, and for some kernels of int8, with relaxed instructions.
 */
export function quantizeRow(type: i32, x: usize, columns: i32, to: usize): void {
  quantizeWords(x, columns, to);
  if (!ASC_FEATURE_RELAXED_SIMD || (type == INT8 && int8Kernel == INT8_WORDS)) return;
  for (const end = to + roundedBytes(columns); to < end; to += ROUNDED_BLOCK) splitBytes(to + 16);
}

/** Rounds x as `quantizeRow` does, but writes floats. Padding is not written. */
export function roundRow(x: usize, columns: i32, to: usize): void {
  for (; columns > 0; columns -= 32, x += 128, to += 128) {
    const most = largestOf(x, columns);
    const scale = f32x4.splat(most / MOST);
    const factor = f32x4.splat(factorOf(most));
    const count = min(32, columns);
    let i = 0;
    for (; i + 4 <= count; i += 4) {
      const at = (<usize>i) << 2;
      v128.store(to + at, f32x4.mul(f32x4.nearest(f32x4.mul(v128.load(x + at), factor)), scale));
    }
    for (; i < count; i++) {
      const at = (<usize>i) << 2;
      const v = f32x4.nearest(f32x4.mul(f32x4.splat(load<f32>(x + at)), factor));
      v128.store32_lane(to + at, f32x4.mul(v, scale), 0);
    }
  }
}

/** The largest magnitude of a block, or NaN if it has one. */
function largestOf(x: usize, columns: i32): f32 {
  let most = zero();
  for (let i = 0; i < 32; i += 4) most = f32x4.max(most, f32x4.abs(loadSome(x + ((<usize>i) << 2), columns - i)));
  return max(
    max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1)),
    max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)),
  );
}

/** What values are multiplied by before they are rounded. 0 for a block that has NaN, whose scale is NaN. */
function factorOf(most: f32): f32 {
  return most > 0 ? MOST / most : 0;
}

/**
 * Writes the header: scale (float32), sum of the rounded values (float32), −128 · the sum of the integers in even
 * columns (int32), and the same of all columns. Every four of the integers are in the order 0, 2, 1, 3.
 */
function quantizeBlock(x: usize, columns: i32, to: usize): void {
  const most = largestOf(x, columns);
  const scale = most / MOST;
  const factor = f32x4.splat(factorOf(most));
  let sums = i32x4.splat(0);
  for (let i = 0; i < 32; i += 8) {
    const at = x + ((<usize>i) << 2);
    const a = roundTo(loadSome(at, columns - i), factor);
    const b = roundTo(loadSome(at + 16, columns - i - 4), factor);
    sums = i32x4.add(sums, i32x4.add(a, b));
    const h = i16x8.narrow_i32x4_s(a, b);
    v128.store(to + 16 + ((<usize>i) << 1), i16x8.shuffle(h, h, 0, 2, 1, 3, 4, 6, 5, 7));
  }
  const even = i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 2);
  const odd = i32x4.extract_lane(sums, 1) + i32x4.extract_lane(sums, 3);
  store<f32>(to, scale);
  store<f32>(to, <f32>(even + odd) * scale, 4);
  store<i32>(to, -128 * even, 8);
  store<i32>(to, -128 * (even + odd), 12);
}

function roundTo(v: v128, factor: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v, factor)));
}

/**
 * Turns the words of a block into signed bytes with the integer 256 · high + low: for every eight columns, the high
 * bytes in order and then the low bytes.
 */
function splitBytes(at: usize): void {
  for (let i: usize = 0; i < 64; i += 16) {
    const v = v128.load(at + i);
    const h = i16x8.shuffle(v, v, 0, 2, 1, 3, 4, 6, 5, 7);
    const high = i16x8.shr_s(i16x8.add(h, i16x8.splat(128)), 8);
    const low = i16x8.sub(h, i16x8.shl(high, 8));
    v128.store(at + i, i8x16.narrow_i16x8_s(high, low));
  }
}
