/** Vectors of four float32 values. The optimizer inlines these small functions. */

/** a · b + c. Whether it rounds once or twice depends on the processor. */
export function fma(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

export function zero(): v128 {
  return f32x4.splat(0);
}

/** Sum of the four lanes. */
export function sumOf(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

export function maxOf(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  );
}

/** Stores the first `count` of eight lanes: those of a, then those of b. */
export function storeSome(at: usize, a: v128, b: v128, count: i32): void {
  if (count >= 8) {
    v128.store(at, a);
    v128.store(at, b, 16);
    return;
  }
  if (count >= 4) {
    v128.store(at, a);
    at += 16;
    count -= 4;
    a = b;
  }
  for (; count > 0; count--, at += 4) {
    v128.store32_lane(at, a, 0);
    a = i32x4.shuffle(a, a, 1, 2, 3, 0);
  }
}

/** Loads the first `count` values, at most four. The other lanes are zero. */
export function loadSome(at: usize, count: i32): v128 {
  if (count >= 4) return v128.load(at);
  let v = zero();
  if (count > 0) v = f32x4.replace_lane(v, 0, load<f32>(at));
  if (count > 1) v = f32x4.replace_lane(v, 1, load<f32>(at, 4));
  if (count > 2) v = f32x4.replace_lane(v, 2, load<f32>(at, 8));
  return v;
}

/** Stores the transpose of four vectors, with rows `step` bytes apart. */
export function storeTransposed(at: usize, step: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab = i32x4.shuffle(a, b, 0, 4, 1, 5);
  const cd = i32x4.shuffle(c, d, 0, 4, 1, 5);
  v128.store(at, i64x2.shuffle(ab, cd, 0, 2));
  v128.store(at + step, i64x2.shuffle(ab, cd, 1, 3));
  const ab2 = i32x4.shuffle(a, b, 2, 6, 3, 7);
  const cd2 = i32x4.shuffle(c, d, 2, 6, 3, 7);
  v128.store(at + 2 * step, i64x2.shuffle(ab2, cd2, 0, 2));
  v128.store(at + 3 * step, i64x2.shuffle(ab2, cd2, 1, 3));
}

/** y = x · factor; y may be x. */
export function scaleRow(x: usize, factor: v128, y: usize, count: i32): void {
  let at: usize = 0;
  for (const end = (<usize>(count & ~3)) << 2; at < end; at += 16) {
    v128.store(y + at, f32x4.mul(v128.load(x + at), factor));
  }
  const t = f32x4.extract_lane(factor, 0);
  for (const end = (<usize>count) << 2; at < end; at += 4) store<f32>(y + at, load<f32>(x + at) * t);
}

/** y += x · factor. */
export function addScaledRow(x: usize, factor: v128, y: usize, count: i32): void {
  let at: usize = 0;
  for (const end = (<usize>(count & ~3)) << 2; at < end; at += 16) {
    v128.store(y + at, fma(v128.load(x + at), factor, v128.load(y + at)));
  }
  const t = f32x4.extract_lane(factor, 0);
  for (const end = (<usize>count) << 2; at < end; at += 4) {
    store<f32>(y + at, load<f32>(x + at) * t + load<f32>(y + at));
  }
}

/** eˣ, after Cephes' expf. The relative error is about 1e-7; the result is never 0 or infinity. */
export function exp4(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, f32x4.splat(88)), f32x4.splat(-87));
  const n = f32x4.nearest(f32x4.mul(x, f32x4.splat(1.44269504088896341)));
  // ln 2 in two parts. The first has few bits, so that its product with n is exact.
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(2.1219444e-4)));
  let p = fma(f32x4.splat(1.98756915e-4), r, f32x4.splat(1.3981999507e-3));
  p = fma(p, r, f32x4.splat(8.3334519073e-3));
  p = fma(p, r, f32x4.splat(4.1665795894e-2));
  p = fma(p, r, f32x4.splat(1.6666665459e-1));
  p = fma(p, r, f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(p, r), r), r), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(n), i32x4.splat(127)), 23);
  return f32x4.mul(p, power);
}

/** tanh x. Small arguments use the Taylor series, since 1 − 2 / (e²ˣ + 1) cancels there. */
export function tanh4(x: v128): v128 {
  const one = f32x4.splat(1);
  const large = f32x4.sub(one, f32x4.div(f32x4.splat(2), f32x4.add(exp4(f32x4.add(x, x)), one)));
  const s = f32x4.mul(x, x);
  let p = fma(s, f32x4.splat(<f32>(62.0 / 2835.0)), f32x4.splat(<f32>(-17.0 / 315.0)));
  p = fma(s, p, f32x4.splat(<f32>(2.0 / 15.0)));
  p = fma(s, p, f32x4.splat(<f32>(-1.0 / 3.0)));
  const small = fma(f32x4.mul(x, s), p, x);
  return v128.bitselect(small, large, f32x4.lt(f32x4.abs(x), f32x4.splat(0.3)));
}

/** 1 / v, or 0 where v is 0. */
export function inverse(v: v128): v128 {
  return v128.and(f32x4.div(f32x4.splat(1), v), f32x4.ne(v, zero()));
}
