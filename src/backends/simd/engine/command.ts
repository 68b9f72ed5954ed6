/**
 * Commands of the engine, which are run as `engine.run(...matMul({...}))`. A function like `matMul` builds a command
 * from named values. It and the assembly function of the same name index the words by an enum in `../assembly/layouts`.
 * The building functions are in `../kernels`, one file per kernel family, next to the tfjs kernels that use them, and
 * in `../packing/pack_command.ts`.
 *
 * All pointers are byte offsets in the engine's memory and multiples of 4. All tensors are float32 in row-major order
 * unless stated otherwise. A result must not overlap its operands. No tensor may reach the end of a memory of 4 GiB:
 * its last 64 bytes stay free.
 *
 * ## Packed weights
 *
 * A matrix W (rows, columns) is stored in groups of eight rows. The last group is padded with zeros, and the columns
 * are padded to a multiple of 32. `packedBytes` returns the size. Group g begins at g · groupBytes.
 *
 * - `BFLOAT16`: for each pair of columns (k, k + 1), eight little-endian words, one per row, with column k in the low
 *   half and k + 1 in the high half. 16 bytes per column.
 * - `INT8`: for each block of 32 columns, eight bfloat16 scales, one per row; then, for every four columns, eight words
 *   of four bytes, one word per row. W = scale · number. Bytes of even columns hold the number + 128, and those of odd
 *   columns the number in two's complement. 272 bytes per block.
 * - `INT4`: for each block of 32 columns, eight bfloat16 scales and eight bfloat16 minima, one per row; then, for every
 *   eight columns, eight words, one per row: byte i holds column i in its low four bits and column 4 + i in its high
 *   four. W = scale · number + minimum. 160 bytes per block.
 *
 * A product with integer weights rounds x, in blocks of 32 values, to integers of 16 bits: see
 * `../assembly/parts/activations.ts`. All others compute in float32.
 */
import {
  BFLOAT16_BLOCK_BYTES,
  COLUMN_BLOCK,
  INT4_BLOCK_BYTES,
  INT8_BLOCK_BYTES,
  ROW_GROUP,
} from '../assembly/layouts/packing';
import {ReadWord} from '../assembly/layouts/read';
import {BFLOAT16, FLOAT32, INT4, INT8, NOTHING, READ} from '../assembly/numbers';

export {BFLOAT16, COLUMN_BLOCK, FLOAT32, INT4, INT8, ROW_GROUP};

export type PackedType = typeof BFLOAT16 | typeof INT8 | typeof INT4;
export type NumberType = typeof FLOAT32 | PackedType;

/** Arguments of `engine.run`. */
export type Command = [command: number, args: number[]];

/** Bits of a float32 as a word. */
export function floatBits(value: number): number {
  floats[0] = value;
  return words[0]!;
}
const floats = new Float32Array(1);
const words = new Int32Array(floats.buffer);

/** Bytes of a group of eight rows. */
export function groupBytes(type: PackedType, columns: number): number {
  return Math.ceil(columns / COLUMN_BLOCK) * BLOCK_BYTES[type];
}
const BLOCK_BYTES = {[BFLOAT16]: BFLOAT16_BLOCK_BYTES, [INT8]: INT8_BLOCK_BYTES, [INT4]: INT4_BLOCK_BYTES};

/** Bytes of a packed matrix. */
export function packedBytes(type: PackedType, rows: number, columns: number): number {
  return Math.ceil(rows / ROW_GROUP) * groupBytes(type, columns);
}

/** Does nothing, on all threads. */
export const nothing = (): Command => [NOTHING, []];

/** Reads memory, as a baseline for the speed of other commands. */
export function read({at, bytes}: {at: number; bytes: number}): Command {
  const words = new Array<number>(ReadWord.end);
  words[ReadWord.at] = at;
  words[ReadWord.bytes] = bytes;
  return [READ, words];
}
