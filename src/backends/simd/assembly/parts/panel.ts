/**
 * Panels: eight rows of a matrix W (n, k), widened to float32 and transposed, so that the eight values of one k are
 * adjacent: [k][8]. Every matrix product that is not bound by memory runs on panels, regardless of the format in which
 * the weights are stored.
 *
 * This file builds panels from matrices of plain numbers. Strides describe such a matrix: row n = o · inner + i begins
 * at o · outerStride + i · innerStride, and adjacent values of a row are columnStride apart. This covers Keras' dense
 * kernels ([outer, columns, inner]), their transposes, and tables of rows.
 */
import {BFLOAT16} from '../numbers';
import {storeTransposed, zero} from './vector';

// The matrix that `fillPanel` reads, with strides in bytes.
let base: usize = 0;
let halves: bool = false;
let innerSize: i32 = 1;
let outerStep: usize = 0;
let innerStep: usize = 0;
let columnStep: usize = 0;

/** Strides are in values. */
export function setMatrix(
  at: usize,
  type: i32,
  inner: i32,
  outerStride: i32,
  innerStride: i32,
  columnStride: i32,
): void {
  const shift: usize = type == BFLOAT16 ? 1 : 2;
  base = at;
  halves = type == BFLOAT16;
  innerSize = inner;
  outerStep = (<usize>outerStride) << shift;
  innerStep = (<usize>innerStride) << shift;
  columnStep = (<usize>columnStride) << shift;
}

function rowAddress(n: i32): usize {
  return base + <usize>(n / innerSize) * outerStep + <usize>(n % innerSize) * innerStep;
}

function valueAt(at: usize): f32 {
  if (halves) return reinterpret<f32>((<u32>load<u16>(at)) << 16);
  return load<f32>(at);
}

/** Four adjacent values. */
function fourAt(at: usize): v128 {
  if (halves) return i32x4.shl(v128.load16x4_u(at), 16);
  return v128.load(at);
}

/** Writes a panel of rows n … n + rows − 1 (at most 8; the others become zero) and columns k … k + count − 1. */
export function fillPanel(to: usize, n: i32, rows: i32, k: i32, count: i32): void {
  const size: usize = halves ? 2 : 4;
  const from = rowAddress(n) + <usize>k * columnStep;
  if (rows == 8 && innerStep == size && (n % innerSize) + 8 <= innerSize) {
    copyColumns(to, from, columnStep, count);
  } else if (rows == 8 && columnStep == size && (innerSize == 1 || (n % innerSize) + 8 <= innerSize)) {
    transposeRows(to, from, innerSize == 1 ? outerStep : innerStep, count);
  } else {
    gatherRows(to, n, rows, k, count);
  }
}

/** Writes panels of rows n … n + rows − 1, `bytes` apart. */
export function fillPanels(to: usize, bytes: usize, n: i32, rows: i32, k: i32, count: i32): void {
  if (!halves && innerStep == 4 && (rows & 7) == 0 && (n % innerSize) + rows <= innerSize) {
    // Values of one k are adjacent: each range of memory is read once, in full.
    let from = rowAddress(n) + <usize>k * columnStep;
    for (; count > 0; count--, from += columnStep, to += 32) copyAcross(to, bytes, from, rows);
    return;
  }
  for (let i = 0; i < rows; i += 8, to += bytes) fillPanel(to, n + i, min(8, rows - i), k, count);
}

/** Copies one k of several panels. */
function copyAcross(to: usize, bytes: usize, from: usize, rows: i32): void {
  for (; rows > 0; rows -= 8, from += 32, to += bytes) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
  }
}

/** For the following two functions: whether values are bfloat16, two bytes each, or float32. */
export function setHalves(bfloat16: bool): void {
  halves = bfloat16;
}

/** Copies eight rows; the values of one k are adjacent. Keys and values of a cache are such rows. */
export function copyColumns(to: usize, from: usize, step: usize, count: i32): void {
  if (!halves) {
    copyFloatColumns(to, from, step, count);
    return;
  }
  for (; count > 0; count--, from += step, to += 32) {
    const v = v128.load(from);
    v128.store(to, i32x4.shl(i32x4.extend_low_i16x8_u(v), 16));
    v128.store(to, i32x4.shl(i32x4.extend_high_i16x8_u(v), 16), 16);
  }
}

function copyFloatColumns(to: usize, from: usize, step: usize, count: i32): void {
  for (; count > 0; count--, from += step, to += 32) {
    v128.store(to, v128.load(from));
    v128.store(to, v128.load(from, 16), 16);
  }
}

/** Transposes eight rows; values are adjacent along k. */
function transposeRows(to: usize, from: usize, step: usize, count: i32): void {
  const size: usize = halves ? 2 : 4;
  const low = from;
  const high = from + 4 * step;
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const at = <usize>i * size;
    const a = low + at;
    storeTransposed(to, 32, fourAt(a), fourAt(a + step), fourAt(a + 2 * step), fourAt(a + 3 * step));
    const b = high + at;
    storeTransposed(to + 16, 32, fourAt(b), fourAt(b + step), fourAt(b + 2 * step), fourAt(b + 3 * step));
    to += 128;
  }
  for (; i < count; i++, to += 32) {
    for (let r = 0; r < 8; r++) store<f32>(to + ((<usize>r) << 2), valueAt(from + <usize>r * step + <usize>i * size));
  }
}

/** Writes a panel of rows `step` bytes apart, such as the keys of one head. Missing rows become zero. */
export function transposeSomeRows(to: usize, from: usize, step: usize, rows: i32, count: i32): void {
  if (rows == 8) {
    transposeRows(to, from, step, count);
    return;
  }
  const size: usize = halves ? 2 : 4;
  for (let i = 0; i < count; i++, to += 32, from += size) {
    for (let r = 0; r < 8; r++) {
      store<f32>(to + ((<usize>r) << 2), r < rows ? valueAt(from + <usize>r * step) : 0);
    }
  }
}

/** Copies up to eight values of each row into a panel. Missing columns become zero. */
export function copySomeColumns(to: usize, from: usize, step: usize, count: i32, columns: i32): void {
  const size: usize = halves ? 2 : 4;
  for (; count > 0; count--, from += step, to += 32) {
    for (let i = 0; i < 8; i++) store<f32>(to + ((<usize>i) << 2), i < columns ? valueAt(from + <usize>i * size) : 0);
  }
}

/** Copies any rows, one value at a time. */
function gatherRows(to: usize, n: i32, rows: i32, k: i32, count: i32): void {
  for (let r = 0; r < 8; r++, to += 4) {
    let out = to;
    if (r >= rows) {
      for (let i = 0; i < count; i++, out += 32) store<f32>(out, 0);
      continue;
    }
    let from = rowAddress(n + r) + <usize>k * columnStep;
    for (let i = 0; i < count; i++, out += 32, from += columnStep) store<f32>(out, valueAt(from));
  }
}

/** Makes a panel [n][8 k] of eight columns of a panel [k][8 n], for products with the transposed matrix. */
export function transposePanel(to: usize, from: usize): void {
  for (let half: usize = 0; half < 2; half++) {
    const f = from + (half << 4);
    const t = to + (half << 7);
    storeTransposed(t, 32, v128.load(f), v128.load(f, 32), v128.load(f, 64), v128.load(f, 96));
    storeTransposed(t + 16, 32, v128.load(f, 128), v128.load(f, 160), v128.load(f, 192), v128.load(f, 224));
  }
}

export function clearPanel(to: usize, count: i32): void {
  for (; count > 0; count--, to += 32) {
    v128.store(to, zero());
    v128.store(to, zero(), 16);
  }
}
