/** Products of one row of x with unpacked float32 weights. Bound by memory, so weights are read once and in order. */
import {readAhead, readRowsAhead, readsAhead} from './stream';
import {fma, sumOf, zero} from './vector';

/** Rows of a matrix that are added at a time. */
const ROWS: usize = 8;

/** The most groups of eight adjacent outputs that are computed at a time. Their sums take a part of the inner cache. */
const MOST_GROUPS = 64;

/**
 * How many of n groups of eight outputs a thread claims at a time, of matrices with `inner` adjacent outputs. A claim
 * reads a piece of every row, so pieces are wide: short ones take little of each page.
 */
export function float32GroupsPerClaim(n: i32, inner: i32, threads: i32): i32 {
  if (threads == 1) return max(n, 1);
  const even = max(2, n / (2 * threads)) & ~1;
  return min(min(MOST_GROUPS, even), max(1, inner >> 3));
}

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
      w + <usize>(o + 1) * matrix,
    );
    n += count;
  }
}

/** Dot products of x with contiguous rows. */
function dotRows(w: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  const row = (<usize>columns) << 2;
  const stop = w + <usize>rows * row;
  if (readsAhead) {
    for (; rows >= 2; rows -= 2, w += 2 * row, y += 8) {
      readAhead(w, 2 * row, stop);
      dotTwoRows(w, x, y, columns);
    }
  }
  for (; rows > 0; rows--, w += row, y += 4) store<f32>(y, dotRow(w, x, columns));
}

/** Two rows side by side. Sums are added as in `dotRow`. */
function dotTwoRows(w: usize, x: usize, y: usize, columns: i32): void {
  const body = columns & ~15;
  let r = w + ((<usize>columns) << 2);
  let a = zero();
  let b = a;
  let c = a;
  let d = a;
  let e = a;
  let f = a;
  let g = a;
  let h = a;
  let p = x;
  for (const end = x + ((<usize>body) << 2); p < end; p += 64, w += 64, r += 64) {
    const x0 = v128.load(p);
    const x1 = v128.load(p, 16);
    const x2 = v128.load(p, 32);
    const x3 = v128.load(p, 48);
    a = fma(x0, v128.load(w), a);
    b = fma(x1, v128.load(w, 16), b);
    c = fma(x2, v128.load(w, 32), c);
    d = fma(x3, v128.load(w, 48), d);
    e = fma(x0, v128.load(r), e);
    f = fma(x1, v128.load(r, 16), f);
    g = fma(x2, v128.load(r, 32), g);
    h = fma(x3, v128.load(r, 48), h);
  }
  const rest = columns - body;
  store<f32>(y, sumOf(f32x4.add(f32x4.add(a, b), f32x4.add(c, d))) + dotValues(w, p, rest));
  store<f32>(y, sumOf(f32x4.add(f32x4.add(e, f), f32x4.add(g, h))) + dotValues(r, p, rest), 4);
}

function dotRow(w: usize, x: usize, columns: i32): f32 {
  const body = columns & ~15;
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
  return sumOf(f32x4.add(f32x4.add(a, b), f32x4.add(c, d))) + dotValues(w, p, columns - body);
}

/** The dot product of a few values. */
function dotValues(w: usize, x: usize, count: i32): f32 {
  let sum: f32 = 0;
  for (; count > 0; count--, w += 4, x += 4) sum += load<f32>(x) * load<f32>(w);
  return sum;
}

/**
 * y[i] = Σ x[k] · w[k][i] for `count` columns of a matrix with rows `step` bytes apart, which ends at `stop`. The sums
 * stay in the cache. Eight rows at a time: memory delivers several streams faster than one.
 */
function sumColumns(w: usize, step: usize, x: usize, y: usize, count: i32, columns: i32, stop: usize): void {
  memory.fill(y, 0, (<usize>count) << 2);
  const all = (<usize>count) << 2;
  let k = 0;
  for (; k + <i32>ROWS <= columns; k += <i32>ROWS, x += 4 * ROWS, w += ROWS * step) {
    readRowsAhead(w + ROWS * step, step, stop);
    addEightRows(w, step, x, y, count);
  }
  for (; k < columns; k++, x += 4, w += step) {
    const t = load<f32>(x);
    for (let i: usize = 0; i < all; i += 4) store<f32>(y + i, load<f32>(y + i) + t * load<f32>(w + i));
  }
}

/** y[i] += Σ x[k] · w[k][i] for eight rows of the matrix. */
function addEightRows(w: usize, step: usize, x: usize, y: usize, count: i32): void {
  const x0 = v128.load32_splat(x);
  const x1 = v128.load32_splat(x, 4);
  const x2 = v128.load32_splat(x, 8);
  const x3 = v128.load32_splat(x, 12);
  const x4 = v128.load32_splat(x, 16);
  const x5 = v128.load32_splat(x, 20);
  const x6 = v128.load32_splat(x, 24);
  const x7 = v128.load32_splat(x, 28);
  let i: usize = 0;
  for (const body = (<usize>(count & ~7)) << 2; i < body; i += 32) {
    let p = w + i;
    let a = fma(x0, v128.load(p), v128.load(y + i));
    let b = fma(x0, v128.load(p, 16), v128.load(y + i, 16));
    let c = f32x4.mul(x1, v128.load(p + step));
    let d = f32x4.mul(x1, v128.load(p + step, 16));
    a = fma(x2, v128.load(p + 2 * step), a);
    b = fma(x2, v128.load(p + 2 * step, 16), b);
    c = fma(x3, v128.load(p + 3 * step), c);
    d = fma(x3, v128.load(p + 3 * step, 16), d);
    p += 4 * step;
    a = fma(x4, v128.load(p), a);
    b = fma(x4, v128.load(p, 16), b);
    c = fma(x5, v128.load(p + step), c);
    d = fma(x5, v128.load(p + step, 16), d);
    a = fma(x6, v128.load(p + 2 * step), a);
    b = fma(x6, v128.load(p + 2 * step, 16), b);
    c = fma(x7, v128.load(p + 3 * step), c);
    d = fma(x7, v128.load(p + 3 * step, 16), d);
    // V8 looks for pairs from the second store of each.
    v128.store(y + i, f32x4.add(b, d), 16);
    v128.store(y + i, f32x4.add(a, c));
  }
  for (const all = (<usize>count) << 2; i < all; i += 4) {
    let sum = load<f32>(y + i);
    for (let r: usize = 0; r < ROWS; r++) sum += load<f32>(x + 4 * r) * load<f32>(w + r * step + i);
    store<f32>(y + i, sum);
  }
}
