/** Norms and their gradients. An RMS norm is a layer norm without mean and shift, and multiplies by 1 + scale. */
import {ColumnSumsWord} from '../layouts/arithmetic';
import {LayerNormWord, NormGradientScaleWord, NormGradientXWord, RmsNormWord} from '../layouts/norms';
import {argument, barrier, begin, chunkOf, claim, end, floatArgument, pointer, scratch} from '../parts/threads';
import {fma, sumOf, zero} from '../parts/vector';

/** Rows are summed in blocks of this many first, then over blocks, so that rounding errors do not accumulate. */
const ROWS_AT_ONCE = 64;
/** Columns that are summed by the same thread: several cache lines of each row. */
const STRIPE = 64;

// A row's normed values are (x − mean) · inverse.
let mean: f32 = 0;
let inverse: f32 = 1;

/** Sets `mean` (zero for an RMS norm) and `inverse` for one row. */
function setRow(x: usize, columns: i32, epsilon: f32, centred: bool): void {
  mean = 0;
  if (centred) mean = sumRow(x, columns) / <f32>columns;
  inverse = <f32>1 / sqrt<f32>(sumSquares(x, columns, mean) / <f32>columns + epsilon);
}

function sumRow(x: usize, columns: i32): f32 {
  let a = zero();
  const end = x + ((<usize>columns) << 2);
  for (; x + 16 <= end; x += 16) a = f32x4.add(a, v128.load(x));
  let sum = sumOf(a);
  for (; x < end; x += 4) sum += load<f32>(x);
  return sum;
}

/** Σ (x − shift)² */
function sumSquares(x: usize, columns: i32, shift: f32): f32 {
  let a = zero();
  const shifts = f32x4.splat(shift);
  const end = x + ((<usize>columns) << 2);
  for (; x + 16 <= end; x += 16) {
    const v = f32x4.sub(v128.load(x), shifts);
    a = fma(v, v, a);
  }
  let sum = sumOf(a);
  for (; x < end; x += 4) {
    const v = load<f32>(x) - shift;
    sum += v * v;
  }
  return sum;
}

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

/** RMS_NORM: y = x / √(mean(x²) + epsilon) · (1 + scale). */
export function rmsNorm(): void {
  const columns = argument(RmsNormWord.columns);
  const rows = argument(RmsNormWord.rows);
  const step = (<usize>columns) << 2;
  while (claim(rows, chunkOf(rows, step))) {
    for (let row = begin; row < end; row++) {
      const at = <usize>row * step;
      normRow(
        pointer(RmsNormWord.x) + at,
        pointer(RmsNormWord.scale),
        0,
        pointer(RmsNormWord.y) + at,
        columns,
        floatArgument(RmsNormWord.epsilon),
      );
    }
  }
}

/** LAYER_NORM: y = (x − mean) / √(variance + epsilon) · gamma + beta. */
export function layerNorm(): void {
  const rows = argument(LayerNormWord.rows);
  const columns = argument(LayerNormWord.columns);
  const step = (<usize>columns) << 2;
  while (claim(rows, chunkOf(rows, step))) {
    for (let row = begin; row < end; row++) {
      const at = <usize>row * step;
      layerNormRow(pointer(LayerNormWord.x) + at, pointer(LayerNormWord.y) + at, columns);
    }
  }
}

function layerNormRow(x: usize, y: usize, columns: i32): void {
  setRow(x, columns, floatArgument(LayerNormWord.epsilon), true);
  const gamma = pointer(LayerNormWord.gamma);
  const beta = pointer(LayerNormWord.beta);
  const shifts = f32x4.splat(mean);
  const factors = f32x4.splat(inverse);
  const bytes = (<usize>columns) << 2;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const v = f32x4.mul(f32x4.sub(v128.load(x + at), shifts), factors);
    v128.store(y + at, fma(v, v128.load(gamma + at), v128.load(beta + at)));
  }
  for (; at < bytes; at += 4) {
    const v = (load<f32>(x + at) - mean) * inverse;
    store<f32>(y + at, v * load<f32>(gamma + at) + load<f32>(beta + at));
  }
}

/** NORM_GRADIENT_X: dx of a layer norm or an RMS norm. */
export function normGradientX(): void {
  const rows = argument(NormGradientXWord.rows);
  const columns = argument(NormGradientXWord.columns);
  const centred = argument(NormGradientXWord.centred) != 0;
  const step = (<usize>columns) << 2;
  while (claim(rows, chunkOf(rows, step))) {
    for (let row = begin; row < end; row++) {
      const at = <usize>row * step;
      setRow(pointer(NormGradientXWord.x) + at, columns, floatArgument(NormGradientXWord.epsilon), centred);
      gradientRow(
        pointer(NormGradientXWord.dy) + at,
        pointer(NormGradientXWord.x) + at,
        pointer(NormGradientXWord.scale),
        pointer(NormGradientXWord.dx) + at,
        columns,
        centred,
      );
    }
  }
}

/** dx = inverse · (d − mean(d) − n · mean(d · n)), where n is the normed x and d its gradient, dy times the scale. */
function gradientRow(dy: usize, x: usize, scale: usize, dx: usize, columns: i32, centred: bool): void {
  const one: f32 = centred ? 0 : 1;
  const ones = f32x4.splat(one);
  const shifts = f32x4.splat(mean);
  const step = (<usize>columns) << 2;
  let sums = zero();
  let products = zero();
  let at: usize = 0;
  for (; at + 16 <= step; at += 16) {
    const d = f32x4.mul(v128.load(dy + at), f32x4.add(v128.load(scale + at), ones));
    sums = f32x4.add(sums, d);
    products = fma(d, f32x4.sub(v128.load(x + at), shifts), products);
  }
  let sum = sumOf(sums);
  let product = sumOf(products);
  for (; at < step; at += 4) {
    const d = load<f32>(dy + at) * (load<f32>(scale + at) + one);
    sum += d;
    product += d * (load<f32>(x + at) - mean);
  }
  const shift: f32 = centred ? (inverse * sum) / <f32>columns : 0;
  const stretch: f32 = (product / <f32>columns) * inverse * inverse * inverse;
  const inverses = f32x4.splat(inverse);
  for (at = 0; at + 16 <= step; at += 16) {
    const d = f32x4.mul(v128.load(dy + at), f32x4.add(v128.load(scale + at), ones));
    const v = f32x4.mul(f32x4.sub(v128.load(x + at), shifts), f32x4.splat(stretch));
    v128.store(dx + at, f32x4.sub(f32x4.sub(f32x4.mul(d, inverses), f32x4.splat(shift)), v));
  }
  for (; at < step; at += 4) {
    const d = load<f32>(dy + at) * (load<f32>(scale + at) + one);
    store<f32>(dx + at, d * inverse - shift - (load<f32>(x + at) - mean) * stretch);
  }
}

/**
 * NORM_GRADIENT_SCALE: Σ dy · n over the rows. Threads share the rows to compute means and inverses, and then the
 * columns to sum.
 */
export function normGradientScale(): void {
  const rows = argument(NormGradientScaleWord.rows);
  const columns = argument(NormGradientScaleWord.columns);
  const step = (<usize>columns) << 2;
  const workspace = pointer(NormGradientScaleWord.workspace);
  while (claim(rows, chunkOf(rows, step))) {
    for (let row = begin; row < end; row++) {
      setRow(
        pointer(NormGradientScaleWord.x) + <usize>row * step,
        columns,
        floatArgument(NormGradientScaleWord.epsilon),
        argument(NormGradientScaleWord.centred) != 0,
      );
      store<f32>(workspace + ((<usize>row) << 3), mean);
      store<f32>(workspace + ((<usize>row) << 3), inverse, 4);
    }
  }
  barrier();
  sumColumns(
    pointer(NormGradientScaleWord.dy),
    pointer(NormGradientScaleWord.x),
    workspace,
    pointer(NormGradientScaleWord.target),
    rows,
    columns,
  );
}

/** COLUMN_SUMS: the sum of each column. */
export function columnSums(): void {
  sumColumns(
    pointer(ColumnSumsWord.x),
    0,
    0,
    pointer(ColumnSumsWord.target),
    argument(ColumnSumsWord.rows),
    argument(ColumnSumsWord.columns),
  );
}

/** target = Σ dy if x is 0, else Σ dy · n. The threads share the columns. */
function sumColumns(dy: usize, x: usize, workspace: usize, target: usize, rows: i32, columns: i32): void {
  const stripes = (columns + STRIPE - 1) / STRIPE;
  while (claim(stripes, chunkOf(stripes, (<usize>rows * STRIPE) << 2))) {
    const stop = min(columns, end * STRIPE);
    // Limits the number of sums in scratch memory.
    for (let c = begin * STRIPE; c < stop; c += 4096) {
      sumSomeColumns(dy, x, workspace, target, rows, columns, c, min(4096, stop - c));
    }
  }
}

function sumSomeColumns(
  dy: usize,
  x: usize,
  workspace: usize,
  target: usize,
  rows: i32,
  columns: i32,
  c: i32,
  count: i32,
): void {
  const step = (<usize>columns) << 2;
  const offset = (<usize>c) << 2;
  const bytes = (<usize>count) << 2;
  const sums = scratch();
  memory.fill(target + offset, 0, bytes);
  for (let row = 0; row < rows; row += ROWS_AT_ONCE) {
    memory.fill(sums, 0, bytes);
    for (let r = row; r < min(rows, row + ROWS_AT_ONCE); r++) {
      const at = <usize>r * step + offset;
      if (x == 0) addTo(sums, dy + at, bytes);
      else {
        const numbers = workspace + ((<usize>r) << 3);
        addNormed(sums, dy + at, x + at, bytes, load<f32>(numbers), load<f32>(numbers, 4));
      }
    }
    addTo(target + offset, sums, bytes);
  }
}

function addTo(sums: usize, x: usize, bytes: usize): void {
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(sums + at, f32x4.add(v128.load(sums + at), v128.load(x + at)));
  for (; at < bytes; at += 4) store<f32>(sums + at, load<f32>(sums + at) + load<f32>(x + at));
}

function addNormed(sums: usize, dy: usize, x: usize, bytes: usize, shift: f32, factor: f32): void {
  const shifts = f32x4.splat(shift);
  const factors = f32x4.splat(factor);
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) {
    const v = f32x4.mul(f32x4.sub(v128.load(x + at), shifts), factors);
    v128.store(sums + at, fma(v, v128.load(dy + at), v128.load(sums + at)));
  }
  for (; at < bytes; at += 4) {
    const v = (load<f32>(x + at) - shift) * factor;
    store<f32>(sums + at, load<f32>(sums + at) + v * load<f32>(dy + at));
  }
}
