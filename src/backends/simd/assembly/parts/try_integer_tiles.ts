/** A trial of the two kernels for products of many rows with integer weights. */
import {INT4_BLOCK_BYTES} from '../layouts/packing';
import {INT4} from '../numbers';
import {bytePanel, byteTiles, interleaveByteRows, interleavedByteRows} from './byte_tile';
import {integerPanel, integerTiles, interleavedIntegerBytes, interleaveIntegerRows} from './integer_tile';
import {scratch} from './threads';

const ROWS = 5;
const COLUMNS = 256;
const BLOCKS = COLUMNS / 32;
const X_BYTES: usize = ROWS * COLUMNS * 4;
const W_BYTES: usize = BLOCKS * INT4_BLOCK_BYTES;
/** Space for rounded rows and for a panel of either kernel. */
const SPACE: usize = 16384;
const Y_STEP: usize = 32;
const Y_BYTES: usize = 160;
/** The bfloat16 number 1, twice. */
const ONES = 0x3f803f80;

/**
 * Multiplies five rows of x with eight of weights `times` times, so that the caller can time it. Overwrites scratch
 * memory.
 *
 * @returns whether the results are those of products in 16-bit integers.
 */
export function tryIntegerTiles(bytes: bool, times: i32): bool {
  const x = scratch();
  const w = x + X_BYTES;
  const y = w + W_BYTES;
  const expected = y + Y_BYTES;
  const space = expected + Y_BYTES;
  fill(x, w);
  multiplyWords(1, x, w, space, expected);
  if (bytes) multiplyBytes(times, x, w, space, y);
  else multiplyWords(times, x, w, space, y);
  for (let i: usize = 0; i < Y_BYTES; i += 4) if (load<i32>(y + i) != load<i32>(expected + i)) return false;
  return true;
}

function multiplyWords(times: i32, x: usize, w: usize, space: usize, y: usize): void {
  const panel = space + SPACE;
  const rows = panel + SPACE;
  const sums = rows + interleavedIntegerBytes(ROWS, COLUMNS);
  interleaveIntegerRows(x, COLUMNS * 4, ROWS, COLUMNS, space, rows);
  integerPanel(INT4, w, panel, 0, COLUMNS);
  for (; times > 0; times--) integerTiles(INT4, rows, panel, COLUMNS, sums, y, Y_STEP, ROWS, 8, false);
}

function multiplyBytes(times: i32, x: usize, w: usize, space: usize, y: usize): void {
  const panel = space + SPACE;
  const rows = panel + SPACE;
  const sums = rows + interleavedByteRows(ROWS, COLUMNS);
  interleaveByteRows(INT4, x, COLUMNS * 4, ROWS, COLUMNS, space, rows);
  bytePanel(INT4, w, panel, 0, COLUMNS);
  for (; times > 0; times--) byteTiles(INT4, rows, panel, COLUMNS, sums, y, Y_STEP, ROWS, 8, false);
}

/** Scales and minima of 1, any weights, and x of any sign. */
function fill(x: usize, w: usize): void {
  let word = 1;
  for (let i: usize = 0; i < W_BYTES; i += 4) {
    word = word * 1664525 + 1013904223;
    store<i32>(w + i, i % INT4_BLOCK_BYTES < 32 ? ONES : word);
  }
  for (let i = 0; i < ROWS * COLUMNS; i++) {
    word = word * 1664525 + 1013904223;
    store<f32>(x + ((<usize>i) << 2), <f32>word);
  }
}
