/** The inner loop of all matrix products: 4 rows of x with 8 rows of weights, sums in registers. */
import {fma, loadSome, storeSome, zero} from './vector';

/**
 * y[r][0 … columns − 1] (+)= Σ x[r][i] · panel[i][…] over `count` values, for r = 0 … rows − 1.
 *
 * @param x first row; `xStep` bytes to the next. @param rows at most 4: missing ones repeat the last, and write the same.
 * @param panel [count][8], `panelStep` bytes from one i to the next. @param columns at most 8. @param add to what y holds.
 */
export function tile(
  x: usize,
  xStep: usize,
  rows: i32,
  panel: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  columns: i32,
  add: bool,
): void {
  const x1 = rows > 1 ? x + xStep : x;
  const x2 = rows > 2 ? x1 + xStep : x1;
  const x3 = rows > 3 ? x2 + xStep : x2;
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
  if (add) {
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
  const end = (<usize>count) << 2;
  for (let i: usize = 0; i < end; i += 4, panel += panelStep) {
    const p = v128.load(panel);
    const q = v128.load(panel, 16);
    let t = v128.load32_splat(x + i);
    a0 = fma(p, t, a0);
    b0 = fma(q, t, b0);
    t = v128.load32_splat(x1 + i);
    a1 = fma(p, t, a1);
    b1 = fma(q, t, b1);
    t = v128.load32_splat(x2 + i);
    a2 = fma(p, t, a2);
    b2 = fma(q, t, b2);
    t = v128.load32_splat(x3 + i);
    a3 = fma(p, t, a3);
    b3 = fma(q, t, b3);
  }
  storeSome(y, a0, b0, columns);
  storeSome(y1, a1, b1, columns);
  storeSome(y2, a2, b2, columns);
  storeSome(y3, a3, b3, columns);
}
