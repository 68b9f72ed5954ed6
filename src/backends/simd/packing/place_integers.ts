/** Packs integers and their scales unchanged. The formats are described in `../engine/command.ts`. */
import {float32ToBfloat16} from '../../../base/half';
import {type IntegerBlocks} from '../../../weights/integer_stream';
import {type Packing} from '../../../weights/packing';
import {COLUMN_BLOCK, INT4, INT8, packedBytes, ROW_GROUP} from '../engine/command';

/** A packed matrix that is being written. */
export interface Matrix {
  /** Memory for some of its bytes, with any content. It may move with the next call. */
  bytes(start: number, count: number): Uint8Array;
  /** Takes over the memory of the last call, once it is filled. Left out where that memory is the matrix itself. */
  filled?(bytes: Uint8Array, start: number): void;
  finish(): ReturnType<NonNullable<ReturnType<NonNullable<Packing['beginIntegers']>>['finish']>>;
  abandon(): void;
}

/** Writes the block of one row: 32 integers from `from` on. `block` begins at byte `at` of the matrix. */
type PlaceRow = (bytes: Uint8Array, at: number, row: number, integers: Int8Array, from: number, scale: number) => void;

const store16 = (bytes: Uint8Array, at: number, value: number) => {
  bytes[at] = value & 255;
  bytes[at + 1] = value >> 8;
};

/** Bytes of even columns hold the number + 128, and those of odd columns the number in two's complement. */
const placeInt8: PlaceRow = (bytes, at, row, integers, from, scale) => {
  store16(bytes, at + 2 * row, scale);
  let to = at + 2 * ROW_GROUP + 4 * row;
  for (let k = from; k < from + COLUMN_BLOCK; k += 4, to += 4 * ROW_GROUP) {
    bytes[to] = integers[k]! + 128;
    bytes[to + 1] = integers[k + 1]!;
    bytes[to + 2] = integers[k + 2]! + 128;
    bytes[to + 3] = integers[k + 3]!;
  }
};

/** The lowest number of int4's range −8 … 7, which is stored as 0. */
const LEAST4 = -8;

/** In every eight columns, low nibbles hold columns 0 to 3, and high nibbles columns 4 to 7. */
const placeInt4: PlaceRow = (bytes, at, row, integers, from, scale) => {
  store16(bytes, at + 2 * row, scale);
  store16(bytes, at + 2 * (ROW_GROUP + row), timesLeast4(scale));
  let to = at + 4 * ROW_GROUP + 4 * row;
  for (let k = from; k < from + COLUMN_BLOCK; k += 8, to += 4 * ROW_GROUP) {
    for (let i = 0; i < 4; i++) {
      bytes[to + i] = (integers[k + i]! - LEAST4) | ((integers[k + 4 + i]! - LEAST4) << 4);
    }
  }
};

/** A bfloat16 times −8, which is exact: the exponent grows by 3. */
function timesLeast4(bits: number): number {
  float[0] = 0;
  word[0] = bits << 16;
  float[0] *= LEAST4;
  return word[0] >>> 16;
}
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The members of a packing that handle integers. */
export function integerPacking(
  format: 'int8' | 'int4',
  begin: (rows: number, columns: number) => Matrix,
): Pick<Packing, 'beginIntegers' | 'integers'> {
  const [place, type, integers] =
    format === 'int8'
      ? ([placeInt8, INT8, {least: -128, largest: 127}] as const)
      : ([placeInt4, INT4, {least: LEAST4, largest: 7}] as const);
  const blockBytes = packedBytes(type, ROW_GROUP, COLUMN_BLOCK);
  return {
    integers,
    beginIntegers: (rows, columns) => {
      const {bytes: memory, filled, finish, abandon} = begin(rows, columns);
      const blocks = columns / COLUMN_BLOCK;
      let halves = new Uint16Array(0);
      return {
        multiple: ROW_GROUP,
        finish,
        abandon,
        place: ({integers: values, scales}: IntegerBlocks, first, count) => {
          if (halves.length !== scales.length) halves = new Uint16Array(scales.length);
          float32ToBfloat16(scales, halves);
          const groupBytes = blocks * blockBytes;
          const start = (first / ROW_GROUP) * groupBytes;
          const bytes = memory(start, Math.ceil(count / ROW_GROUP) * groupBytes);
          // Rows after the last one are zeros.
          if (count % ROW_GROUP) bytes.fill(0, Math.floor(count / ROW_GROUP) * groupBytes);
          for (let row = 0; row < count; row++) {
            const group = Math.floor(row / ROW_GROUP) * groupBytes;
            for (let block = 0, i = row * blocks; block < blocks; block++, i++) {
              place(bytes, group + block * blockBytes, row % ROW_GROUP, values, i * COLUMN_BLOCK, halves[i]!);
            }
          }
          filled?.(bytes, start);
        },
      };
    },
  };
}
