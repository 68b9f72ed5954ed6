/**
 * Products of many rows of x with integer weights, in bytes: one instruction multiplies and adds four pairs, where the
 * processor has it. An integer of x is two bytes, 256 · high + low, so each weight is multiplied twice; that is still
 * faster than float32. The integers, their sums and the order of additions are those of `integer_tile.ts`, and every
 * result has the same bits.
 *
 * Written for engines that merge two 128-bit operations on adjacent data, as `wideTile` in `tile.ts` is.
 */
import {INT4_BLOCK_BYTES, INT8_BLOCK_BYTES} from '../layouts/packing';
import {INT8, INT8_UNSIGNED_BYTES} from '../numbers';
import {quantizeRow, ROUNDED_BLOCK, roundedBytes} from './activations';
import {bfloat16At} from './bfloat16';
import {padded} from './blocks';
import {columnOffset} from './formats';
import {int8Kernel} from './int8_kernel';
import {evenSigns, nibbles, oddSigns} from './stream';
import {fma, loadSome, storeSome} from './vector';

/** Rows of x in a tile: enough sums to keep the processor busy, which waits five cycles for each. */
const HEIGHT = 5;
/** Bytes of scales, sums and first sums, one of each a row. */
const HEADER: usize = 64;
/** Bytes of four columns of x: the high and the low bytes of each row. */
const QUAD: usize = HEIGHT * 8;
/** Bytes of a block of a tile's rows of x. */
const ROWS_BLOCK: usize = HEADER + 8 * QUAD;
/** Bytes of a block of eight rows of weights: eight scales, eight minima (int4), then [8 quads of columns][8 rows]. */
const PANEL_BLOCK: usize = 64 + 8 * 32;
/** Bytes of the sums of a tile: [5][8]. */
const TILE_BYTES: usize = HEIGHT * 32;

/** Bytes of interleaved rows. */
export function interleavedByteRows(rows: i32, columns: i32): usize {
  return <usize>(((rows + HEIGHT - 1) / HEIGHT) * (padded(columns) >> 5)) * ROWS_BLOCK;
}

/**
 * Rounds rows of x, `step` bytes apart, and interleaves them in tiles of five. If the last tile has fewer rows, the
 * last row is repeated.
 *
 * @param rounded Space for a row as `quantizeRow` writes it.
 */
export function interleaveByteRows(
  type: i32,
  x: usize,
  step: usize,
  rows: i32,
  columns: i32,
  rounded: usize,
  to: usize,
): void {
  const unsigned = type == INT8 && int8Kernel == INT8_UNSIGNED_BYTES;
  const blocks = padded(columns) >> 5;
  const tileBytes = <usize>blocks * ROWS_BLOCK;
  for (; rows > 0; rows -= HEIGHT, x += HEIGHT * step, to += tileBytes) {
    for (let r = 0; r < HEIGHT; r++) {
      if (r < rows) quantizeRow(type, x + <usize>r * step, columns, rounded);
      interleaveRow(rounded, blocks, unsigned, to + ((<usize>r) << 2), to + HEADER + ((<usize>r) << 3));
    }
  }
}

/** Writes one row of a tile: its headers from `header` on, its bytes from `to` on. */
function interleaveRow(rounded: usize, blocks: i32, unsigned: bool, header: usize, to: usize): void {
  for (; blocks > 0; blocks--, rounded += ROUNDED_BLOCK, header += ROWS_BLOCK, to += ROWS_BLOCK) {
    store<f32>(header, load<f32>(rounded));
    store<f32>(header, load<f32>(rounded, 4), 20);
    // Unsigned bytes of weights are 128 too large: sums start with what cancels this.
    store<i32>(header, unsigned ? load<i32>(rounded, 12) : 0, 40);
    for (let eight: usize = 0; eight < 4; eight++) {
      const v = v128.load(rounded + (eight << 4), 16);
      const pairs = i32x4.shuffle(v, v, 0, 2, 1, 3);
      v128.store64_lane(to + eight * 2 * QUAD, pairs, 0);
      v128.store64_lane(to + eight * 2 * QUAD, pairs, 1, QUAD);
    }
  }
}

/** Writes a panel of columns k … k + count − 1 of eight rows. k begins a block. */
export function bytePanel(type: i32, from: usize, to: usize, k: i32, count: i32): void {
  from += columnOffset(type, k);
  for (count = padded(count); count > 0; count -= 32, to += PANEL_BLOCK) {
    v128.store(to, bfloat16At(from));
    v128.store(to, bfloat16At(from + 8), 16);
    if (type == INT8) {
      const flip = i32x4.splat(int8Kernel == INT8_UNSIGNED_BYTES ? oddSigns : evenSigns);
      for (let i: usize = 0; i < 256; i += 16) v128.store(to + i, v128.xor(v128.load(from + i, 16), flip), 64);
      from += INT8_BLOCK_BYTES;
    } else {
      v128.store(to, bfloat16At(from + 16), 32);
      v128.store(to, bfloat16At(from + 24), 48);
      const mask = i8x16.splat(<i8>nibbles);
      for (let i: usize = 0; i < 128; i += 32) {
        for (let half: usize = 0; half < 32; half += 16) {
          const v = v128.load(from + i + half, 32);
          v128.store(to + 2 * i + half, v128.and(v, mask), 64);
          v128.store(to + 2 * i + half, v128.and(i16x8.shr_u(v, 4), mask), 96);
        }
      }
      from += INT4_BLOCK_BYTES;
    }
  }
}

/**
 * y[r][0 … columns − 1] (+)= Σ over `count` columns of W, for all rows of x with one panel.
 *
 * @param sums Space for the sums of one tile.
 */
export function byteTiles(
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
  for (; rows > 0; rows -= HEIGHT, y += HEIGHT * yStep, x += <usize>blocks * ROWS_BLOCK) {
    const some = <usize>min(HEIGHT, rows);
    memory.fill(sums, 0, TILE_BYTES);
    if (add) {
      for (let r: usize = 0; r < some; r++) {
        const from = y + r * yStep;
        v128.store(sums + (r << 5), loadSome(from, columns));
        v128.store(sums + (r << 5), loadSome(from + 16, columns - 4), 16);
      }
    }
    byteTile(x, panel, blocks, type != INT8, sums);
    for (let r: usize = 0; r < some; r++) {
      const at = sums + (r << 5);
      storeSome(y + r * yStep, v128.load(at), v128.load(at, 16), columns);
    }
  }
}

/** sums + Σ x · w over the four bytes of each word. */
function addDot(x: v128, w: v128, sums: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sums);
  return sums;
}

/** Adds the products of five rows of x and eight of weights to `sums`. a and b are high bytes, c and d low ones. */
function byteTile(x: usize, panel: usize, blocks: i32, minima: bool, sums: usize): void {
  for (; blocks > 0; blocks--) {
    const header = x;
    const scales = panel;
    let a0 = i32x4.splat(0);
    let b0 = a0;
    let a1 = a0;
    let b1 = a0;
    let a2 = a0;
    let b2 = a0;
    let a3 = a0;
    let b3 = a0;
    let a4 = a0;
    let b4 = a0;
    let c0 = v128.load32_splat(header, 40);
    let d0 = c0;
    let c1 = v128.load32_splat(header, 44);
    let d1 = c1;
    let c2 = v128.load32_splat(header, 48);
    let d2 = c2;
    let c3 = v128.load32_splat(header, 52);
    let d3 = c3;
    let c4 = v128.load32_splat(header, 56);
    let d4 = c4;
    panel += 64;
    for (const end = (x += HEADER) + 8 * QUAD; x < end; x += QUAD, panel += 32) {
      const v = v128.load(panel);
      const u = v128.load(panel, 16);
      let t = v128.load32_splat(x);
      a0 = addDot(t, v, a0);
      b0 = addDot(t, u, b0);
      t = v128.load32_splat(x, 4);
      c0 = addDot(t, v, c0);
      d0 = addDot(t, u, d0);
      t = v128.load32_splat(x, 8);
      a1 = addDot(t, v, a1);
      b1 = addDot(t, u, b1);
      t = v128.load32_splat(x, 12);
      c1 = addDot(t, v, c1);
      d1 = addDot(t, u, d1);
      t = v128.load32_splat(x, 16);
      a2 = addDot(t, v, a2);
      b2 = addDot(t, u, b2);
      t = v128.load32_splat(x, 20);
      c2 = addDot(t, v, c2);
      d2 = addDot(t, u, d2);
      t = v128.load32_splat(x, 24);
      a3 = addDot(t, v, a3);
      b3 = addDot(t, u, b3);
      t = v128.load32_splat(x, 28);
      c3 = addDot(t, v, c3);
      d3 = addDot(t, u, d3);
      t = v128.load32_splat(x, 32);
      a4 = addDot(t, v, a4);
      b4 = addDot(t, u, b4);
      t = v128.load32_splat(x, 36);
      c4 = addDot(t, v, c4);
      d4 = addDot(t, u, d4);
    }
    if (minima) {
      const s = v128.load(scales, 32);
      const t = v128.load(scales, 48);
      addMinima(sums, s, t, v128.load32_splat(header, 20));
      addMinima(sums + 32, s, t, v128.load32_splat(header, 24));
      addMinima(sums + 64, s, t, v128.load32_splat(header, 28));
      addMinima(sums + 96, s, t, v128.load32_splat(header, 32));
      addMinima(sums + 128, s, t, v128.load32_splat(header, 36));
    }
    const s = v128.load(scales);
    const t = v128.load(scales, 16);
    addSums(sums, a0, b0, c0, d0, s, t, v128.load32_splat(header));
    addSums(sums + 32, a1, b1, c1, d1, s, t, v128.load32_splat(header, 4));
    addSums(sums + 64, a2, b2, c2, d2, s, t, v128.load32_splat(header, 8));
    addSums(sums + 96, a3, b3, c3, d3, s, t, v128.load32_splat(header, 12));
    addSums(sums + 128, a4, b4, c4, d4, s, t, v128.load32_splat(header, 16));
  }
}

/** Adds a row's sum, times the minima of the weights. */
function addMinima(at: usize, s: v128, t: v128, sum: v128): void {
  const first = fma(s, sum, v128.load(at));
  v128.store(at, fma(t, sum, v128.load(at, 16)), 16);
  v128.store(at, first);
}

/** Adds integer sums of a row of x, times the scales of the weights and of x. */
function addSums(at: usize, a: v128, b: v128, c: v128, d: v128, s: v128, t: v128, scale: v128): void {
  const first = fma(f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(a, 8), c)), scale), s, v128.load(at));
  const second = fma(f32x4.mul(f32x4.convert_i32x4_s(i32x4.add(i32x4.shl(b, 8), d)), scale), t, v128.load(at, 16));
  v128.store(at, second, 16);
  v128.store(at, first);
}
