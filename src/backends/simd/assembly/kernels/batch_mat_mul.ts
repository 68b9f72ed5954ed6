/** Products of two plain matrices, either of them transposed: gradients of kernels, and tfjs' own product. */
import {FLOAT32} from '../numbers';
import {fillPanels, setMatrix} from '../parts/panel';
import {argument, pointer, scratch, thread, threads} from '../parts/threads';
import {packColumns, packRows, tiles} from '../parts/tile';

// As in mat_mul.ts: depth of a panel, panels filled at once, and rows packed at once.

const DEPTH = 512;
const PANELS = 4;
const WIDE = 8 * PANELS;
const PANEL_BYTES: usize = DEPTH * 32;
const ROWS_AT_ONCE = 128;
const PACKED_ROWS: usize = <usize>PANELS * PANEL_BYTES;
/** This many units of work per thread share out evenly enough. */
const UNITS = 4;

/**
 * BATCH_MAT_MUL: y[i] (m, n) = a[i] · b[i] over k, for i = 0 … batch − 1. a is (m, k), or (k, m) if transposed; b is
 * (k, n), or (n, k). Arguments: a, values from one matrix of a to the next, from row to row, transposed; the same for
 * b; y, from one to the next, from row to row; batch, m, n, k.
 */
export function batchMatMul(): void {
  const m = argument(12);
  const n = argument(13);
  const rowBlocks = (m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const columnBlocks = (n + WIDE - 1) / WIDE;
  const outer = argument(11) * rowBlocks;
  // Only as many parts of the columns as keep all threads busy: each part packs its rows again.
  const parts = min(columnBlocks, max(1, (UNITS * threads) / max(1, outer)));
  for (let unit = thread; unit < outer * parts; unit += threads) {
    const part = unit % parts;
    const block = unit / parts;
    const row = (block % rowBlocks) * ROWS_AT_ONCE;
    const begin = ((part * columnBlocks) / parts) * WIDE;
    const end = min(n, (((part + 1) * columnBlocks) / parts) * WIDE);
    multiply(block / rowBlocks, row, min(ROWS_AT_ONCE, m - row), begin, end);
  }
}

/** Some rows and columns of one product. */
function multiply(i: i32, row: i32, rows: i32, begin: i32, end: i32): void {
  const n = argument(13);
  const k = argument(14);
  const a = pointer(0) + ((<usize>i * pointer(1)) << 2);
  const b = pointer(4) + ((<usize>i * pointer(5)) << 2);
  const aStep = pointer(2) << 2;
  const bStride = argument(6);
  const yStep = pointer(10) << 2;
  const y = pointer(8) + ((<usize>i * pointer(9)) << 2) + <usize>row * yStep;
  const panels = scratch();
  const packed = panels + PACKED_ROWS;
  if (k == 0) {
    for (let r: usize = 0; r < <usize>rows; r++) {
      memory.fill(y + r * yStep + ((<usize>begin) << 2), 0, (<usize>(end - begin)) << 2);
    }
  }
  // A panel holds columns of b, so `setMatrix` describes the transpose of b.
  if (argument(7) != 0) setMatrix(b, FLOAT32, 1, bStride, 0, 1);
  else setMatrix(b, FLOAT32, n, 0, 1, bStride);
  for (let depth = 0; depth < k; depth += DEPTH) {
    const count = min(DEPTH, k - depth);
    if (argument(3) != 0) packColumns(a + <usize>depth * aStep + ((<usize>row) << 2), aStep, rows, count, packed);
    else packRows(a + <usize>row * aStep + ((<usize>depth) << 2), aStep, rows, count, packed);
    for (let wide = begin; wide < end; wide += WIDE) {
      const stop = min(end, wide + WIDE);
      fillPanels(panels, PANEL_BYTES, wide, stop - wide, depth, count);
      tiles(packed, panels, PANEL_BYTES, 32, count, y + ((<usize>wide) << 2), yStep, rows, stop - wide, depth > 0);
    }
  }
}
