/** The kernels for integer weights that the host has chosen for this processor. */
import {INT8_WORDS} from '../numbers';

/** INT8_WORDS, INT8_UNSIGNED_BYTES or INT8_SIGNED_BYTES. It also decides how rows are rounded: see `int8_row.ts`. */
export let int8Kernel: i32 = INT8_WORDS;
/** Whether products of many rows multiply bytes: see `byte_tile.ts`. */
export let byteTiles: bool = false;
/** Whether they otherwise multiply 16-bit integers, also where there are wide tiles: see `integer_tile.ts`. */
export let wordTiles: bool = false;

export function setInt8Kernel(kernel: i32): void {
  int8Kernel = kernel;
}

export function setIntegerTiles(bytes: bool, words: bool): void {
  byteTiles = bytes;
  wordTiles = words;
}
