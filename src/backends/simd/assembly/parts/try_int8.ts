/** A trial of the kernels for products of one row with int8. */
import {INT8_BLOCK_BYTES} from '../layouts/packing';
import {INT8, INT8_WORDS} from '../numbers';
import {quantizeRow, roundedBytes} from './activations';
import {setInt8Kernel} from './int8_kernel';
import {matVecInt8} from './int8_row';
import {scratch} from './threads';

/** Two pairs of groups, and one group. */
const ROWS = 40;
const COLUMNS = 256;
const BLOCKS = COLUMNS / 32;
const WEIGHT_BYTES: usize = (ROWS / 8) * BLOCKS * INT8_BLOCK_BYTES;
/** The bfloat16 number 1, twice. */
const ONES = 0x3f803f80;
/** Weights of 127 in all four columns: the largest products, which instructions for smaller bytes get wrong. */
const LARGEST = 0x7fff7fff;

/**
 * Multiplies `times` times, so that the caller can time it. Overwrites scratch memory.
 *
 * @returns whether the results are those of INT8_WORDS.
 */
export function tryInt8Kernel(kernel: i32, times: i32): bool {
  const w = scratch();
  const x = w + WEIGHT_BYTES;
  const rounded = x + COLUMNS * 4;
  const y = rounded + roundedBytes(COLUMNS);
  const expected = y + ROWS * 4;
  fill(w, x);
  multiply(INT8_WORDS, 1, w, x, rounded, expected);
  multiply(kernel, times, w, x, rounded, y);
  for (let i: usize = 0; i < <usize>ROWS * 4; i += 4) if (load<i32>(y + i) != load<i32>(expected + i)) return false;
  return true;
}

function multiply(kernel: i32, times: i32, w: usize, x: usize, rounded: usize, y: usize): void {
  setInt8Kernel(kernel);
  quantizeRow(INT8, x, COLUMNS, rounded);
  for (; times > 0; times--) matVecInt8(w, rounded, y, ROWS, BLOCKS);
}

/** Weights of every kind: the largest ones in each other block, any in the rest. */
function fill(w: usize, x: usize): void {
  let word = 1;
  for (let block = 0; block < (ROWS / 8) * BLOCKS; block++) {
    for (let i = 0; i < INT8_BLOCK_BYTES; i += 4) {
      word = word * 1664525 + 1013904223;
      store<i32>(w + <usize>i, i < 16 ? ONES : block & 1 ? LARGEST : word);
    }
    w += INT8_BLOCK_BYTES;
  }
  for (let i = 0; i < COLUMNS; i++, x += 4) store<f32>(x, <f32>(i % 7 == 3 ? -0.4 : i % 5 == 2 ? 0.1 : 1));
}
