/** y (m, rows) = x (m, columns) · Wᵀ with W (rows, columns) in any format. */
import {matVecBfloat16} from './bfloat16';
import {matVecFloat32} from './float32';
import {BLOCK, columnOffset, decode, groupBytes, padded} from './formats';
import {BFLOAT16, FLOAT32} from './numbers';
import {fillPanel, setMatrix, turnPanel} from './panel';
import {argument, barrier, first, last, pointer, scratch} from './threads';
import {tile} from './tile';

/** Columns that a panel has: 16 kB, half of the innermost cache. */
const DEPTH = 512;
const PANEL_BYTES: usize = DEPTH * 32;
/** Float32 rows are widened eight at a time where they lie side by side; 32 of them fill two cache lines. */
const FLOAT_PANELS = 4;
/** With fewer rows of x than this, each is multiplied on its own: a panel would not be used often enough. */
const PANEL_ROWS = 4;
/** Rows of W whose gradient panels are made at once. */
const TURNED_DEPTH = 256;

/** The part of a product that has rows n0 … n1 − 1 of W; n0 is a multiple of 8. `inner` only counts for float32. */
export function product(
  type: i32,
  w: usize,
  inner: i32,
  x: usize,
  m: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  n0: i32,
  n1: i32,
): void {
  if (n0 >= n1) return;
  if (type == FLOAT32) {
    if (m == 1) matVecFloat32(w, inner, x, y, columns, n0, n1);
    else productFloat32(w, inner, x, m, y, yStep, rows, columns, n0, n1);
  } else if (m < PANEL_ROWS) {
    vectorProducts(type, w, x, m, y, yStep, columns, n0, n1);
  } else {
    panelProduct(type, w, x, m, y, yStep, columns, n0, n1);
  }
}

/** Group by group, so that the rows of x after the first find the weights in cache. */
function vectorProducts(
  type: i32,
  w: usize,
  x: usize,
  m: i32,
  y: usize,
  yStep: usize,
  columns: i32,
  n0: i32,
  n1: i32,
): void {
  const bytes = groupBytes(type, columns);
  w += <usize>(n0 >> 3) * bytes;
  if (m == 1) {
    if (type == BFLOAT16) matVecBfloat16(w, bytes, x, y + ((<usize>n0) << 2), n1 - n0, columns);
    return;
  }
  for (let n = n0; n < n1; n += 8, w += bytes) {
    for (let r: usize = 0; r < <usize>m; r++) {
      const to = y + r * yStep + ((<usize>n) << 2);
      const from = x + ((r * <usize>columns) << 2);
      if (type == BFLOAT16) matVecBfloat16(w, bytes, from, to, min(8, n1 - n), columns);
    }
  }
}

function panelProduct(
  type: i32,
  w: usize,
  x: usize,
  m: i32,
  y: usize,
  yStep: usize,
  columns: i32,
  n0: i32,
  n1: i32,
): void {
  const bytes = groupBytes(type, columns);
  const panel = scratch();
  for (let k = 0; k < columns; k += DEPTH) {
    const count = min(DEPTH, columns - k);
    for (let n = n0; n < n1; n += 8) {
      decode(type, w + <usize>(n >> 3) * bytes, panel, k, count);
      multiplyPanel(
        panel,
        x + ((<usize>k) << 2),
        columns,
        m,
        count,
        y + ((<usize>n) << 2),
        yStep,
        min(8, n1 - n),
        k > 0,
      );
    }
  }
}

function productFloat32(
  w: usize,
  inner: i32,
  x: usize,
  m: i32,
  y: usize,
  yStep: usize,
  rows: i32,
  columns: i32,
  n0: i32,
  n1: i32,
): void {
  const panels = scratch();
  setMatrix(w, FLOAT32, inner, columns * inner, 1, inner);
  for (let k = 0; k < columns; k += DEPTH) {
    const count = min(DEPTH, columns - k);
    for (let n = n0; n < n1; n += 8 * FLOAT_PANELS) {
      const some = min(FLOAT_PANELS, (n1 - n + 7) >> 3);
      for (let i = 0; i < some; i++) {
        const row = n + 8 * i;
        fillPanel(panels + <usize>i * PANEL_BYTES, row, min(8, rows - row), k, count);
      }
      for (let i = 0; i < some; i++) {
        const row = n + 8 * i;
        const to = y + ((<usize>row) << 2);
        const from = x + ((<usize>k) << 2);
        multiplyPanel(panels + <usize>i * PANEL_BYTES, from, columns, m, count, to, yStep, min(8, rows - row), k > 0);
      }
    }
  }
}

/** All rows of x with one panel. */
function multiplyPanel(
  panel: usize,
  x: usize,
  columns: i32,
  m: i32,
  count: i32,
  y: usize,
  yStep: usize,
  width: i32,
  add: bool,
): void {
  const xStep = (<usize>columns) << 2;
  for (let r = 0; r < m; r += 4) {
    tile(x, xStep, min(4, m - r), panel, 32, count, y, yStep, width, add);
    x += 4 * xStep;
    y += 4 * yStep;
  }
}

/** MAT_MUL: type, w, inner, x, m, y, rows, columns. */
export function matMul(): void {
  const rows = argument(6);
  const groups = (rows + 7) >> 3;
  product(
    argument(0),
    pointer(1),
    argument(2),
    pointer(3),
    argument(4),
    pointer(5),
    (<usize>rows) << 2,
    rows,
    argument(7),
    first(groups) << 3,
    min(rows, last(groups) << 3),
  );
  barrier();
}

/** MAT_MUL_TRANSPOSED: type, w, inner, dy (m, rows), m, dx (m, columns), rows, columns: dx = dy · W. */
export function matMulTransposed(): void {
  const type = argument(0);
  const w = pointer(1);
  const inner = argument(2);
  const dy = pointer(3);
  const m = argument(4);
  const dx = pointer(5);
  const rows = argument(6);
  const columns = argument(7);
  if (type == FLOAT32) setMatrix(w, FLOAT32, inner, columns * inner, 1, inner);
  const blocks = padded(columns) / BLOCK;
  for (let n = 0; n < rows; n += TURNED_DEPTH) {
    const depth = min(TURNED_DEPTH, rows - n);
    for (let block = first(blocks); block < last(blocks); block++) {
      const k = block * BLOCK;
      const count = min(BLOCK, columns - k);
      turnBlock(type, w, n, depth, k, count, columns);
      for (let octet = 0; octet < count; octet += 8) {
        const panel = scratch() + TURNED + <usize>(octet >> 3) * TURNED_BYTES;
        const to = dx + ((<usize>(k + octet)) << 2);
        const from = dy + ((<usize>n) << 2);
        multiplyPanel(panel, from, rows, m, depth, to, (<usize>columns) << 2, min(8, count - octet), n > 0);
      }
    }
  }
  barrier();
}

const TURNED: usize = BLOCK * 32;
const TURNED_BYTES: usize = TURNED_DEPTH * 32;

/** Columns k … k + 31 of rows n … n + depth − 1 as four panels [n][8 k]. */
function turnBlock(type: i32, w: usize, n: i32, depth: i32, k: i32, count: i32, columns: i32): void {
  const block = scratch();
  const bytes = groupBytes(type, columns);
  for (let row = 0; row < depth; row += 8) {
    if (type == FLOAT32) fillPanel(block, n + row, min(8, depth - row), k, count);
    else decode(type, w + <usize>((n + row) >> 3) * bytes, block, k, count);
    for (let octet: usize = 0; octet < 4; octet++) {
      turnPanel(block + TURNED + octet * TURNED_BYTES + ((<usize>row) << 5), block + (octet << 8));
    }
  }
}
