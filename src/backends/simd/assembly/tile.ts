/** The inner loop of all matrix products: 4 rows of x with 8 rows of weights, sums in registers. */
import {fma, loadSome, storeSome, storeTransposed, zero} from './vector';

/**
 * Rows of x, four side by side: [rows / 4][count][4], so that the loop below reads one stream. A last tile of fewer rows
 * repeats the last row. `step`: bytes from row to row of x.
 */
export function packRows(x: usize, step: usize, rows: i32, count: i32, to: usize): void {
  for (; rows > 0; rows -= 4, x += 4 * step) {
    const x1 = rows > 1 ? x + step : x;
    const x2 = rows > 2 ? x1 + step : x1;
    const x3 = rows > 3 ? x2 + step : x2;
    let i: usize = 0;
    for (const end = (<usize>(count & ~3)) << 2; i < end; i += 16, to += 64) {
      storeTransposed(to, 16, v128.load(x + i), v128.load(x1 + i), v128.load(x2 + i), v128.load(x3 + i));
    }
    for (const end = (<usize>count) << 2; i < end; i += 4, to += 16) {
      store<f32>(to, load<f32>(x + i));
      store<f32>(to, load<f32>(x1 + i), 4);
      store<f32>(to, load<f32>(x2 + i), 8);
      store<f32>(to, load<f32>(x3 + i), 12);
    }
  }
}

/**
 * y[r][0 … columns − 1] (+)= Σ x[i][r] · panel[i][…] over `count` values, for r = 0 … rows − 1.
 *
 * @param x [count][4]. @param panel [count][8], `panelStep` bytes from one i to the next. @param rows at most 4. @param columns at most 8. @param add to what y holds.
 */
export function tile(
  x: usize,
  panel: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  const y1 = rows > 1 ? y + yStep : y;
  const y2 = rows > 2 ? y1 + yStep : y1;
  const y3 = rows > 3 ? y2 + yStep : y2;
  let a0 = zero();
  let b0 = a0;
  let a1 = a0;
  let b1 = a0;
  let a2 = a0;
  let b2 = a0;
  let a3 = a0;
  let b3 = a0;
  if (add && columns >= 8) {
    a0 = v128.load(y);
    b0 = v128.load(y, 16);
    a1 = v128.load(y1);
    b1 = v128.load(y1, 16);
    a2 = v128.load(y2);
    b2 = v128.load(y2, 16);
    a3 = v128.load(y3);
    b3 = v128.load(y3, 16);
  } else if (add) {
    a0 = loadSome(y, columns);
    b0 = loadSome(y + 16, columns - 4);
    a1 = loadSome(y1, columns);
    b1 = loadSome(y1 + 16, columns - 4);
    a2 = loadSome(y2, columns);
    b2 = loadSome(y2 + 16, columns - 4);
    a3 = loadSome(y3, columns);
    b3 = loadSome(y3 + 16, columns - 4);
  }
  // One i a turn: V8 starts all loads of a turn first, and more than these would not fit its fifteen registers.
  for (; count > 0; count--, x += 16, panel += panelStep) {
    const p = v128.load(panel);
    const q = v128.load(panel, 16);
    let t = v128.load32_splat(x);
    a0 = fma(p, t, a0);
    b0 = fma(q, t, b0);
    t = v128.load32_splat(x, 4);
    a1 = fma(p, t, a1);
    b1 = fma(q, t, b1);
    t = v128.load32_splat(x, 8);
    a2 = fma(p, t, a2);
    b2 = fma(q, t, b2);
    t = v128.load32_splat(x, 12);
    a3 = fma(p, t, a3);
    b3 = fma(q, t, b3);
  }

  if (rows > 3) storeSome(y3, a3, b3, columns);
  if (rows > 2) storeSome(y2, a2, b2, columns);
  if (rows > 1) storeSome(y1, a1, b1, columns);
  storeSome(y, a0, b0, columns);
}

/** All rows of x, as `packRows` left them, with one panel. */
export function tiles(
  x: usize,
  panel: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  for (; rows > 0; rows -= 4, x += (<usize>count) << 4, y += 4 * yStep) {
    tile(x, panel, 32, count, y, yStep, min(4, rows), columns, add);
  }
}
