/**
 * Packed bfloat16: for each group of eight rows, for each pair of columns, eight words, one per row. The low half is
 * the even column, the high half the odd one. 16 bytes per column and group.
 */
import {highHalves, readAhead, readsAhead} from './stream';
import {fma, storeSome, zero} from './vector';

const HIGH = 0xffff0000;

export function bfloat16GroupBytes(paddedColumns: i32): usize {
  return (<usize>paddedColumns) << 4;
}

/** Writes a panel of `count` columns. An odd count writes one more column. */
export function decodeBfloat16(from: usize, to: usize, count: i32): void {
  const high = i32x4.splat(HIGH);
  for (; count > 0; count -= 2, from += 32, to += 64) {
    const a = v128.load(from);
    const b = v128.load(from, 16);
    v128.store(to, i32x4.shl(a, 16));
    v128.store(to, i32x4.shl(b, 16), 16);
    v128.store(to, v128.and(a, high), 32);
    v128.store(to, v128.and(b, high), 48);
  }
}

/** Rounds to the nearest bfloat16, ties to even, in the upper half of each word. NaN stays NaN. */
export function roundToBfloat16(v: v128): v128 {
  const odd = v128.and(i32x4.shr_u(v, 16), i32x4.splat(1));
  const rounded = i32x4.add(v, i32x4.add(odd, i32x4.splat(0x7fff)));
  const nan = v128.or(v, i32x4.splat(0x400000));
  return v128.and(v128.bitselect(rounded, nan, f32x4.eq(v, v)), i32x4.splat(HIGH));
}

/** Packs a panel with an even number of columns. */
export function encodeBfloat16(panel: usize, to: usize, count: i32): void {
  for (; count > 0; count -= 2, panel += 64, to += 32) {
    for (let half: usize = 0; half < 32; half += 16) {
      const even = roundToBfloat16(v128.load(panel + half));
      const odd = roundToBfloat16(v128.load(panel + half, 32));
      v128.store(to + half, v128.or(i32x4.shr_u(even, 16), odd));
    }
  }
}

/** y[n] = Σ x[k] · W[n, k] for one row of x and a run of groups. Bound by memory, which is read in order. */
export function matVecBfloat16(w: usize, groupBytes: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  const stop = w + <usize>((rows + 7) >> 3) * groupBytes;
  if (readsAhead) {
    for (; rows >= 16; rows -= 16, w += 2 * groupBytes, y += 64) {
      readAhead(w, 2 * groupBytes, stop);
      twoGroups(w, groupBytes, x, y, columns);
    }
  }
  for (; rows > 0; rows -= 8, w += groupBytes, y += 32) oneGroup(w, x, y, rows, columns);
}

/** Two groups side by side. Sums are added as in `oneGroup`. */
function twoGroups(w: usize, groupBytes: usize, x: usize, y: usize, columns: i32): void {
  const high = i32x4.splat(highHalves);
  const end = x + ((<usize>(columns & ~1)) << 2);
  let a0 = zero();
  let a1 = a0;
  let b0 = a0;
  let b1 = a0;
  let c0 = a0;
  let c1 = a0;
  let d0 = a0;
  let d1 = a0;
  let p = w;
  let r = w + groupBytes;
  for (let q = x; q < end; q += 8, p += 32, r += 32) {
    const a = v128.load(p);
    const b = v128.load(p, 16);
    const c = v128.load(r);
    const d = v128.load(r, 16);
    const x0 = v128.load32_splat(q);
    const x1 = v128.load32_splat(q, 4);
    a0 = fma(i32x4.shl(a, 16), x0, a0);
    b0 = fma(i32x4.shl(b, 16), x0, b0);
    c0 = fma(i32x4.shl(c, 16), x0, c0);
    d0 = fma(i32x4.shl(d, 16), x0, d0);
    a1 = fma(v128.and(a, high), x1, a1);
    b1 = fma(v128.and(b, high), x1, b1);
    c1 = fma(v128.and(c, high), x1, c1);
    d1 = fma(v128.and(d, high), x1, d1);
  }
  // The value after the last x does not belong to the row and may be NaN.
  if (columns & 1) {
    const x0 = v128.load32_splat(end);
    a0 = fma(i32x4.shl(v128.load(p), 16), x0, a0);
    b0 = fma(i32x4.shl(v128.load(p, 16), 16), x0, b0);
    c0 = fma(i32x4.shl(v128.load(r), 16), x0, c0);
    d0 = fma(i32x4.shl(v128.load(r, 16), 16), x0, d0);
  }
  // V8 looks for pairs from the second store of each.
  v128.store(y, f32x4.add(d0, d1), 48);
  v128.store(y, f32x4.add(c0, c1), 32);
  v128.store(y, f32x4.add(b0, b1), 16);
  v128.store(y, f32x4.add(a0, a1));
}

/** Up to eight rows. */
function oneGroup(w: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  const high = i32x4.splat(highHalves);
  const end = x + ((<usize>(columns & ~1)) << 2);
  let a0 = zero();
  let a1 = a0;
  let b0 = a0;
  let b1 = a0;
  for (let q = x; q < end; q += 8, w += 32) {
    const a = v128.load(w);
    const b = v128.load(w, 16);
    const x0 = v128.load32_splat(q);
    const x1 = v128.load32_splat(q, 4);
    a0 = fma(i32x4.shl(a, 16), x0, a0);
    b0 = fma(i32x4.shl(b, 16), x0, b0);
    a1 = fma(v128.and(a, high), x1, a1);
    b1 = fma(v128.and(b, high), x1, b1);
  }
  if (columns & 1) {
    const x0 = v128.load32_splat(end);
    a0 = fma(i32x4.shl(v128.load(w), 16), x0, a0);
    b0 = fma(i32x4.shl(v128.load(w, 16), 16), x0, b0);
  }
  storeSome(y, f32x4.add(a0, a1), f32x4.add(b0, b1), rows);
}

/** Loads four bfloat16 values as float32. */
export function bfloat16At(at: usize): v128 {
  return i32x4.shl(v128.load16x4_u(at), 16);
}

/** Writes an even number of values as bfloat16, one after another. */
export function roundRow(from: usize, to: usize, count: i32): void {
  for (; count >= 4; count -= 4, from += 16, to += 8) storeBfloat16(to, roundToBfloat16(v128.load(from)));
  if (count > 0) {
    const pair = i32x4.shr_u(roundToBfloat16(v128.load64_zero(from)), 16);
    v128.store32_lane(to, i16x8.narrow_i32x4_u(pair, pair), 0);
  }
}

/** Loads four numbers of type T as float32. Bfloat16 is u16 here. */
export function fourOf<T>(at: usize): v128 {
  if (sizeof<T>() == 2) return bfloat16At(at);
  return v128.load(at);
}

/** Loads a number of type T as float32. */
export function oneOf<T>(at: usize): f32 {
  if (sizeof<T>() == 2) return reinterpret<f32>((<u32>load<u16>(at)) << 16);
  return load<f32>(at);
}

/** Stores the upper halves of four words. */
export function storeBfloat16(at: usize, v: v128): void {
  const halves = i32x4.shr_u(v, 16);
  v128.store64_lane(at, i16x8.narrow_i32x4_u(halves, halves), 0);
}
