/** dx (m, columns) = dy (m, rows) · W with W (rows, columns) in any format. */
import {MatMulWord} from '../layouts/mat_mul';
import {COLUMN_BLOCK} from '../layouts/packing';
import {FLOAT32} from '../numbers';
import {padded} from '../parts/blocks';
import {decode, groupBytes} from '../parts/formats';
import {fillPanel, setMatrix, transposePanel} from '../parts/panel';
import {argument, barrier, begin, claim, end, pointer, scratch} from '../parts/threads';
import {interleaveRows, tiles} from '../parts/tile';

// Rows of W per panel, and rows of dy per pass.

const TRANSPOSED_DEPTH = 384;
const TRANSPOSED_BYTES: usize = TRANSPOSED_DEPTH * 32;
const TRANSPOSED_ROWS_AT_ONCE = 256;
/** Scratch memory holds a panel of one block, then four transposed panels from here on, then interleaved rows of dy. */
const TRANSPOSED: usize = COLUMN_BLOCK * 32;

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
  const units = blocks * ((m + TRANSPOSED_ROWS_AT_ONCE - 1) / TRANSPOSED_ROWS_AT_ONCE);
  for (let n = 0; n < rows; n += most) {
    const depth = min(most, rows - n);
    // Each part of the rows adds to the sums of the previous one, whichever thread computed them.
    if (n > 0) barrier();
    let interleaved = -1;
    while (claim(units, 1)) {
      for (let unit = begin; unit < end; unit++) {
        const row = (unit / blocks) * TRANSPOSED_ROWS_AT_ONCE;
        const some = min(TRANSPOSED_ROWS_AT_ONCE, m - row);
        if (row != interleaved) {
          interleaveRows(dy + <usize>row * dyStep + ((<usize>n) << 2), dyStep, some, depth, interleavedRows);
          interleaved = row;
        }
        const k = (unit % blocks) * COLUMN_BLOCK;
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
