/** GELU in its tanh form, and its gradient with or without the value that it gates. */
import {GatedGeluWord, GeluGradientWord, GeluWord} from '../layouts/gelu';
import {gateRow, geluRow} from '../parts/gelu_row';
import {argument, begin, claimValues, end, pointer} from '../parts/threads';
import {exp4, fma} from '../parts/vector';

/** GELU: y = gelu(x). */
export function gelu(): void {
  while (claimValues(argument(GeluWord.count))) {
    const at = (<usize>begin) << 2;
    geluRow(pointer(GeluWord.x) + at, pointer(GeluWord.y) + at, end - begin);
  }
}

/** GATED_GELU: y = gelu(gate) · value. */
export function gatedGelu(): void {
  while (claimValues(argument(GatedGeluWord.count))) {
    const at = (<usize>begin) << 2;
    gateRow(
      pointer(GatedGeluWord.gate) + at,
      pointer(GatedGeluWord.value) + at,
      pointer(GatedGeluWord.y) + at,
      end - begin,
    );
  }
}

/** d gelu / dx. With s = sigmoid(2 u) and gelu = x · s it is s + x · s · (1 − s) · 2 u′. */
function geluGradient4(x: v128): v128 {
  const one = f32x4.splat(1);
  const squares = f32x4.mul(x, x);
  const u = fma(f32x4.mul(squares, x), f32x4.splat(0.044715), x);
  const e = exp4(f32x4.mul(f32x4.splat(-1.5957691216057308), u));
  const s = f32x4.div(one, f32x4.add(one, e));
  const slope = f32x4.mul(fma(squares, f32x4.splat(0.134145), one), f32x4.splat(1.5957691216057308));
  // e · s instead of 1 − s, which is inexact where s is nearly one.
  return fma(f32x4.mul(f32x4.mul(x, slope), f32x4.mul(e, s)), s, s);
}

/** GELU_GRADIENT: dx = dy · value · gelu′(x). */
export function geluGradient(): void {
  while (claimValues(argument(GeluGradientWord.count))) geluGradientValues();
}

/** The claimed values. */
function geluGradientValues(): void {
  const from = (<usize>begin) << 2;
  const bytes = ((<usize>end) << 2) - from;
  const dy = pointer(GeluGradientWord.dy) + from;
  const x = pointer(GeluGradientWord.x) + from;
  const value = pointer(GeluGradientWord.value) + from;
  const dx = pointer(GeluGradientWord.dx) + from;
  const gated = pointer(GeluGradientWord.value) != 0;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    let d = f32x4.mul(v128.load(dy + at), geluGradient4(v128.load(x + at)));
    if (gated) d = f32x4.mul(d, v128.load(value + at));
    v128.store(dx + at, d);
  }
  for (; at < bytes; at += 4) {
    const d = load<f32>(dy + at) * f32x4.extract_lane(geluGradient4(v128.load32_splat(x + at)), 0);
    store<f32>(dx + at, gated ? d * load<f32>(value + at) : d);
  }
}
