/**
 * Rows of scores become weights, e^(score − maximum). Two vectors side by side: engines with 256-bit vectors merge them
 * (see `tile.ts`).
 */
import {half, ln2High, ln2Low, log2e, one, p0, p1, p2, p3, p4, rounding} from './exponential';
import {fma, maxOf, sumOf} from './vector';

/**
 * Weights of scores further below the maximum than this are all the same, below 1e-37. A variable: see
 * `exponential.ts`.
 */
let least: f32 = 0;

export function startWeights(): void {
  least = -86;
}

/** The largest of `before` and the scores of a row, a multiple of eight, all of which are visible. */
export function largestOf(row: usize, bytes: usize, before: f32): f32 {
  let a = f32x4.splat(before);
  let b = a;
  for (const end = row + bytes; row < end; row += 32) {
    a = f32x4.pmax(a, v128.load(row));
    b = f32x4.pmax(b, v128.load(row, 16));
  }
  return maxOf(f32x4.pmax(a, b));
}

/**
 * Turns a row of scores, a multiple of eight, into weights, and returns their sum. `visible` has a word for each: all
 * bits, or 0, which also is the weight then. The relative error is about 1e-7.
 */
export function weighRow(row: usize, bytes: usize, visible: usize, maximum: f32): f32 {
  const most = f32x4.splat(maximum);
  const low = f32x4.splat(least);
  const scale = f32x4.splat(log2e);
  const round = f32x4.splat(rounding);
  const high = f32x4.splat(ln2High);
  const rest = f32x4.splat(ln2Low);
  const c0 = f32x4.splat(p0);
  const c1 = f32x4.splat(p1);
  const c2 = f32x4.splat(p2);
  const c3 = f32x4.splat(p3);
  const c4 = f32x4.splat(p4);
  const c5 = f32x4.splat(half);
  const c6 = f32x4.splat(one);
  let s = f32x4.splat(0);
  let t = s;
  for (const end = row + bytes; row < end; row += 32, visible += 32) {
    const x = f32x4.pmax(f32x4.sub(v128.load(row), most), low);
    const y = f32x4.pmax(f32x4.sub(v128.load(row, 16), most), low);
    const m = fma(x, scale, round);
    const n = fma(y, scale, round);
    const i = f32x4.sub(m, round);
    const j = f32x4.sub(n, round);
    const u = fma(i, rest, fma(i, high, x));
    const v = fma(j, rest, fma(j, high, y));
    let p = fma(c0, u, c1);
    let q = fma(c0, v, c1);
    p = fma(p, u, c2);
    q = fma(q, v, c2);
    p = fma(p, u, c3);
    q = fma(q, v, c3);
    p = fma(p, u, c4);
    q = fma(q, v, c4);
    p = fma(p, u, c5);
    q = fma(q, v, c5);
    p = fma(fma(p, u, c6), u, c6);
    q = fma(fma(q, v, c6), v, c6);
    // Adds the integer to the exponent.
    p = v128.and(i32x4.add(p, i32x4.shl(m, 23)), v128.load(visible));
    q = v128.and(i32x4.add(q, i32x4.shl(n, 23)), v128.load(visible, 16));
    s = f32x4.add(s, p);
    t = f32x4.add(t, q);
    v128.store(row, q, 16);
    v128.store(row, p);
  }
  return sumOf(f32x4.add(s, t));
}
