/**
 * The inner loop of all matrix products, in two shapes that give the same sums: four rows of x with eight of weights,
 * and five with sixteen. The second has more sums than there are 128-bit registers. It is meant for engines that merge
 * two 128-bit operations on adjacent data into one 256-bit operation ("revectorization"). Such an engine finds pairs
 * only in code of a certain shape: loads, sums and stores 16 bytes apart, all in one basic block.
 */
import {EDGE, SCRATCH_BYTES} from '../numbers';
import {scratch} from './threads';
import {fma, loadSome, storeSome, storeTransposed, zero} from './vector';

/** Rows of x per tile. */
export let height: i32 = 4;

export function setWide(wide: bool): void {
  height = wide ? 5 : 4;
}

/** Bytes of interleaved rows. */
export function interleavedBytes(rows: i32, count: i32): usize {
  return (<usize>(((rows + height - 1) / height) * height * count)) << 2;
}

/**
 * Interleaves rows of x, one tile at a time: [tiles][count][height], so that the loops below read one stream. If the
 * last tile has fewer rows, the last row is repeated. Rows of x are `step` bytes apart.
 */
export function interleaveRows(x: usize, step: usize, rows: i32, count: i32, to: usize): void {
  const bytes = (<usize>height) << 2;
  for (; rows > 0; rows -= height, x += <usize>height * step, to += <usize>count * bytes) {
    const x1 = rows > 1 ? x + step : x;
    const x2 = rows > 2 ? x1 + step : x1;
    const x3 = rows > 3 ? x2 + step : x2;
    interleaveFour(x, x1, x2, x3, count, to, bytes);
    if (height == 4) continue;
    const x4 = rows > 4 ? x3 + step : x3;
    for (let i: usize = 0, at = to + 16; i < (<usize>count) << 2; i += 4, at += 20) store<f32>(at, load<f32>(x4 + i));
  }
}

function interleaveFour(x: usize, x1: usize, x2: usize, x3: usize, count: i32, to: usize, bytes: usize): void {
  let i: usize = 0;
  for (const end = (<usize>(count & ~3)) << 2; i < end; i += 16, to += 4 * bytes) {
    storeTransposed(to, bytes, v128.load(x + i), v128.load(x1 + i), v128.load(x2 + i), v128.load(x3 + i));
  }
  for (const end = (<usize>count) << 2; i < end; i += 4, to += bytes) {
    store<f32>(to, load<f32>(x + i));
    store<f32>(to, load<f32>(x1 + i), 4);
    store<f32>(to, load<f32>(x2 + i), 8);
    store<f32>(to, load<f32>(x3 + i), 12);
  }
}

/** Like `interleaveRows`, for the transpose of x: interleaves columns of x. Its rows are `step` bytes apart. */
export function interleaveColumns(x: usize, step: usize, columns: i32, count: i32, to: usize): void {
  const bytes = (<usize>height) << 2;
  for (; columns > 0; columns -= height, x += bytes) {
    let from = x;
    if (columns < height) {
      const last = (<usize>(columns - 1)) << 2;
      for (let i = 0; i < count; i++, from += step, to += bytes) {
        for (let c: usize = 0; c < bytes; c += 4) store<f32>(to + c, load<f32>(from + min(c, last)));
      }
      continue;
    }
    for (let i = 0; i < count; i++, from += step, to += bytes) {
      v128.store(to, v128.load(from));
      if (height > 4) store<f32>(to, load<f32>(from, 16), 16);
    }
  }
}

/**
 * y[r][c] (+)= Σ x[i][r] · panel[i][c] over `count` values, for all interleaved rows and `columns` columns.
 *
 * @param x Written by `interleaveRows`.
 * @param panel The first panel of eight columns. Panels are `panelBytes` apart.
 * @param panelStep Bytes from one i to the next within a panel.
 * @param add Adds to the values in y.
 */
export function tiles(
  x: usize,
  panel: usize,
  panelBytes: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  if (height == 5) {
    wideTiles(x, panel, panelBytes, panelStep, count, y, yStep, rows, columns, add);
    return;
  }
  for (; columns > 0; columns -= 8, panel += panelBytes, y += 32) {
    let from = x;
    let to = y;
    for (let r = rows; r > 0; r -= 4, from += (<usize>count) << 4, to += 4 * yStep) {
      tile(from, panel, panelStep, count, to, yStep, min(4, r), min(8, columns), add);
    }
  }
}

function wideTiles(
  x: usize,
  panel: usize,
  panelBytes: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  const zeros = scratch() + SCRATCH_BYTES - 64;
  memory.fill(zeros, 0, 64);
  for (; columns > 0; columns -= 16, panel += 2 * panelBytes, y += 64) {
    const second = columns > 8 ? panel + panelBytes : panel;
    let row = x;
    let to = y;
    for (let r = rows; r > 0; r -= 5, row += <usize>count * 20, to += 5 * yStep) {
      const some = min(5, r);
      if (columns < 16) edgeTile(row, panel, second, panelStep, count, to, yStep, some, columns, add);
      else if (add) wideTile(row, panel, second, panelStep, count, to, yStep, some, to, yStep);
      else wideTile(row, panel, second, panelStep, count, to, yStep, some, zeros, 0);
    }
  }
}

/** A wide tile of fewer than sixteen columns, computed as a full tile in scratch memory. */
function edgeTile(
  x: usize,
  panel: usize,
  second: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  add: bool,
): void {
  const whole = scratch() + SCRATCH_BYTES - EDGE;
  if (add) for (let r: usize = 0; r < <usize>rows; r++) copyValues(whole + (r << 6), y + r * yStep, columns);
  else memory.fill(whole, 0, (<usize>rows) << 6);
  wideTile(x, panel, second, panelStep, count, whole, 64, rows, whole, 64);
  for (let r: usize = 0; r < <usize>rows; r++) copyValues(y + r * yStep, whole + (r << 6), columns);
}

export function copyValues(to: usize, from: usize, count: i32): void {
  for (; count >= 4; count -= 4, from += 16, to += 16) v128.store(to, v128.load(from));
  for (; count > 0; count--, from += 4, to += 4) store<f32>(to, load<f32>(from));
}

/**
 * y[r][0 … columns − 1] (+)= Σ x[i][r] · panel[i][…], for r = 0 … rows − 1.
 *
 * @param x [count][4]
 * @param panel [count][8]
 * @param rows At most 4.
 * @param columns At most 8.
 */
function tile(
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
  // One i per iteration: V8 issues all loads of an iteration first, and more would not fit in its 15 registers.
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

/**
 * Like `tile`, for five rows and sixteen columns. Sums start with the values at `from`, in rows `fromStep` bytes apart.
 * The loop is the only branch: V8 does not pair adjacent operations across the end of a basic block.
 */
function wideTile(
  x: usize,
  panel: usize,
  second: usize,
  panelStep: usize,
  count: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  from: usize,
  fromStep: usize,
): void {
  const y1 = y + yStep * <usize>(rows > 1);
  const y2 = y1 + yStep * <usize>(rows > 2);
  const y3 = y2 + yStep * <usize>(rows > 3);
  const y4 = y3 + yStep * <usize>(rows > 4);
  const from1 = from + fromStep * <usize>(rows > 1);
  const from2 = from1 + fromStep * <usize>(rows > 2);
  const from3 = from2 + fromStep * <usize>(rows > 3);
  const from4 = from3 + fromStep * <usize>(rows > 4);
  let a0 = v128.load(from);
  let b0 = v128.load(from, 16);
  let c0 = v128.load(from, 32);
  let d0 = v128.load(from, 48);
  let a1 = v128.load(from1);
  let b1 = v128.load(from1, 16);
  let c1 = v128.load(from1, 32);
  let d1 = v128.load(from1, 48);
  let a2 = v128.load(from2);
  let b2 = v128.load(from2, 16);
  let c2 = v128.load(from2, 32);
  let d2 = v128.load(from2, 48);
  let a3 = v128.load(from3);
  let b3 = v128.load(from3, 16);
  let c3 = v128.load(from3, 32);
  let d3 = v128.load(from3, 48);
  let a4 = v128.load(from4);
  let b4 = v128.load(from4, 16);
  let c4 = v128.load(from4, 32);
  let d4 = v128.load(from4, 48);
  // One i per iteration: with two, V8 spills registers.
  for (; count > 0; count--, x += 20, panel += panelStep, second += panelStep) {
    const p = v128.load(panel);
    const q = v128.load(panel, 16);
    const u = v128.load(second);
    const v = v128.load(second, 16);
    let t = v128.load32_splat(x);
    a0 = fma(p, t, a0);
    b0 = fma(q, t, b0);
    c0 = fma(u, t, c0);
    d0 = fma(v, t, d0);
    t = v128.load32_splat(x, 4);
    a1 = fma(p, t, a1);
    b1 = fma(q, t, b1);
    c1 = fma(u, t, c1);
    d1 = fma(v, t, d1);
    t = v128.load32_splat(x, 8);
    a2 = fma(p, t, a2);
    b2 = fma(q, t, b2);
    c2 = fma(u, t, c2);
    d2 = fma(v, t, d2);
    t = v128.load32_splat(x, 12);
    a3 = fma(p, t, a3);
    b3 = fma(q, t, b3);
    c3 = fma(u, t, c3);
    d3 = fma(v, t, d3);
    t = v128.load32_splat(x, 16);
    a4 = fma(p, t, a4);
    b4 = fma(q, t, b4);
    c4 = fma(u, t, c4);
    d4 = fma(v, t, d4);
  }
  // Missing rows repeat the last row and store its sums again. Of two adjacent vectors the second is stored first:
  // otherwise V8 also stores the first one separately, in case memory ends between them.
  v128.store(y, b0, 16);
  v128.store(y, a0);
  v128.store(y, d0, 48);
  v128.store(y, c0, 32);
  v128.store(y1, b1, 16);
  v128.store(y1, a1);
  v128.store(y1, d1, 48);
  v128.store(y1, c1, 32);
  v128.store(y2, b2, 16);
  v128.store(y2, a2);
  v128.store(y2, d2, 48);
  v128.store(y2, c2, 32);
  v128.store(y3, b3, 16);
  v128.store(y3, a3);
  v128.store(y3, d3, 48);
  v128.store(y3, c3, 32);
  v128.store(y4, b4, 16);
  v128.store(y4, a4);
  v128.store(y4, d4, 48);
  v128.store(y4, c4, 32);
}
