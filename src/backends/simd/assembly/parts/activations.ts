/**
 * Rounds rows of x for products with int8 and int4 weights. Each block of 32 columns becomes integers of 16 bits with
 * one scale, by the same rule for every weight format, tile shape and instruction set: a row's result must not depend
 * on how many rows are multiplied together. Coarser integers would not do. A difference in the last bit of x can move
 * it to the next integer, and layer after layer such steps grow to the size of the rounding itself.
 */
import {INT8, INT8_WORDS} from '../numbers';
import {padded} from './blocks';
import {int8Kernel} from './int8_kernel';
import {halfByte, roundingBias} from './stream';
import {loadSome, zero} from './vector';

/** Bytes of a block of one row: a header of 16 bytes and 32 integers. */
export const ROUNDED_BLOCK: usize = 80;
/** The largest integer. Both of its bytes are signed: 127 · 256 + 127. */
const MOST: f32 = 32639;
/** Blocks without a larger value become zeros. For values near 1e-34 the factor would be infinite. */
const LEAST: f32 = 1e-30;

export function roundedBytes(columns: i32): usize {
  return <usize>(padded(columns) >> 5) * ROUNDED_BLOCK;
}

/** Writes a row as blocks of words. */
export function quantizeWords(x: usize, columns: i32, to: usize): void {
  for (; columns > 0; columns -= 32, x += 128, to += ROUNDED_BLOCK) quantizeBlock(x, columns, to, false);
}

/**
 * Writes a row in the form that products of one row with weights of this type read: blocks of words, or of bytes for
 * int4, and for some kernels of int8, with relaxed instructions.
 */
export function quantizeRow(type: i32, x: usize, columns: i32, to: usize): void {
  const bytes = ASC_FEATURE_RELAXED_SIMD && (type != INT8 || int8Kernel != INT8_WORDS);
  for (; columns > 0; columns -= 32, x += 128, to += ROUNDED_BLOCK) quantizeBlock(x, columns, to, bytes);
}

/**
 * Rounds x as `quantizeRow` does, but writes floats. Padding is not written. Two vectors side by side: engines with
 * 256-bit vectors merge them (see `tile.ts`).
 */
export function roundRow(x: usize, columns: i32, to: usize): void {
  const bias = f32x4.splat(roundingBias);
  for (; columns > 0; columns -= 32, x += 128, to += 128) {
    const most = largestOf(x, columns);
    const scale = f32x4.splat(most / MOST);
    const factor = f32x4.splat(factorOf(most));
    const bytes = (<usize>min(32, columns)) << 2;
    let at: usize = 0;
    for (; at + 32 <= bytes; at += 32) {
      const a = f32x4.add(f32x4.mul(v128.load(x + at), factor), bias);
      const b = f32x4.add(f32x4.mul(v128.load(x + at, 16), factor), bias);
      v128.store(to + at, f32x4.mul(f32x4.sub(b, bias), scale), 16);
      v128.store(to + at, f32x4.mul(f32x4.sub(a, bias), scale));
    }
    for (; at < bytes; at += 4) {
      const v = f32x4.add(f32x4.mul(v128.load32_splat(x + at), factor), bias);
      v128.store32_lane(to + at, f32x4.mul(f32x4.sub(v, bias), scale), 0);
    }
  }
}

/** The four values of a block from column i on. Missing ones are zero. */
function fourOf(x: usize, columns: i32, i: i32): v128 {
  const at = x + ((<usize>i) << 2);
  return columns >= 32 ? v128.load(at) : loadSome(at, columns - i);
}

/** The largest magnitude of a block, or NaN if it has one: without the sign, bits have the order of the numbers. */
function largestOf(x: usize, columns: i32): f32 {
  let most = zero();
  for (let i = 0; i < 32; i += 4) most = i32x4.max_s(most, f32x4.abs(fourOf(x, columns, i)));
  most = i32x4.max_s(most, i32x4.shuffle(most, most, 2, 3, 0, 1));
  return f32x4.extract_lane(i32x4.max_s(most, i32x4.shuffle(most, most, 1, 0, 3, 2)), 0);
}

/** What values are multiplied by before they are rounded. 0 for a block that has NaN, or nothing but zeros. */
function factorOf(most: f32): f32 {
  return most > LEAST ? MOST / most : 0;
}

/** The scale of a block. NaN if values are infinite: then no integer stands for the others. */
function scaleOf(most: f32): f32 {
  return most < Infinity ? most / MOST : NaN;
}

/**
 * Writes the header: scale (float32), sum of the rounded values (float32), −128 · the sum of the integers in even
 * columns (int32), and the same of all columns. Then, for every four, the integers in the order 0, 2, 1, 3. As bytes:
 * for every eight columns, the high bytes in order and then the low bytes, all signed, of 256 · high + low.
 */
function quantizeBlock(x: usize, columns: i32, to: usize, bytes: bool): void {
  const most = largestOf(x, columns);
  const scale = scaleOf(most);
  const factor = f32x4.splat(factorOf(most));
  const bias = f32x4.splat(roundingBias);
  const half = i16x8.splat(<i16>halfByte);
  let sums = i32x4.splat(0);
  for (let i = 0; i < 32; i += 8) {
    const a = roundTo(fourOf(x, columns, i), factor, bias);
    const b = roundTo(fourOf(x, columns, i + 4), factor, bias);
    sums = i32x4.add(sums, i32x4.add(a, b));
    const h = i16x8.narrow_i32x4_s(a, b);
    const at = to + 16 + ((<usize>i) << 1);
    if (bytes) {
      const high = i16x8.shr_s(i16x8.add(h, half), 8);
      v128.store(at, i8x16.narrow_i16x8_s(high, i16x8.sub(h, i16x8.shl(high, 8))));
    } else {
      v128.store(at, i16x8.shuffle(h, h, 0, 2, 1, 3, 4, 6, 5, 7));
    }
  }
  sums = i32x4.add(sums, i32x4.shuffle(sums, sums, 2, 3, 0, 1));
  const even = i32x4.extract_lane(sums, 0);
  const all = even + i32x4.extract_lane(sums, 1);
  store<f32>(to, scale);
  store<f32>(to, <f32>all * scale, 4);
  store<i32>(to, -128 * even, 8);
  store<i32>(to, -128 * all, 12);
}

/** The nearest integers of v · factor, which are below 2²²: the sum with `roundingBias` ends in them. */
function roundTo(v: v128, factor: v128, bias: v128): v128 {
  return i32x4.sub(f32x4.add(f32x4.mul(v, factor), bias), bias);
}
