/**
 * Packed int8: for each group of eight rows, for each block of 32 columns, eight bfloat16 scales, then for each four
 * columns eight words, one a row, of four bytes. W = scale · byte, −127 … 127. 272 bytes a block and group.
 */
import {ACTIVATION_BLOCK} from './activations';
import {roundToBfloat16} from './bfloat16';
import {fma, storeSome, zero} from './vector';

export const INT8_BLOCK: usize = 272;

/** Four bfloat16 values. */
export function bfloat16At(at: usize): v128 {
  return i32x4.shl(v128.load16x4_u(at), 16);
}

/** The upper halves of four words. */
export function storeBfloat16(at: usize, v: v128): void {
  const halves = i32x4.shr_u(v, 16);
  v128.store64_lane(at, i16x8.narrow_i32x4_u(halves, halves), 0);
}

/** The byte in the upper eight bits of each word. */
function topByte(v: v128, scale: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_s(v, 24)), scale);
}

/** Panel of whole blocks. */
export function decodeInt8(from: usize, to: usize, count: i32): void {
  for (; count > 0; count -= 32) {
    const s = bfloat16At(from);
    const t = bfloat16At(from + 8);
    from += 16;
    for (let quad = 0; quad < 8; quad++, from += 32, to += 128) {
      const v = v128.load(from);
      const u = v128.load(from, 16);
      v128.store(to, topByte(i32x4.shl(v, 24), s));
      v128.store(to, topByte(i32x4.shl(u, 24), t), 16);
      v128.store(to, topByte(i32x4.shl(v, 16), s), 32);
      v128.store(to, topByte(i32x4.shl(u, 16), t), 48);
      v128.store(to, topByte(i32x4.shl(v, 8), s), 64);
      v128.store(to, topByte(i32x4.shl(u, 8), t), 80);
      v128.store(to, topByte(v, s), 96);
      v128.store(to, topByte(u, t), 112);
    }
  }
}

/** 1 / v, or 0. */
export function inverse(v: v128): v128 {
  return v128.and(f32x4.div(f32x4.splat(1), v), f32x4.ne(v, zero()));
}

function quantized(at: usize, factor: v128): v128 {
  const v = f32x4.nearest(f32x4.mul(v128.load(at), factor));
  return i32x4.trunc_sat_f32x4_s(f32x4.pmax(f32x4.pmin(v, f32x4.splat(127)), f32x4.splat(-127)));
}

/** From a panel of whole blocks. Values are rounded with the scale as it is stored. */
export function encodeInt8(panel: usize, to: usize, count: i32): void {
  const low = i32x4.splat(255);
  for (; count > 0; count -= 32, panel += 1024, to += INT8_BLOCK) {
    for (let half: usize = 0; half < 32; half += 16) {
      let largest = zero();
      for (let i: usize = 0; i < 1024; i += 32) {
        largest = f32x4.pmax(largest, f32x4.abs(v128.load(panel + i + half)));
      }
      const scale = roundToBfloat16(f32x4.mul(largest, f32x4.splat(<f32>(1.0 / 127.0))));
      storeBfloat16(to + (half >> 1), scale);
      const factor = inverse(scale);
      for (let quad: usize = 0; quad < 8; quad++) {
        const at = panel + quad * 128 + half;
        const ab = v128.or(
          v128.and(quantized(at, factor), low),
          i32x4.shl(v128.and(quantized(at + 32, factor), low), 8),
        );
        const cd = v128.or(
          i32x4.shl(v128.and(quantized(at + 64, factor), low), 16),
          i32x4.shl(quantized(at + 96, factor), 24),
        );
        v128.store(to + 16 + quad * 32 + half, v128.or(ab, cd));
      }
    }
  }
}

/** y[n] = Σ x[k] · W[n, k] for a run of groups; x as `quantizeRow` left it. */
export function matVecInt8(w: usize, x: usize, y: usize, rows: i32, blocks: i32): void {
  for (; rows > 0; rows -= 8, y += 32) {
    let a = zero();
    let b = a;
    let q = x;
    for (let block = blocks; block > 0; block--, q += ACTIVATION_BLOCK) {
      const s = bfloat16At(w);
      const t = bfloat16At(w + 8);
      w += 16;
      let a0 = i32x4.splat(0);
      let a1 = a0;
      let b0 = a0;
      let b1 = a0;
      const end = q + ACTIVATION_BLOCK;
      for (let p = q + 16; p < end; p += 8, w += 32) {
        const v = v128.load(w);
        const u = v128.load(w, 16);
        const even = v128.load32_splat(p);
        const odd = v128.load32_splat(p, 4);
        a0 = i32x4.add(a0, i32x4.dot_i16x8_s(i16x8.shr_s(i16x8.shl(v, 8), 8), even));
        a1 = i32x4.add(a1, i32x4.dot_i16x8_s(i16x8.shr_s(v, 8), odd));
        b0 = i32x4.add(b0, i32x4.dot_i16x8_s(i16x8.shr_s(i16x8.shl(u, 8), 8), even));
        b1 = i32x4.add(b1, i32x4.dot_i16x8_s(i16x8.shr_s(u, 8), odd));
      }
      const scale = v128.load32_splat(q);
      a = fma(f32x4.convert_i32x4_s(i32x4.add(a0, a1)), f32x4.mul(s, scale), a);
      b = fma(f32x4.convert_i32x4_s(i32x4.add(b0, b1)), f32x4.mul(t, scale), b);
    }
    storeSome(y, a, b, rows);
  }
}
