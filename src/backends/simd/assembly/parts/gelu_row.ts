/**
 * GELU in its tanh form, as x · sigmoid(2 u), of a row of values. Two vectors side by side: engines with 256-bit vectors
 * merge them (see `tile.ts`).
 */
import {EDGE, SCRATCH_BYTES} from '../numbers';
import {half, ln2High, ln2Low, log2e, one, p0, p1, p2, p3, p4, rounding} from './exponential';
import {scratch} from './threads';
import {copyValues} from './tile';
import {fma} from './vector';

// Constants in variables: see `exponential.ts`.

let cubic: f32 = 0;
/** −2 √(2 / π) */
let slope: f32 = 0;
/** e to the power of these is finite and normal. */
let least: f32 = 0;
let most: f32 = 0;

export function startGelu(): void {
  cubic = 0.044715;
  slope = -1.5957691216057308;
  least = -86;
  most = 88;
}

/** y = gelu(x). y may be x. */
export function geluRow(x: usize, y: usize, count: i32): void {
  const bytes = (<usize>(count & ~7)) << 2;
  geluPairs(x, 0, y, bytes);
  if ((count & 7) == 0) return;
  const edge = scratch() + SCRATCH_BYTES - EDGE;
  copyValues(edge, x + bytes, count & 7);
  geluPairs(edge, 0, edge, 32);
  copyValues(y + bytes, edge, count & 7);
}

/** y = gelu(gate) · value. y may be gate or value. */
export function gateRow(gate: usize, value: usize, y: usize, count: i32): void {
  const bytes = (<usize>(count & ~7)) << 2;
  geluPairs(gate, value, y, bytes);
  if ((count & 7) == 0) return;
  const edge = scratch() + SCRATCH_BYTES - EDGE;
  copyValues(edge, gate + bytes, count & 7);
  copyValues(edge + 32, value + bytes, count & 7);
  geluPairs(edge, edge + 32, edge, 32);
  copyValues(y + bytes, edge, count & 7);
}

/** y = gelu(x), or gelu(x) · value if there is one, for a multiple of 32 bytes. */
function geluPairs(x: usize, value: usize, y: usize, bytes: usize): void {
  const cube = f32x4.splat(cubic);
  const factor = f32x4.splat(slope);
  const low = f32x4.splat(least);
  const top = f32x4.splat(most);
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
  for (const end = x + bytes; x < end; x += 32, y += 32) {
    const a = v128.load(x);
    const b = v128.load(x, 16);
    let p = f32x4.mul(fma(f32x4.mul(f32x4.mul(a, a), a), cube, a), factor);
    let q = f32x4.mul(fma(f32x4.mul(f32x4.mul(b, b), b), cube, b), factor);
    const c = f32x4.pmax(f32x4.pmin(p, top), low);
    const d = f32x4.pmax(f32x4.pmin(q, top), low);
    const m = fma(c, scale, round);
    const n = fma(d, scale, round);
    const i = f32x4.sub(m, round);
    const j = f32x4.sub(n, round);
    const u = fma(i, rest, fma(i, high, c));
    const v = fma(j, rest, fma(j, high, d));
    p = fma(c0, u, c1);
    q = fma(c0, v, c1);
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
    p = i32x4.add(p, i32x4.shl(m, 23));
    q = i32x4.add(q, i32x4.shl(n, 23));
    p = f32x4.div(a, f32x4.add(p, c6));
    q = f32x4.div(b, f32x4.add(q, c6));
    if (value != 0) {
      p = f32x4.mul(p, v128.load(value));
      q = f32x4.mul(q, v128.load(value, 16));
      value += 32;
    }
    v128.store(y, q, 16);
    v128.store(y, p);
  }
}
