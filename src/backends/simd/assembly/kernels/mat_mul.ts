/** y (m, rows) = x (m, columns) · Wᵀ with W (rows, columns) in any format. */
import {MatMulWord} from '../layouts/mat_mul';
import {COLUMN_BLOCK} from '../layouts/packing';
import {BFLOAT16, FLOAT32, INT8, SCRATCH_BYTES} from '../numbers';
import {activationBytes, quantizeRow} from '../parts/activations';
import {matVecBfloat16} from '../parts/bfloat16';
import {padded} from '../parts/blocks';
import {matVecFloat32} from '../parts/float32';
import {decode, groupBytes} from '../parts/formats';
import {matVecInt4} from '../parts/int4';
import {matVecInt8} from '../parts/int8';
import {integerPanel, integerTiles, interleaveIntegerRows} from '../parts/integer_tile';
import {fillPanel, fillPanels, setMatrix, transposePanel} from '../parts/panel';
import {argument, first, last, pointer, scratch} from '../parts/threads';
import {height, interleaveRows, tiles} from '../parts/tile';

/**
 * Columns of a panel. A panel of 20 kB fits in the innermost cache together with a tile's rows of x. A multiple of the
 * runs of `integer_tile.ts`.
 */
const DEPTH = 640;
const PANEL_BYTES: usize = DEPTH * 32;
/**
 * Panels filled at once. Where the float32 weights of one column are adjacent, their 64 rows are four cache lines of
 * one page.
 */
const PANELS = 8;
/** Rows of x per pass over the panels, which are filled again for the next rows. */
const ROWS_AT_ONCE = 256;
/** Rows of x per pass for integer products: their interleaved rows fit in the second-level cache. */
const INTEGER_ROWS_AT_ONCE = 128;
const INTERLEAVED_ROWS: usize = <usize>PANELS * PANEL_BYTES;
/** Fewer rows of x than this are multiplied one by one: panels would not be used often enough to pay off. */
const PANEL_ROWS = 4;

// Sizes for products with the transposed matrix: rows of W per panel, and rows of dy per pass.

const TRANSPOSED_DEPTH = 384;
const TRANSPOSED_BYTES: usize = TRANSPOSED_DEPTH * 32;
const TRANSPOSED_ROWS_AT_ONCE = 256;
/** Scratch memory holds a panel of one block, then four transposed panels from here on, then interleaved rows of dy. */
const TRANSPOSED: usize = COLUMN_BLOCK * 32;

/** Computes a product for rows n0 … n1 − 1 of W. n0 is a multiple of 8; `inner` is used only for float32. */
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
    else floatProduct(type, w, inner, x, m, y, yStep, columns, n0, n1);
  } else if (m < PANEL_ROWS && <usize>m * activationBytes(type, columns) <= <usize>SCRATCH_BYTES) {
    vectorProducts(type, w, x, m, y, yStep, columns, n0, n1);
  } else {
    // Wide tiles are faster than integer products, and exact.
    if (type == BFLOAT16 || height == 5) floatProduct(type, w, 1, x, m, y, yStep, columns, n0, n1);
    else integerProduct(type, w, x, m, y, yStep, columns, n0, n1);
  }
}

/** Multiplies group by group, so that all rows of x except the first find the weights in the cache. */
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
  let xStep = (<usize>columns) << 2;
  if (type != BFLOAT16) {
    const quantized = scratch();
    for (let r: usize = 0; r < <usize>m; r++) {
      quantizeRow(type, x + r * xStep, columns, quantized + r * activationBytes(type, columns));
    }
    x = quantized;
    xStep = activationBytes(type, columns);
  }
  w += <usize>(n0 >> 3) * bytes;
  y += (<usize>n0) << 2;
  if (m == 1) {
    vectorProduct(type, w, x, y, n1 - n0, columns);
    return;
  }
  for (let n = n0; n < n1; n += 8, w += bytes, y += 32) {
    for (let r: usize = 0; r < <usize>m; r++) {
      vectorProduct(type, w, x + r * xStep, y + r * yStep, min(8, n1 - n), columns);
    }
  }
}

function vectorProduct(type: i32, w: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  if (type == BFLOAT16) matVecBfloat16(w, groupBytes(type, columns), x, y, rows, columns);
  else if (type == INT8) matVecInt8(w, x, y, rows, padded(columns) / COLUMN_BLOCK);
  else matVecInt4(w, x, y, rows, padded(columns) / COLUMN_BLOCK);
}

/** Multiplies in 16-bit integers, one panel at a time. */
function integerProduct(
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
  const xStep = (<usize>columns) << 2;
  const panel = scratch();
  const interleavedRows = panel + INTERLEAVED_ROWS;
  for (let k = 0; k < columns; k += DEPTH) {
    const count = min(DEPTH, columns - k);
    for (let row = 0; row < m; row += INTEGER_ROWS_AT_ONCE) {
      const some = min(INTEGER_ROWS_AT_ONCE, m - row);
      interleaveIntegerRows(x + <usize>row * xStep + ((<usize>k) << 2), xStep, some, count, interleavedRows);
      let to = y + <usize>row * yStep + ((<usize>n0) << 2);
      for (let n = n0; n < n1; n += 8, to += 32) {
        integerPanel(type, w + <usize>(n >> 3) * bytes, panel, k, count);
        integerTiles(interleavedRows, panel, count, to, yStep, some, min(8, n1 - n), k > 0);
      }
    }
  }
}

function floatProduct(
  type: i32,
  w: usize,
  inner: i32,
  x: usize,
  m: i32,
  y: usize,
  yStep: usize,
  columns: i32,
  n0: i32,
  n1: i32,
): void {
  const bytes = type == FLOAT32 ? 0 : groupBytes(type, columns);
  const xStep = (<usize>columns) << 2;
  const panels = scratch();
  const interleavedRows = panels + INTERLEAVED_ROWS;
  if (type == FLOAT32) setMatrix(w, FLOAT32, inner, columns * inner, 1, inner);
  for (let k = 0; k < columns; k += DEPTH) {
    const count = min(DEPTH, columns - k);
    for (let row = 0; row < m; row += ROWS_AT_ONCE) {
      const some = min(ROWS_AT_ONCE, m - row);
      interleaveRows(x + <usize>row * xStep + ((<usize>k) << 2), xStep, some, count, interleavedRows);
      const to = y + <usize>row * yStep;
      for (let n = n0; n < n1; n += 8 * PANELS) {
        const end = min(n + 8 * PANELS, n1);
        if (type == FLOAT32) {
          fillPanels(panels, PANEL_BYTES, n, end - n, k, count);
        } else {
          let panel = panels;
          for (let i = n; i < end; i += 8, panel += PANEL_BYTES) {
            decode(type, w + <usize>(i >> 3) * bytes, panel, k, count);
          }
        }
        tiles(interleavedRows, panels, PANEL_BYTES, 32, count, to + ((<usize>n) << 2), yStep, some, end - n, k > 0);
      }
    }
  }
}

/** MAT_MUL: y = x · Wᵀ. */
export function matMul(): void {
  const rows = argument(MatMulWord.rows);
  const groups = (rows + 7) >> 3;
  product(
    argument(MatMulWord.type),
    pointer(MatMulWord.w),
    argument(MatMulWord.inner),
    pointer(MatMulWord.x),
    argument(MatMulWord.m),
    pointer(MatMulWord.y),
    (<usize>rows) << 2,
    rows,
    argument(MatMulWord.columns),
    first(groups) << 3,
    min(rows, last(groups) << 3),
  );
}

/** MAT_MUL_TRANSPOSED: dx = dy · W. */
export function matMulTransposed(): void {
  const type = argument(MatMulWord.type);
  const w = pointer(MatMulWord.w);
  const inner = argument(MatMulWord.inner);
  const dy = pointer(MatMulWord.x);
  const m = argument(MatMulWord.m);
  const dx = pointer(MatMulWord.y);
  const rows = argument(MatMulWord.rows);
  const columns = argument(MatMulWord.columns);
  if (type == FLOAT32) setMatrix(w, FLOAT32, inner, columns * inner, 1, inner);
  const blocks = padded(columns) / COLUMN_BLOCK;
  const dyStep = (<usize>rows) << 2;
  const dxStep = (<usize>columns) << 2;
  const interleavedRows = scratch() + TRANSPOSED + 4 * TRANSPOSED_BYTES;
  // Parts of similar size, in whole groups.
  const parts = (rows + TRANSPOSED_DEPTH - 1) / TRANSPOSED_DEPTH;
  const most = ((rows + parts - 1) / max(parts, 1) + 7) & ~7;
  for (let n = 0; n < rows; n += most) {
    const depth = min(most, rows - n);
    for (let row = 0; row < m; row += TRANSPOSED_ROWS_AT_ONCE) {
      const some = min(TRANSPOSED_ROWS_AT_ONCE, m - row);
      interleaveRows(dy + <usize>row * dyStep + ((<usize>n) << 2), dyStep, some, depth, interleavedRows);
      for (let block = first(blocks); block < last(blocks); block++) {
        const k = block * COLUMN_BLOCK;
        const count = min(COLUMN_BLOCK, columns - k);
        transposeBlock(type, w, n, depth, k, count, columns);
        const to = dx + <usize>row * dxStep + ((<usize>k) << 2);
        tiles(interleavedRows, scratch() + TRANSPOSED, TRANSPOSED_BYTES, 32, depth, to, dxStep, some, count, n > 0);
      }
    }
  }
}

/** Loads columns k … k + 31 of rows n … n + depth − 1 as four panels [n][8 k]. */
function transposeBlock(type: i32, w: usize, n: i32, depth: i32, k: i32, count: i32, columns: i32): void {
  const block = scratch();
  const bytes = groupBytes(type, columns);
  for (let row = 0; row < depth; row += 8) {
    if (type == FLOAT32) fillPanel(block, n + row, min(8, depth - row), k, count);
    else decode(type, w + <usize>((n + row) >> 3) * bytes, block, k, count);
    for (let octet: usize = 0; octet < 4; octet++) {
      transposePanel(block + TRANSPOSED + octet * TRANSPOSED_BYTES + ((<usize>row) << 5), block + (octet << 8));
    }
  }
}
