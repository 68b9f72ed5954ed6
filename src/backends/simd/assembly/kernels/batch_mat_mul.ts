/** Products of two plain matrices, either of which may be transposed: gradients of kernels, and tfjs' own product. */
import {BatchMatMulWord} from '../layouts/mat_mul';
import {FLOAT32} from '../numbers';
import {fillPanels, setMatrix} from '../parts/panel';
import {argument, begin, claim, end, pointer, scratch, threads} from '../parts/threads';
import {interleaveColumns, interleaveRows, tiles} from '../parts/tile';

// The same sizes as in mat_mul.ts: depth of a panel, panels filled at once, and rows interleaved at once.

const DEPTH = 512;
const PANELS = 4;
const WIDE = 8 * PANELS;
const PANEL_BYTES: usize = DEPTH * 32;
const ROWS_AT_ONCE = 128;
const INTERLEAVED_ROWS: usize = <usize>PANELS * PANEL_BYTES;
/** This many units of work per thread keep the threads evenly loaded. */
const UNITS = 4;

/** BATCH_MAT_MUL: y[i] = a[i] · b[i] for i = 0 … batch − 1. */
export function batchMatMul(): void {
  const m = argument(BatchMatMulWord.m);
  const n = argument(BatchMatMulWord.n);
  const rowBlocks = (m + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
  const columnBlocks = (n + WIDE - 1) / WIDE;
  const outer = argument(BatchMatMulWord.batch) * rowBlocks;
  // The columns are cut into no more parts than keep all threads busy: each part interleaves its rows again.
  const parts = min(columnBlocks, max(1, (UNITS * threads) / max(1, outer)));
  while (claim(outer * parts, 1)) {
    for (let unit = begin; unit < end; unit++) {
      const part = unit % parts;
      const block = unit / parts;
      const row = (block % rowBlocks) * ROWS_AT_ONCE;
      const n0 = ((part * columnBlocks) / parts) * WIDE;
      const n1 = min(n, (((part + 1) * columnBlocks) / parts) * WIDE);
      multiply(block / rowBlocks, row, min(ROWS_AT_ONCE, m - row), n0, n1);
    }
  }
}

/** Computes some rows and columns of one product. */
function multiply(i: i32, row: i32, rows: i32, n0: i32, n1: i32): void {
  const n = argument(BatchMatMulWord.n);
  const k = argument(BatchMatMulWord.k);
  const a = pointer(BatchMatMulWord.a) + ((<usize>i * pointer(BatchMatMulWord.aStride)) << 2);
  const b = pointer(BatchMatMulWord.b) + ((<usize>i * pointer(BatchMatMulWord.bStride)) << 2);
  const aStep = pointer(BatchMatMulWord.aRowStride) << 2;
  const bStride = argument(BatchMatMulWord.bRowStride);
  const yStep = pointer(BatchMatMulWord.yRowStride) << 2;
  const y = pointer(BatchMatMulWord.y) + ((<usize>i * pointer(BatchMatMulWord.yStride)) << 2) + <usize>row * yStep;
  const panels = scratch();
  const interleaved = panels + INTERLEAVED_ROWS;
  if (k == 0) {
    for (let r: usize = 0; r < <usize>rows; r++) {
      memory.fill(y + r * yStep + ((<usize>n0) << 2), 0, (<usize>(n1 - n0)) << 2);
    }
  }
  // A panel holds columns of b, so `setMatrix` describes the transpose of b.
  if (argument(BatchMatMulWord.bTransposed) != 0) setMatrix(b, FLOAT32, 1, bStride, 0, 1);
  else setMatrix(b, FLOAT32, n, 0, 1, bStride);
  for (let depth = 0; depth < k; depth += DEPTH) {
    const count = min(DEPTH, k - depth);
    if (argument(BatchMatMulWord.aTransposed) != 0)
      interleaveColumns(a + <usize>depth * aStep + ((<usize>row) << 2), aStep, rows, count, interleaved);
    else interleaveRows(a + <usize>row * aStep + ((<usize>depth) << 2), aStep, rows, count, interleaved);
    for (let wide = n0; wide < n1; wide += WIDE) {
      const stop = min(n1, wide + WIDE);
      fillPanels(panels, PANEL_BYTES, wide, stop - wide, depth, count);
      tiles(interleaved, panels, PANEL_BYTES, 32, count, y + ((<usize>wide) << 2), yStep, rows, stop - wide, depth > 0);
    }
  }
}
