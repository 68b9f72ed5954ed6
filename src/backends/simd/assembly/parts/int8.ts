/**
 * Packed int8: for each group of eight rows, for each block of 32 columns, eight bfloat16 scales, and then, for every
 * four columns, eight words of four bytes, one word per row. W = scale · n with n in −127 … 127. Bytes of even columns
 * hold n + 128, and those of odd columns n in two's complement, so that a mask or a shift widens them to 16 bits. 272
 * bytes per block and group.
 */
import {INT8_BLOCK_BYTES} from '../layouts/packing';
import {ROUNDED_BLOCK} from './activations';
import {bfloat16At, roundToBfloat16, storeBfloat16} from './bfloat16';
import {fma, inverse, storeSome, zero} from './vector';

function evenByte(v: v128, scale: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.sub(v128.and(v, i32x4.splat(255)), i32x4.splat(128))), scale);
}

function oddByte(v: v128, scale: v128): v128 {
  return f32x4.mul(f32x4.convert_i32x4_s(i32x4.shr_s(v, 24)), scale);
}

/** Writes a panel of whole blocks. */
export function decodeInt8(from: usize, to: usize, count: i32): void {
  for (; count > 0; count -= 32) {
    const s = bfloat16At(from);
    const t = bfloat16At(from + 8);
    from += 16;
    for (let quad = 0; quad < 8; quad++, from += 32, to += 128) {
      const v = v128.load(from);
      const u = v128.load(from, 16);
      v128.store(to, evenByte(v, s));
      v128.store(to, evenByte(u, t), 16);
      v128.store(to, oddByte(i32x4.shl(v, 16), s), 32);
      v128.store(to, oddByte(i32x4.shl(u, 16), t), 48);
      v128.store(to, evenByte(i32x4.shr_u(v, 16), s), 64);
      v128.store(to, evenByte(i32x4.shr_u(u, 16), t), 80);
      v128.store(to, oddByte(v, s), 96);
      v128.store(to, oddByte(u, t), 112);
    }
  }
}

function quantized(at: usize, factor: v128): v128 {
  const v = f32x4.nearest(f32x4.mul(v128.load(at), factor));
  return i32x4.trunc_sat_f32x4_s(f32x4.pmax(f32x4.pmin(v, f32x4.splat(127)), f32x4.splat(-127)));
}

/** Packs a panel of whole blocks. Values are divided by the stored scale, which is already rounded. */
export function encodeInt8(panel: usize, to: usize, count: i32): void {
  const low = i32x4.splat(255);
  for (; count > 0; count -= 32, panel += 1024, to += INT8_BLOCK_BYTES) {
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
        v128.store(to + 16 + quad * 32 + half, v128.xor(v128.or(ab, cd), i32x4.splat(0x00800080)));
      }
    }
  }
}
