/**
 * Products of one row of x with packed int8. Three kernels compute the same integers for each block, and so the same
 * bits. Which instruction is fast differs between processors, and so does what the relaxed dot product of bytes does
 * with a second operand that has all eight bits. `../../engine/int8_kernel.ts` tries them at start.
 */
import {ROUNDED_BLOCK} from './activations';
import {bfloat16At} from './bfloat16';
import {int8Kernel} from './int8_kernel';
import {evenSigns, lowBytes, oddSigns, readAhead, readsAhead} from './stream';
import {fma, storeSome, zero} from './vector';
import {INT8_UNSIGNED_BYTES, INT8_WORDS} from '../numbers';
import {INT8_BLOCK_BYTES} from '../layouts/packing';

/** y[n] = Σ x[k] · W[n, k] for a run of groups. x was written by `quantizeRow`. */
export function matVecInt8(w: usize, x: usize, y: usize, rows: i32, blocks: i32): void {
  const groupBytes = <usize>blocks * INT8_BLOCK_BYTES;
  const stop = w + <usize>((rows + 7) >> 3) * groupBytes;
  if (ASC_FEATURE_RELAXED_SIMD && readsAhead && int8Kernel != INT8_WORDS) {
    for (; rows >= 16; rows -= 16, w += 2 * groupBytes, y += 64) {
      readAhead(w, 2 * groupBytes, stop);
      twoGroups(w, groupBytes, x, y);
    }
  }
  for (; rows > 0; rows -= 8, w += groupBytes, y += 32) {
    readAhead(w, groupBytes, stop);
    if (ASC_FEATURE_RELAXED_SIMD && int8Kernel != INT8_WORDS) groupOfBytes(w, groupBytes, x, y, rows);
    else groupOfWords(w, groupBytes, x, y, rows);
  }
}

/** Multiplies in 16-bit integers. */
function groupOfWords(w: usize, groupBytes: usize, x: usize, y: usize, rows: i32): void {
  const low = i32x4.splat(lowBytes);
  const stop = w + groupBytes;
  let a = zero();
  let b = a;
  let q = x;
  while (w < stop) {
    const scales = w;
    w += 16;
    // Bytes of even columns are 128 too large: the sums start with a value that cancels this.
    let a0 = v128.load32_splat(q, 8);
    let b0 = a0;
    let a1 = i32x4.splat(0);
    let b1 = a1;
    const head = q;
    const end = q + ROUNDED_BLOCK;
    for (q += 16; q < end; q += 8, w += 32) {
      const v = v128.load(w);
      const u = v128.load(w, 16);
      const even = v128.load32_splat(q);
      const odd = v128.load32_splat(q, 4);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(v, low), even));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v128.and(u, low), even));
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(i16x8.shr_s(v, 8), odd));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(i16x8.shr_s(u, 8), odd));
    }
    const scale = v128.load32_splat(head);
    a = fma(scaled(i32x4.add(a0, a1), scale), bfloat16At(scales), a);
    b = fma(scaled(i32x4.add(b0, b1), scale), bfloat16At(scales + 8), b);
  }
  storeSome(y, a, b, rows);
}

function scaled(sums: v128, scale: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(sums), scale);
}

/** sums + Σ x · w over the four bytes of each word. */
function addDot(x: v128, w: v128, sums: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, w, sums);
  return sums;
}

/** What makes all bytes of the weights unsigned, n + 128, or signed. */
function signs(): v128 {
  return i32x4.splat(int8Kernel == INT8_UNSIGNED_BYTES ? oddSigns : evenSigns);
}

/** The sum of the low bytes of x begins with this: unsigned bytes of weights are 128 too large. */
function firstSum(header: usize): v128 {
  return int8Kernel == INT8_UNSIGNED_BYTES ? v128.load32_splat(header, 12) : i32x4.splat(0);
}

/** Multiplies in bytes, where the integers of x are 256 · high + low. */
function groupOfBytes(w: usize, groupBytes: usize, x: usize, y: usize, rows: i32): void {
  const flip = signs();
  const stop = w + groupBytes;
  let a = zero();
  let b = a;
  let q = x;
  while (w < stop) {
    const scales = w;
    w += 16;
    let a0 = i32x4.splat(0);
    let b0 = a0;
    let a1 = firstSum(q);
    let b1 = a1;
    const head = q;
    const end = q + ROUNDED_BLOCK;
    for (q += 16; q < end; q += 16, w += 64) {
      for (let quad: usize = 0; quad < 8; quad += 4) {
        const v = v128.xor(v128.load(w + (quad << 3)), flip);
        const u = v128.xor(v128.load(w + (quad << 3), 16), flip);
        const high = v128.load32_splat(q + quad);
        const low = v128.load32_splat(q + quad, 8);
        a0 = addDot(high, v, a0);
        b0 = addDot(high, u, b0);
        a1 = addDot(low, v, a1);
        b1 = addDot(low, u, b1);
      }
    }
    const scale = v128.load32_splat(head);
    a = fma(scaled(i32x4.add(i32x4.shl(a0, 8), a1), scale), bfloat16At(scales), a);
    b = fma(scaled(i32x4.add(i32x4.shl(b0, 8), b1), scale), bfloat16At(scales + 8), b);
  }
  storeSome(y, a, b, rows);
}

/** Two groups side by side. */
function twoGroups(w: usize, groupBytes: usize, x: usize, y: usize): void {
  const flip = signs();
  const stop = w + groupBytes;
  let a = zero();
  let b = a;
  let c = a;
  let d = a;
  let q = x;
  let r = w + groupBytes;
  while (w < stop) {
    const scales = w;
    const otherScales = r;
    w += 16;
    r += 16;
    let a0 = i32x4.splat(0);
    let b0 = a0;
    let c0 = a0;
    let d0 = a0;
    let a1 = firstSum(q);
    let b1 = a1;
    let c1 = a1;
    let d1 = a1;
    const head = q;
    const end = q + ROUNDED_BLOCK;
    for (q += 16; q < end; q += 16, w += 64, r += 64) {
      for (let quad: usize = 0; quad < 8; quad += 4) {
        const at = w + (quad << 3);
        const to = r + (quad << 3);
        const v = v128.xor(v128.load(at), flip);
        const u = v128.xor(v128.load(at, 16), flip);
        const s = v128.xor(v128.load(to), flip);
        const t = v128.xor(v128.load(to, 16), flip);
        const high = v128.load32_splat(q + quad);
        const low = v128.load32_splat(q + quad, 8);
        a0 = addDot(high, v, a0);
        b0 = addDot(high, u, b0);
        c0 = addDot(high, s, c0);
        d0 = addDot(high, t, d0);
        a1 = addDot(low, v, a1);
        b1 = addDot(low, u, b1);
        c1 = addDot(low, s, c1);
        d1 = addDot(low, t, d1);
      }
    }
    const scale = v128.load32_splat(head);
    a = fma(scaled(i32x4.add(i32x4.shl(a0, 8), a1), scale), bfloat16At(scales), a);
    b = fma(scaled(i32x4.add(i32x4.shl(b0, 8), b1), scale), bfloat16At(scales + 8), b);
    c = fma(scaled(i32x4.add(i32x4.shl(c0, 8), c1), scale), bfloat16At(otherScales), c);
    d = fma(scaled(i32x4.add(i32x4.shl(d0, 8), d1), scale), bfloat16At(otherScales + 8), d);
  }
  v128.store(y, d, 48);
  v128.store(y, c, 32);
  v128.store(y, b, 16);
  v128.store(y, a);
}
