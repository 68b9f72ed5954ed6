/**
 * Packed int4: for each group of eight rows, for each block of 32 columns, eight bfloat16 scales, eight bfloat16
 * minima, and then, for every eight columns, eight words, one per row. Byte i holds column i in its low four bits and
 * column 4 + i in its high four. W = scale · n + minimum with n in 0 … 15. 160 bytes per block and group, 5 bits per
 * weight.
 */
import {INT4_BLOCK_BYTES} from '../layouts/packing';
import {EDGE, SCRATCH_BYTES} from '../numbers';
import {ROUNDED_BLOCK} from './activations';
import {padded} from './blocks';
import {bfloat16At, roundToBfloat16, storeBfloat16} from './bfloat16';
import {highUnit, nibbles, readAhead, readsAhead, unit} from './stream';
import {scratch} from './threads';
import {copyValues, height} from './tile';
import {fma, inverse, storeSome, zero} from './vector';

/** Weights from the lowest four bits of each word. */
function nibble(v: v128, scale: v128, minimum: v128): v128 {
  return fma(f32x4.convert_i32x4_s(v128.and(v, i32x4.splat(15))), scale, minimum);
}

/** Writes a panel of whole blocks. */
export function decodeInt4(from: usize, to: usize, count: i32): void {
  for (; count > 0; count -= 32) {
    for (let half: usize = 0; half < 2; half++) {
      const s = bfloat16At(from + (half << 3));
      const m = bfloat16At(from + 16 + (half << 3));
      let p = from + 32 + (half << 4);
      let o = to + (half << 4);
      for (let eight = 0; eight < 4; eight++, p += 32, o += 256) {
        const v = v128.load(p);
        v128.store(o, nibble(v, s, m));
        v128.store(o, nibble(i32x4.shr_u(v, 8), s, m), 32);
        v128.store(o, nibble(i32x4.shr_u(v, 16), s, m), 64);
        v128.store(o, nibble(i32x4.shr_u(v, 24), s, m), 96);
        v128.store(o, nibble(i32x4.shr_u(v, 4), s, m), 128);
        v128.store(o, nibble(i32x4.shr_u(v, 12), s, m), 160);
        v128.store(o, nibble(i32x4.shr_u(v, 20), s, m), 192);
        v128.store(o, nibble(i32x4.shr_u(v, 28), s, m), 224);
      }
    }
    from += INT4_BLOCK_BYTES;
    to += 1024;
  }
}

/** How many step sizes are tried per block. */
const CANDIDATES = 6;

/** How much errors count, a float32 for each column of the panel that is packed next. */
let energies: usize = 0;

/**
 * Sets how much errors count in the columns of the next panel.
 *
 * @param to memory for a panel's worth of them.
 * @param from those of all columns; 0 if all count the same.
 */
export function setEnergies(to: usize, from: usize, first: i32, count: i32): void {
  energies = to;
  const whole = (<usize>padded(count)) << 2;
  if (from == 0) {
    for (let at: usize = 0; at < whole; at += 4) store<f32>(to + at, 1);
    return;
  }
  const size = (<usize>count) << 2;
  memory.copy(to, from + ((<usize>first) << 2), size);
  memory.fill(to + size, 0, whole - size);
}

/**
 * Packs a panel of whole blocks. For each row of a block it searches for the scale and minimum with the least sum of
 * squared errors, in which each column counts as `setEnergies` says.
 */
export function encodeInt4(panel: usize, to: usize, count: i32): void {
  let weights = energies;
  for (; count > 0; count -= 32, panel += 1024, weights += 128, to += INT4_BLOCK_BYTES) {
    encodeHalf(panel, weights, to, 0);
    encodeHalf(panel + 16, weights, to, 1);
  }
}

/** Packs four rows of a block. */
function encodeHalf(panel: usize, weights: usize, to: usize, half: usize): void {
  const fifteen = f32x4.splat(15);
  let least = v128.load(panel);
  let largest = least;
  let v1 = zero();
  let count = zero();
  for (let i: usize = 0; i < 1024; i += 32) {
    const v = v128.load(panel + i);
    const weight = v128.load32_splat(weights + (i >> 3));
    least = f32x4.pmin(least, v);
    largest = f32x4.pmax(largest, v);
    v1 = fma(weight, v, v1);
    count = f32x4.add(count, weight);
  }
  const share = inverse(count);
  const mean = f32x4.mul(v1, share);
  const inverseRange = inverse(f32x4.sub(largest, least));
  let scale = zero();
  let minimum = mean;
  let most = zero();
  for (let candidate = 0; candidate < CANDIDATES; candidate++) {
    // Steps that do not cover the whole range clip the largest values but are finer for the others.
    const factor = f32x4.mul(f32x4.splat(<f32>14.3 + <f32>candidate * <f32>0.5), inverseRange);
    // Least-squares line through (n, value). The mean is subtracted from the values for precision.
    let n1 = zero();
    let n2 = zero();
    let nv = zero();
    for (let i: usize = 0; i < 1024; i += 32) {
      const v = v128.load(panel + i);
      const n = f32x4.pmin(f32x4.nearest(f32x4.mul(f32x4.sub(v, least), factor)), fifteen);
      const weighted = f32x4.mul(n, v128.load32_splat(weights + (i >> 3)));
      n1 = f32x4.add(n1, weighted);
      n2 = fma(weighted, n, n2);
      nv = fma(weighted, f32x4.sub(v, mean), nv);
    }
    const middle = f32x4.mul(n1, share);
    const spread = f32x4.sub(n2, f32x4.mul(n1, middle));
    const slope = f32x4.mul(nv, inverse(spread));
    // The part of the sum of squares that the line explains.
    const explained = f32x4.mul(slope, nv);
    const better = f32x4.gt(explained, most);
    scale = v128.bitselect(slope, scale, better);
    minimum = v128.bitselect(f32x4.sub(mean, f32x4.mul(slope, middle)), minimum, better);
    most = v128.bitselect(explained, most, better);
  }
  scale = roundToBfloat16(scale);
  minimum = roundToBfloat16(minimum);
  storeBfloat16(to + (half << 3), scale);
  storeBfloat16(to + 16 + (half << 3), minimum);
  const factor = inverse(scale);
  for (let eight: usize = 0; eight < 4; eight++) {
    let word = i32x4.splat(0);
    for (let i = 0; i < 8; i++) {
      const v = f32x4.sub(v128.load(panel + eight * 256 + ((<usize>i) << 5)), minimum);
      const n = f32x4.pmax(f32x4.pmin(f32x4.nearest(f32x4.mul(v, factor)), fifteen), zero());
      word = v128.or(word, i32x4.shl(i32x4.trunc_sat_f32x4_s(n), ((i & 3) << 3) + (i & 4)));
    }
    v128.store(to + 32 + eight * 32 + (half << 4), word);
  }
}

/** y[n] = Σ x[k] · W[n, k] for a run of groups. x was written by `quantizeRow`. */
export function matVecInt4(w: usize, x: usize, y: usize, rows: i32, blocks: i32): void {
  if (ASC_FEATURE_RELAXED_SIMD) matVecBytes(w, x, y, rows, blocks);
  else matVecWords(w, x, y, rows, blocks);
}

/** Multiplies nibbles and x as bytes, where the integers of x are 256 · high + low. */
function matVecBytes(w: usize, x: usize, y: usize, rows: i32, blocks: i32): void {
  const groupBytes = <usize>blocks * INT4_BLOCK_BYTES;
  const end = w + <usize>((rows + 7) >> 3) * groupBytes;
  // Two groups have more sums than there are 128-bit registers.
  if (readsAhead && height == 5) {
    for (; rows >= 16; rows -= 16, y += 64, w += 2 * groupBytes) {
      readAhead(w, 2 * groupBytes, end);
      sixteenRows(w, groupBytes, x, y);
    }
  }
  for (; rows >= 8; rows -= 8, y += 32, w += groupBytes) {
    readAhead(w, groupBytes, end);
    eightRows(w, x, y, w + groupBytes);
  }
  if (rows == 0) return;
  const edge = scratch() + SCRATCH_BYTES - EDGE;
  eightRows(w, x, edge, end);
  copyValues(y, edge, rows);
}

/**
 * The products of a group. A 16-bit sum of 16 products of at most 15 · 128 cannot overflow.
 *
 * Engines with 256-bit vectors merge the two of four rows, but only in code of this shape: see `tile.ts`.
 */
function eightRows(w: usize, x: usize, y: usize, end: usize): void {
  if (!ASC_FEATURE_RELAXED_SIMD) return;
  const mask = i8x16.splat(<i8>nibbles);
  const ones = i16x8.splat(<i16>unit);
  const units = i16x8.splat(<i16>highUnit);
  let a = zero();
  let b = a;
  while (w < end) {
    // V8 finds no pair of narrow loads if the offset of one is 0.
    const head = w - 16;
    const header = x;
    w += 32;
    let a0 = i16x8.splat(0);
    let b0 = a0;
    let a1 = a0;
    let b1 = a0;
    // One octet of columns per iteration: with two, V8 spills registers.
    const stop = x + ROUNDED_BLOCK;
    for (x += 16; x < stop; x += 16, w += 32) {
      const v = v128.load(w);
      const u = v128.load(w, 16);
      let n = v128.and(v, mask);
      let m = v128.and(u, mask);
      let t = v128.load32_splat(x);
      a0 = i16x8.add(a0, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      b0 = i16x8.add(b0, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      t = v128.load32_splat(x, 8);
      a1 = i16x8.add(a1, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      b1 = i16x8.add(b1, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      n = v128.and(i16x8.shr_u(v, 4), mask);
      m = v128.and(i16x8.shr_u(u, 4), mask);
      t = v128.load32_splat(x, 4);
      a0 = i16x8.add(a0, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      b0 = i16x8.add(b0, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      t = v128.load32_splat(x, 12);
      a1 = i16x8.add(a1, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      b1 = i16x8.add(b1, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
    }
    const scale = v128.load32_splat(header);
    const sum = v128.load32_splat(header, 4);
    a0 = i32x4.add(i32x4.dot_i16x8_s(a0, units), i32x4.dot_i16x8_s(a1, ones));
    b0 = i32x4.add(i32x4.dot_i16x8_s(b0, units), i32x4.dot_i16x8_s(b1, ones));
    a = addBlock(a, a0, scale, sum, i32x4.shl(v128.load16x4_u(head, 16), 16), i32x4.shl(v128.load16x4_u(head, 32), 16));
    b = addBlock(b, b0, scale, sum, i32x4.shl(v128.load16x4_u(head, 24), 16), i32x4.shl(v128.load16x4_u(head, 40), 16));
  }
  v128.store(y, b, 16);
  v128.store(y, a);
}

/** Two groups side by side. Sums are added as in `eightRows`. */
function sixteenRows(w: usize, groupBytes: usize, x: usize, y: usize): void {
  if (!ASC_FEATURE_RELAXED_SIMD) return;
  const mask = i8x16.splat(<i8>nibbles);
  const ones = i16x8.splat(<i16>unit);
  const units = i16x8.splat(<i16>highUnit);
  const end = w + groupBytes;
  let a = zero();
  let b = a;
  let c = a;
  let d = a;
  let r = end;
  while (w < end) {
    const head = w - 16;
    const otherHead = r - 16;
    const header = x;
    w += 32;
    r += 32;
    let a0 = i16x8.splat(0);
    let b0 = a0;
    let c0 = a0;
    let d0 = a0;
    let a1 = a0;
    let b1 = a0;
    let c1 = a0;
    let d1 = a0;
    const stop = x + ROUNDED_BLOCK;
    for (x += 16; x < stop; x += 16, w += 32, r += 32) {
      const i = v128.load(w);
      const j = v128.load(w, 16);
      const k = v128.load(r);
      const l = v128.load(r, 16);
      let m = v128.and(i, mask);
      let n = v128.and(j, mask);
      let o = v128.and(k, mask);
      let p = v128.and(l, mask);
      let t = v128.load32_splat(x);
      a0 = i16x8.add(a0, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      b0 = i16x8.add(b0, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      c0 = i16x8.add(c0, i16x8.relaxed_dot_i8x16_i7x16_s(t, o));
      d0 = i16x8.add(d0, i16x8.relaxed_dot_i8x16_i7x16_s(t, p));
      t = v128.load32_splat(x, 8);
      a1 = i16x8.add(a1, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      b1 = i16x8.add(b1, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      c1 = i16x8.add(c1, i16x8.relaxed_dot_i8x16_i7x16_s(t, o));
      d1 = i16x8.add(d1, i16x8.relaxed_dot_i8x16_i7x16_s(t, p));
      m = v128.and(i16x8.shr_u(i, 4), mask);
      n = v128.and(i16x8.shr_u(j, 4), mask);
      o = v128.and(i16x8.shr_u(k, 4), mask);
      p = v128.and(i16x8.shr_u(l, 4), mask);
      t = v128.load32_splat(x, 4);
      a0 = i16x8.add(a0, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      b0 = i16x8.add(b0, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      c0 = i16x8.add(c0, i16x8.relaxed_dot_i8x16_i7x16_s(t, o));
      d0 = i16x8.add(d0, i16x8.relaxed_dot_i8x16_i7x16_s(t, p));
      t = v128.load32_splat(x, 12);
      a1 = i16x8.add(a1, i16x8.relaxed_dot_i8x16_i7x16_s(t, m));
      b1 = i16x8.add(b1, i16x8.relaxed_dot_i8x16_i7x16_s(t, n));
      c1 = i16x8.add(c1, i16x8.relaxed_dot_i8x16_i7x16_s(t, o));
      d1 = i16x8.add(d1, i16x8.relaxed_dot_i8x16_i7x16_s(t, p));
    }
    const scale = v128.load32_splat(header);
    const sum = v128.load32_splat(header, 4);
    a0 = i32x4.add(i32x4.dot_i16x8_s(a0, units), i32x4.dot_i16x8_s(a1, ones));
    b0 = i32x4.add(i32x4.dot_i16x8_s(b0, units), i32x4.dot_i16x8_s(b1, ones));
    c0 = i32x4.add(i32x4.dot_i16x8_s(c0, units), i32x4.dot_i16x8_s(c1, ones));
    d0 = i32x4.add(i32x4.dot_i16x8_s(d0, units), i32x4.dot_i16x8_s(d1, ones));
    a = addBlock(a, a0, scale, sum, i32x4.shl(v128.load16x4_u(head, 16), 16), i32x4.shl(v128.load16x4_u(head, 32), 16));
    b = addBlock(b, b0, scale, sum, i32x4.shl(v128.load16x4_u(head, 24), 16), i32x4.shl(v128.load16x4_u(head, 40), 16));
    c = addBlock(
      c,
      c0,
      scale,
      sum,
      i32x4.shl(v128.load16x4_u(otherHead, 16), 16),
      i32x4.shl(v128.load16x4_u(otherHead, 32), 16),
    );
    d = addBlock(
      d,
      d0,
      scale,
      sum,
      i32x4.shl(v128.load16x4_u(otherHead, 24), 16),
      i32x4.shl(v128.load16x4_u(otherHead, 40), 16),
    );
  }
  v128.store(y, d, 48);
  v128.store(y, c, 32);
  v128.store(y, b, 16);
  v128.store(y, a);
}

/** Adds the products of a block: integers times scales, and the minima times the sum of x. */
function addBlock(y: v128, integers: v128, xScale: v128, xSum: v128, scales: v128, minima: v128): v128 {
  return fma(f32x4.mul(f32x4.convert_i32x4_s(integers), xScale), scales, fma(minima, xSum, y));
}

/** Multiplies nibbles and x as 16-bit integers, where relaxed instructions are not available. */
function matVecWords(w: usize, x: usize, y: usize, rows: i32, blocks: i32): void {
  const low = i16x8.splat(15);
  for (; rows > 0; rows -= 8, y += 32) {
    let a = zero();
    let b = a;
    let q = x;
    for (let block = blocks; block > 0; block--, q += ROUNDED_BLOCK) {
      const head = w;
      w += 32;
      let a0 = i32x4.splat(0);
      let b0 = a0;
      const end = q + ROUNDED_BLOCK;
      for (let p = q + 16; p < end; p += 16, w += 32) {
        const v = v128.load(w);
        const u = v128.load(w, 16);
        let t = v128.load32_splat(p);
        a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(v, low), t));
        b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.and(u, low), t));
        t = v128.load32_splat(p, 4);
        a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(v, 8), low), t));
        b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(u, 8), low), t));
        t = v128.load32_splat(p, 8);
        a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(v, 4), low), t));
        b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.and(i16x8.shr_u(u, 4), low), t));
        t = v128.load32_splat(p, 12);
        a0 = i32x4.add(a0, i32x4.dot_i16x8_s(i16x8.shr_u(v, 12), t));
        b0 = i32x4.add(b0, i32x4.dot_i16x8_s(i16x8.shr_u(u, 12), t));
      }
      const scale = v128.load32_splat(q);
      const sum = v128.load32_splat(q, 4);
      const c = f32x4.mul(f32x4.convert_i32x4_s(a0), scale);
      const d = f32x4.mul(f32x4.convert_i32x4_s(b0), scale);
      a = fma(c, bfloat16At(head), fma(bfloat16At(head + 16), sum, a));
      b = fma(d, bfloat16At(head + 8), fma(bfloat16At(head + 24), sum, b));
    }
    storeSome(y, a, b, rows);
  }
}
