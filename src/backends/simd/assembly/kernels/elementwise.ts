/** Norms, rotary positions and gates: a row or a value at a time. */
import {argument, first, floatArgument, last, pointer} from '../parts/threads';
import {fma, gelu4, sumOf, zero} from '../parts/vector';

/** y = x / √(mean(x²) + epsilon) · (1 + scale), plus `residual` unless that is 0. y may be x or the residual. */
export function normRow(x: usize, scale: usize, residual: usize, y: usize, columns: i32, epsilon: f32): void {
  let a = zero();
  let b = a;
  const body = columns & ~7;
  for (let i = 0, p = x; i < body; i += 8, p += 32) {
    const v = v128.load(p);
    const u = v128.load(p, 16);
    a = fma(v, v, a);
    b = fma(u, u, b);
  }
  let sum = sumOf(f32x4.add(a, b));
  for (let i = body; i < columns; i++) {
    const v = load<f32>(x + ((<usize>i) << 2));
    sum += v * v;
  }
  const factor: f32 = <f32>1 / sqrt<f32>(sum / <f32>columns + epsilon);
  const factors = f32x4.splat(factor);
  const one = f32x4.splat(1);
  const vectors = (<usize>(columns & ~3)) << 2;
  let at: usize = 0;
  for (; at < vectors; at += 16) {
    let v = f32x4.mul(f32x4.mul(v128.load(x + at), factors), f32x4.add(v128.load(scale + at), one));
    if (residual != 0) v = f32x4.add(v, v128.load(residual + at));
    v128.store(y + at, v);
  }
  for (const end = (<usize>columns) << 2; at < end; at += 4) {
    const v = load<f32>(x + at) * factor * (load<f32>(scale + at) + 1);
    store<f32>(y + at, residual != 0 ? v + load<f32>(residual + at) : v);
  }
}

/** RMS_NORM: x, scale, y, rows, columns, epsilon. */
export function rmsNorm(): void {
  const columns = argument(4);
  const rows = argument(3);
  for (let row = first(rows); row < last(rows); row++) {
    const at = <usize>row * ((<usize>columns) << 2);
    normRow(pointer(0) + at, pointer(1), 0, pointer(2) + at, columns, floatArgument(5));
  }
}

/** Rotates pairs of values, one from each half of a head, by the given angles. y may be x. */
export function turnRow(x: usize, cos: usize, sin: usize, y: usize, width: i32, direction: f32): void {
  const half = (<usize>(width >> 1)) << 2;
  const vectors = half & ~15;
  const signs = f32x4.splat(direction);
  let at: usize = 0;
  for (; at < vectors; at += 16) {
    const c = v128.load(cos + at);
    const s = f32x4.mul(v128.load(sin + at), signs);
    const a = v128.load(x + at);
    const b = v128.load(x + half + at);
    v128.store(y + at, f32x4.sub(f32x4.mul(a, c), f32x4.mul(b, s)));
    v128.store(y + half + at, f32x4.add(f32x4.mul(b, c), f32x4.mul(a, s)));
  }
  for (; at < half; at += 4) {
    const c = load<f32>(cos + at);
    const s = load<f32>(sin + at) * direction;
    const a = load<f32>(x + at);
    const b = load<f32>(x + half + at);
    store<f32>(y + at, a * c - b * s);
    store<f32>(y + half + at, b * c + a * s);
  }
}

/** ROTARY: x, cos, sin, y, batch, length, heads, width, rows of the tables (1 or batch), direction. */
export function rotary(): void {
  const length = argument(5);
  const heads = argument(6);
  const width = argument(7);
  const tokens = argument(4) * length;
  const row = (<usize>width) << 2;
  for (let token = first(tokens); token < last(tokens); token++) {
    const angles = <usize>(argument(8) == 1 ? token % length : token) * (row >> 1);
    for (let head = 0; head < heads; head++) {
      const at = (<usize>token * <usize>heads + <usize>head) * row;
      turnRow(pointer(0) + at, pointer(1) + angles, pointer(2) + angles, pointer(3) + at, width, floatArgument(9));
    }
  }
}

/** y = gelu(gate) · value. y may be either. */
export function gateRow(gate: usize, value: usize, y: usize, count: i32): void {
  let at: usize = 0;
  for (const end = (<usize>(count & ~3)) << 2; at < end; at += 16) {
    v128.store(y + at, f32x4.mul(gelu4(v128.load(gate + at)), v128.load(value + at)));
  }
  for (const end = (<usize>count) << 2; at < end; at += 4) {
    store<f32>(y + at, f32x4.extract_lane(gelu4(v128.load32_splat(gate + at)), 0) * load<f32>(value + at));
  }
}

/** GATED_GELU: gate, value, y, count. */
export function gatedGelu(): void {
  const count = argument(3);
  const begin = first(count);
  const at = (<usize>begin) << 2;
  gateRow(pointer(0) + at, pointer(1) + at, pointer(2) + at, last(count) - begin);
}
