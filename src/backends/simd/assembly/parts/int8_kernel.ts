/** The kernel for products of one row with int8, which also decides how rows are rounded. See `int8_row.ts`. */
import {INT8_WORDS} from '../numbers';

/** INT8_WORDS, INT8_UNSIGNED_BYTES or INT8_SIGNED_BYTES. */
export let int8Kernel: i32 = INT8_WORDS;

export function setInt8Kernel(kernel: i32): void {
  int8Kernel = kernel;
}
