/**
 * Products of many rows of x with integer weights, in 16-bit integers. One instruction multiplies and adds pairs, so
 * they take less time than float32. The integers are those of `activations.ts` and of the weights themselves, the sums
 * of a block of 32 columns are exact, and blocks are added in order: every result has the same bits as that of
 * `matVecInt8` or `matVecInt4`.
 *
 * Columns come in pairs: (0, 2), (1, 3), (4, 6), (5, 7) of every eight, the order in which they are extracted from the
 * weights' words.
 */
import {INT4_BLOCK_BYTES, INT8_BLOCK_BYTES} from '../layouts/packing';
import {INT8} from '../numbers';
import {quantizeWords, ROUNDED_BLOCK, roundedBytes} from './activations';
import {bfloat16At} from './bfloat16';
import {padded} from './blocks';
import {columnOffset} from './formats';
import {fma, loadSome, storeSome, storeTransposed} from './vector';

/** Bytes of a block of four rows of x: four scales, four sums, then pairs [16][4 rows]. */
const ROWS_BLOCK: usize = 32 + 16 * 16;
/** Bytes of a block of eight rows of weights: eight scales, eight minima (int4), then pairs [16][8 rows]. */
const PANEL_BLOCK: usize = 64 + 16 * 32;
/** Bytes of the sums of a tile: [4][8]. */
const TILE_BYTES: usize = 128;

// Rows of x -----------------------------------------------------------------------------------------------------------

/** Bytes of interleaved rows. */
export function interleavedIntegerBytes(rows: i32, columns: i32): usize {
  return <usize>(((rows + 3) >> 2) * (padded(columns) >> 5)) * ROWS_BLOCK;
}

/**
 * Rounds rows of x, `step` bytes apart, and interleaves them in tiles of four. If the last tile has fewer rows, the
 * last row is repeated.
 *
 * @param rounded Space for four rows as `quantizeWords` writes them.
 */
export function interleaveIntegerRows(x: usize, step: usize, rows: i32, columns: i32, rounded: usize, to: usize): void {
  const bytes = roundedBytes(columns);
  const end = rounded + bytes;
  for (; rows > 0; rows -= 4, x += 4 * step) {
    for (let r = 0; r < min(4, rows); r++) quantizeWords(x + <usize>r * step, columns, rounded + <usize>r * bytes);
    const second = rows > 1 ? bytes : 0;
    const third = rows > 2 ? second + bytes : second;
    const fourth = rows > 3 ? third + bytes : third;
    for (let at = rounded; at < end; at += ROUNDED_BLOCK, to += ROWS_BLOCK) {
      for (let i: usize = 0; i < 8; i += 4) {
        store<f32>(to + 4 * i, load<f32>(at + i));
        store<f32>(to + 4 * i, load<f32>(at + second + i), 4);
        store<f32>(to + 4 * i, load<f32>(at + third + i), 8);
        store<f32>(to + 4 * i, load<f32>(at + fourth + i), 12);
      }
      for (let i: usize = 16; i < ROUNDED_BLOCK; i += 16) {
        const a = v128.load(at + i);
        const b = v128.load(at + second + i);
        const c = v128.load(at + third + i);
        const d = v128.load(at + fourth + i);
        storeTransposed(to + 32 + 4 * (i - 16), 16, a, b, c, d);
      }
    }
  }
}

// Panels of weights ---------------------------------------------------------------------------------------------------

/** Writes a panel of columns k … k + count − 1 of eight rows. k begins a block. */
export function integerPanel(type: i32, from: usize, to: usize, k: i32, count: i32): void {
  from += columnOffset(type, k);
  for (count = padded(count); count > 0; count -= 32, to += PANEL_BLOCK) {
    v128.store(to, bfloat16At(from));
    v128.store(to, bfloat16At(from + 8), 16);
    if (type == INT8) {
      int8Pairs(from + 16, to + 64);
      from += INT8_BLOCK_BYTES;
    } else {
      v128.store(to, bfloat16At(from + 16), 32);
      v128.store(to, bfloat16At(from + 24), 48);
      int4Pairs(from + 32, to + 64);
      from += INT4_BLOCK_BYTES;
    }
  }
}

function int8Pairs(from: usize, to: usize): void {
  const low = i16x8.splat(255);
  const bias = i16x8.splat(128);
  for (let i = 0; i < 16; i++, from += 16) {
    const v = v128.load(from);
    v128.store(to, i16x8.sub(v128.and(v, low), bias));
    v128.store(to, i16x8.shr_s(v, 8), 32);
    // The words of four columns are those of rows 0 to 3, then those of rows 4 to 7.
    to += (i & 1) == 0 ? 16 : 48;
  }
}

function int4Pairs(from: usize, to: usize): void {
  const low = i16x8.splat(15);
  for (let i = 0; i < 8; i++, from += 16) {
    const v = v128.load(from);
    v128.store(to, v128.and(v, low));
    v128.store(to, v128.and(i16x8.shr_u(v, 8), low), 32);
    v128.store(to, v128.and(i16x8.shr_u(v, 4), low), 64);
    v128.store(to, i16x8.shr_u(v, 12), 96);
    to += (i & 1) == 0 ? 16 : 112;
  }
}

// Products ------------------------------------------------------------------------------------------------------------

/**
 * y[r][0 … columns − 1] (+)= Σ over `count` columns of W, for all rows of x with one panel.
 *
 * @param sums Space for the sums of one tile.
 */
export function integerTiles(
  type: i32,
  x: usize,
  panel: usize,
  count: i32,
  sums: usize,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  const blocks = padded(count) >> 5;
  for (; rows > 0; rows -= 4, y += 4 * yStep, x += <usize>blocks * ROWS_BLOCK) {
    const some = <usize>min(4, rows);
    memory.fill(sums, 0, TILE_BYTES);
    if (add) {
      for (let r: usize = 0; r < some; r++) {
        const from = y + r * yStep;
        v128.store(sums + (r << 5), loadSome(from, columns));
        v128.store(sums + (r << 5), loadSome(from + 16, columns - 4), 16);
      }
    }
    integerTile(x, panel, blocks, type != INT8, sums);
    for (let r: usize = 0; r < some; r++) {
      const at = sums + (r << 5);
      storeSome(y + r * yStep, v128.load(at), v128.load(at, 16), columns);
    }
  }
}

/** Adds the products of four rows of x and eight of weights to `sums`. */
function integerTile(x: usize, panel: usize, blocks: i32, minima: bool, sums: usize): void {
  for (; blocks > 0; blocks--) {
    let a0 = i32x4.splat(0);
    let b0 = a0;
    let a1 = a0;
    let b1 = a0;
    let a2 = a0;
    let b2 = a0;
    let a3 = a0;
    let b3 = a0;
    const header = x;
    const scales = panel;
    panel += 64;
    // One pair per iteration: as in `tile`, more loads would not fit in the registers.
    for (const end = (x += 32) + 256; x < end; x += 16, panel += 32) {
      const v = v128.load(panel);
      const u = v128.load(panel, 16);
      let t = v128.load32_splat(x);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v, t));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(u, t));
      t = v128.load32_splat(x, 4);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v, t));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(u, t));
      t = v128.load32_splat(x, 8);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(v, t));
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(u, t));
      t = v128.load32_splat(x, 12);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(v, t));
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(u, t));
    }
    const s = v128.load(scales);
    const t = v128.load(scales, 16);
    if (minima) {
      const m = v128.load(scales, 32);
      const n = v128.load(scales, 48);
      addBoth(sums, a0, b0, s, t, v128.load32_splat(header), m, n, v128.load32_splat(header, 16));
      addBoth(sums + 32, a1, b1, s, t, v128.load32_splat(header, 4), m, n, v128.load32_splat(header, 20));
      addBoth(sums + 64, a2, b2, s, t, v128.load32_splat(header, 8), m, n, v128.load32_splat(header, 24));
      addBoth(sums + 96, a3, b3, s, t, v128.load32_splat(header, 12), m, n, v128.load32_splat(header, 28));
    } else {
      addSums(sums, a0, b0, s, t, v128.load32_splat(header));
      addSums(sums + 32, a1, b1, s, t, v128.load32_splat(header, 4));
      addSums(sums + 64, a2, b2, s, t, v128.load32_splat(header, 8));
      addSums(sums + 96, a3, b3, s, t, v128.load32_splat(header, 12));
    }
  }
}

/**
 * Adds a row's sum, times the minima of the weights, and then its integer sums as `addSums` does. Both at once, since a
 * sum that was just stored takes a while to load.
 */
function addBoth(at: usize, a: v128, b: v128, s: v128, t: v128, scale: v128, m: v128, n: v128, sum: v128): void {
  const x = f32x4.mul(f32x4.convert_i32x4_s(a), scale);
  const y = f32x4.mul(f32x4.convert_i32x4_s(b), scale);
  const first = fma(x, s, fma(m, sum, v128.load(at)));
  const second = fma(y, t, fma(n, sum, v128.load(at, 16)));
  v128.store(at, second, 16);
  v128.store(at, first);
}

/** Adds integer sums of a row of x, times the scales of the weights and of x. V8 looks for pairs from the second store. */
function addSums(at: usize, a: v128, b: v128, s: v128, t: v128, scale: v128): void {
  const first = fma(f32x4.mul(f32x4.convert_i32x4_s(a), scale), s, v128.load(at));
  const second = fma(f32x4.mul(f32x4.convert_i32x4_s(b), scale), t, v128.load(at, 16));
  v128.store(at, second, 16);
  v128.store(at, first);
}
