/** Products of one row of x with unpacked float32 weights. Bound by memory, so weights are read once and in order. */
import {fma, sumOf, zero} from './vector';

/** y[n] for rows n0 … n1 − 1 of W [outer, columns, inner]; row n = o · inner + i. */
export function matVecFloat32(w: usize, inner: i32, x: usize, y: usize, columns: i32, n0: i32, n1: i32): void {
  if (inner == 1) {
    dotRows(w + ((<usize>n0 * <usize>columns) << 2), x, y + ((<usize>n0) << 2), n1 - n0, columns);
    return;
  }
  const matrix = (<usize>columns * <usize>inner) << 2;
  for (let n = n0; n < n1;) {
    const o = n / inner;
    const i = n % inner;
    const count = min(inner - i, n1 - n);
    sumColumns(
      w + <usize>o * matrix + ((<usize>i) << 2),
      (<usize>inner) << 2,
      x,
      y + ((<usize>n) << 2),
      count,
      columns,
    );
    n += count;
  }
}

/** Dot products of x with contiguous rows. */
function dotRows(w: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  const body = columns & ~15;
  for (; rows > 0; rows--, y += 4) {
    let a = zero();
    let b = a;
    let c = a;
    let d = a;
    let p = x;
    for (const end = x + ((<usize>body) << 2); p < end; p += 64, w += 64) {
      a = fma(v128.load(p), v128.load(w), a);
      b = fma(v128.load(p, 16), v128.load(w, 16), b);
      c = fma(v128.load(p, 32), v128.load(w, 32), c);
      d = fma(v128.load(p, 48), v128.load(w, 48), d);
    }
    let sum = sumOf(f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
    for (let k = body; k < columns; k++, p += 4, w += 4) sum += load<f32>(p) * load<f32>(w);
    store<f32>(y, sum);
  }
}

/** y[i] = Σ x[k] · w[k][i] for `count` columns of a matrix with rows `step` bytes apart. The sums stay in the cache. */
function sumColumns(w: usize, step: usize, x: usize, y: usize, count: i32, columns: i32): void {
  memory.fill(y, 0, (<usize>count) << 2);
  const body = (<usize>(count & ~3)) << 2;
  const all = (<usize>count) << 2;
  let k = 0;
  for (; k + 4 <= columns; k += 4, x += 16, w += 4 * step) {
    const x0 = v128.load32_splat(x);
    const x1 = v128.load32_splat(x, 4);
    const x2 = v128.load32_splat(x, 8);
    const x3 = v128.load32_splat(x, 12);
    let i: usize = 0;
    for (; i < body; i += 16) {
      const p = w + i;
      const even = fma(x0, v128.load(p), f32x4.mul(x2, v128.load(p + 2 * step)));
      const odd = fma(x1, v128.load(p + step), f32x4.mul(x3, v128.load(p + 3 * step)));
      v128.store(y + i, f32x4.add(v128.load(y + i), f32x4.add(even, odd)));
    }
    for (; i < all; i += 4) {
      const p = w + i;
      let sum = load<f32>(x) * load<f32>(p) + load<f32>(x, 4) * load<f32>(p + step);
      sum += load<f32>(x, 8) * load<f32>(p + 2 * step) + load<f32>(x, 12) * load<f32>(p + 3 * step);
      store<f32>(y + i, load<f32>(y + i) + sum);
    }
  }
  for (; k < columns; k++, x += 4, w += step) {
    const t = load<f32>(x);
    for (let i: usize = 0; i < all; i += 4) store<f32>(y + i, load<f32>(y + i) + t * load<f32>(w + i));
  }
}
