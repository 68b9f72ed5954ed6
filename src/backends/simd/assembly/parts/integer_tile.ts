/**
 * Products of many rows of x with integer weights, in 16-bit integers. One instruction multiplies and adds pairs, so
 * they take half the time of float32. Both factors are split into runs of `RUN` columns with one unit per row and run:
 * 1/4095 of the largest x, 1/32 of the largest int8 scale, 1/4095 of the largest int4 weight. The rounding error is
 * less than a thousandth of a run's share of the result, far below that of the weights. The sums are exact.
 *
 * Columns come in pairs: (0, 2), (1, 3), (4, 6), (5, 7) of every eight, the order in which they are extracted from the
 * weights' words.
 */
import {INT4_BLOCK_BYTES, INT8_BLOCK_BYTES} from '../layouts/packing';
import {INT8} from '../numbers';
import {bfloat16At} from './bfloat16';
import {padded} from './blocks';
import {columnOffset} from './formats';
import {fma, inverse, loadSome, maxOf, storeSome, storeTransposed, zero} from './vector';

/** Columns per run: sums cannot overflow, since 128 · 4095² is below 2³¹. */
const RUN = 128;
const MOST: f32 = 4095;
/** Bytes of a run of four rows of x: four units, then pairs [64][4 rows]. */
const ROWS_RUN: usize = 16 + 64 * 16;
/** Bytes of a run of eight rows of weights: eight units, then pairs [64][8 rows]. */
const PANEL_RUN: usize = 32 + 64 * 32;

// Rows of x -----------------------------------------------------------------------------------------------------------

/**
 * Quantizes rows of x, `step` bytes apart, into tiles of four interleaved rows. If the last tile has fewer rows, the
 * last row is repeated.
 */
export function interleaveIntegerRows(x: usize, step: usize, rows: i32, columns: i32, to: usize): void {
  for (; rows > 0; rows -= 4, x += 4 * step) {
    const x1 = rows > 1 ? x + step : x;
    const x2 = rows > 2 ? x1 + step : x1;
    const x3 = rows > 3 ? x2 + step : x2;
    for (let k = 0; k < columns; k += RUN, to += ROWS_RUN) {
      const at = (<usize>k) << 2;
      const count = min(RUN, columns - k);
      const factor = setUnit(x + at, count, to);
      const factor1 = setUnit(x1 + at, count, to + 4);
      const factor2 = setUnit(x2 + at, count, to + 8);
      const factor3 = setUnit(x3 + at, count, to + 12);
      let pairs = to + 16;
      for (let i = 0; i < padded(count); i += 8, pairs += 64) {
        const p = at + ((<usize>i) << 2);
        const rest = count - i;
        storeTransposed(
          pairs,
          16,
          eightNumbers(x + p, rest, factor),
          eightNumbers(x1 + p, rest, factor1),
          eightNumbers(x2 + p, rest, factor2),
          eightNumbers(x3 + p, rest, factor3),
        );
      }
    }
  }
}

/** Stores the unit of a run of one row and returns its inverse, the factor of the row's values. */
function setUnit(x: usize, count: i32, to: usize): v128 {
  let largest = zero();
  for (; count > 0; count -= 4, x += 16) largest = f32x4.pmax(largest, f32x4.abs(loadSome(x, count)));
  const most = maxOf(largest);
  store<f32>(to, most / MOST);
  return f32x4.splat(most > 0 ? MOST / most : 0);
}

function eightNumbers(x: usize, count: i32, factor: v128): v128 {
  const a = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(loadSome(x, count), factor)));
  const b = i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(loadSome(x + 16, count - 4), factor)));
  const v = i16x8.narrow_i32x4_s(a, b);
  return i16x8.shuffle(v, v, 0, 2, 1, 3, 4, 6, 5, 7);
}

// Panels of weights ---------------------------------------------------------------------------------------------------

/** Writes a panel of columns k … k + count − 1 of eight rows. k begins a run. */
export function integerPanel(type: i32, from: usize, to: usize, k: i32, count: i32): void {
  from += columnOffset(type, k);
  for (count = padded(count); count > 0; count -= RUN, to += PANEL_RUN) {
    const blocks = min(RUN, count) >> 5;
    for (let half: usize = 0; half < 2; half++) {
      if (type == INT8) int8Run(from, half, to, blocks);
      else int4Run(from, half, to, blocks);
    }
    from += <usize>blocks * (type == INT8 ? INT8_BLOCK_BYTES : INT4_BLOCK_BYTES);
  }
}

/** Rounds the values of four rows, and repeats each for both halves of a pair. */
function twice(v: v128): v128 {
  const n = i32x4.trunc_sat_f32x4_s(f32x4.nearest(v));
  return i16x8.narrow_i32x4_s(i32x4.shuffle(n, n, 0, 0, 1, 1), i32x4.shuffle(n, n, 2, 2, 3, 3));
}

/** Four rows of a run: n · 32 · scale / the largest scale. */
function int8Run(from: usize, half: usize, to: usize, blocks: i32): void {
  let largest = zero();
  for (let i = 0; i < blocks; i++) {
    largest = f32x4.pmax(largest, bfloat16At(from + <usize>i * INT8_BLOCK_BYTES + (half << 3)));
  }
  v128.store(to + (half << 4), f32x4.mul(largest, f32x4.splat(<f32>(1.0 / 32.0))));
  const factor = f32x4.mul(inverse(largest), f32x4.splat(32768));
  const low = i16x8.splat(255);
  const bias = i16x8.splat(128);
  const whole = i16x8.splat(-32);
  to += 32 + (half << 4);
  for (; blocks > 0; blocks--, from += INT8_BLOCK_BYTES) {
    const ratio = twice(f32x4.mul(bfloat16At(from + (half << 3)), factor));
    let p = from + 16 + (half << 4);
    for (let quad = 0; quad < 8; quad++, p += 32, to += 64) {
      const v = v128.load(p);
      const even = i16x8.shl(i16x8.sub(v128.and(v, low), bias), 5);
      v128.store(to, i16x8.q15mulr_sat_s(even, ratio));
      v128.store(to, i16x8.q15mulr_sat_s(v128.and(i16x8.shr_s(v, 3), whole), ratio), 32);
    }
  }
}

/** Four rows of a run: (scale · n + minimum) / unit. */
function int4Run(from: usize, half: usize, to: usize, blocks: i32): void {
  let largest = zero();
  for (let i = 0; i < blocks; i++) {
    const at = from + <usize>i * INT4_BLOCK_BYTES + (half << 3);
    const minimum = bfloat16At(at + 16);
    const maximum = fma(f32x4.splat(15), bfloat16At(at), minimum);
    largest = f32x4.pmax(largest, f32x4.pmax(f32x4.abs(minimum), f32x4.abs(maximum)));
  }
  v128.store(to + (half << 4), f32x4.mul(largest, f32x4.splat(1 / MOST)));
  const factor = f32x4.mul(inverse(largest), f32x4.splat(MOST));
  const low = i16x8.splat(15 << 11);
  to += 32 + (half << 4);
  for (; blocks > 0; blocks--, from += INT4_BLOCK_BYTES) {
    // n is multiplied as 2048 · n, and the product is divided by 2¹⁵.
    const scale = twice(f32x4.mul(f32x4.mul(bfloat16At(from + (half << 3)), factor), f32x4.splat(16)));
    const minimum = twice(f32x4.mul(bfloat16At(from + 16 + (half << 3)), factor));
    let p = from + 32 + (half << 4);
    for (let eight = 0; eight < 4; eight++, p += 32, to += 128) {
      const v = v128.load(p);
      v128.store(to, weight4(i16x8.shl(v, 11), low, scale, minimum));
      v128.store(to, weight4(i16x8.shl(v, 3), low, scale, minimum), 32);
      v128.store(to, weight4(i16x8.shl(v, 7), low, scale, minimum), 64);
      v128.store(to, weight4(i16x8.shr_u(v, 1), low, scale, minimum), 96);
    }
  }
}

/** Weights from the nibble in bits 11 … 14 of each half. */
function weight4(v: v128, low: v128, scale: v128, minimum: v128): v128 {
  return i16x8.add(i16x8.q15mulr_sat_s(v128.and(v, low), scale), minimum);
}

// Products ------------------------------------------------------------------------------------------------------------

/** y[r][0 … columns − 1] (+)= Σ over `count` columns of W, for all rows of x with one panel. */
export function integerTiles(
  x: usize,
  panel: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  for (; rows > 0; rows -= 4, y += 4 * yStep) {
    let p = panel;
    for (let k = 0; k < count; k += RUN, x += ROWS_RUN, p += PANEL_RUN) {
      integerTile(x, p, padded(min(RUN, count - k)), y, yStep, min(4, rows), columns, add || k > 0);
    }
  }
}

/** One run: at most four rows of x, at most eight of weights. */
function integerTile(
  x: usize,
  panel: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  let a0 = i32x4.splat(0);
  let b0 = a0;
  let a1 = a0;
  let b1 = a0;
  let a2 = a0;
  let b2 = a0;
  let a3 = a0;
  let b3 = a0;
  let p = panel + 32;
  let q = x + 16;
  // One pair per iteration: as in `tile`, more loads would not fit in the registers.
  for (const end = q + ((<usize>count) << 3); q < end; q += 16, p += 32) {
    const v = v128.load(p);
    const u = v128.load(p, 16);
    let t = v128.load32_splat(q);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v, t));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(u, t));
    t = v128.load32_splat(q, 4);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v, t));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(u, t));
    t = v128.load32_splat(q, 8);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(v, t));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(u, t));
    t = v128.load32_splat(q, 12);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(v, t));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(u, t));
  }
  const s = v128.load(panel);
  const t = v128.load(panel, 16);
  finishRow(a0, b0, s, t, v128.load32_splat(x), y, columns, add);
  if (rows > 1) finishRow(a1, b1, s, t, v128.load32_splat(x, 4), y + yStep, columns, add);
  if (rows > 2) finishRow(a2, b2, s, t, v128.load32_splat(x, 8), y + 2 * yStep, columns, add);
  if (rows > 3) finishRow(a3, b3, s, t, v128.load32_splat(x, 12), y + 3 * yStep, columns, add);
}

function finishRow(a: v128, b: v128, s: v128, t: v128, unit: v128, y: usize, columns: i32, add: bool): void {
  a = f32x4.mul(f32x4.convert_i32x4_s(a), f32x4.mul(s, unit));
  b = f32x4.mul(f32x4.convert_i32x4_s(b), f32x4.mul(t, unit));
  if (add) {
    a = f32x4.add(a, loadSome(y, columns));
    b = f32x4.add(b, loadSome(y + 16, columns - 4));
  }
  storeSome(y, a, b, columns);
}
