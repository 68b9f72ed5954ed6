/**
 * One row of x as 16-bit integers, for products with integer weights: for each block of 32 values a float32 scale (the
 * largest becomes ±32767) and the sum of the block as it is rounded, then the values. Their error, 1e-5 of the largest of the
 * block, is far below that of the weights; the integer sums are exact.
 *
 * Within every four values the order is 0, 2, 1, 3: that of the halves which the weights' bytes are split into.
 */
import {padded} from './formats';
import {loadSome, maxOf, sumOf, zero} from './vector';

/** Of a block: scale and sum in the first 16, then 32 values. */
export const ACTIVATION_BLOCK: usize = 80;

export function activationBytes(columns: i32): usize {
  return <usize>(padded(columns) >> 5) * ACTIVATION_BLOCK;
}

export function quantizeRow(x: usize, columns: i32, to: usize): void {
  for (; columns > 0; columns -= 32, x += 128, to += ACTIVATION_BLOCK) {
    let largest = zero();
    for (let i = 0; i < 32; i += 4) {
      const v = loadSome(x + ((<usize>i) << 2), columns - i);
      largest = f32x4.pmax(largest, f32x4.abs(v));
    }
    const most = maxOf(largest);
    store<f32>(to, most / 32767);
    let total = i32x4.splat(0);
    const factor = f32x4.splat(most > 0 ? 32767 / most : 0);
    for (let i = 0; i < 32; i += 8) {
      const at = x + ((<usize>i) << 2);
      const a = roundTo(loadSome(at, columns - i), factor);
      const b = roundTo(loadSome(at + 16, columns - i - 4), factor);
      total = i32x4.add(total, i32x4.add(a, b));
      const h = i16x8.narrow_i32x4_s(a, b);
      v128.store(to + 16 + ((<usize>i) << 1), i16x8.shuffle(h, h, 0, 2, 1, 3, 4, 6, 5, 7));
    }
    store<f32>(to, sumOf(f32x4.convert_i32x4_s(total)) * load<f32>(to), 4);
  }
}

function roundTo(v: v128, factor: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v, factor)));
}
