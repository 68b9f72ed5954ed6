/** What the packed formats have in common: their sizes, and conversion from and to panels. */
import {INT4_BLOCK_BYTES, INT8_BLOCK_BYTES} from '../layouts/packing';
import {bfloat16GroupBytes, decodeBfloat16, encodeBfloat16} from './bfloat16';
import {decodeInt4, encodeInt4} from './int4';
import {decodeInt8, encodeInt8} from './int8';
import {BFLOAT16, INT8} from '../numbers';
import {padded} from './blocks';

/** Bytes of a group of eight rows. */
export function groupBytes(type: i32, columns: i32): usize {
  return columnOffset(type, padded(columns));
}

/** Bytes of a group before column k, which is even for bfloat16 and begins a block otherwise. */
export function columnOffset(type: i32, k: i32): usize {
  if (type == BFLOAT16) return bfloat16GroupBytes(k);
  return <usize>(k >> 5) * (type == INT8 ? INT8_BLOCK_BYTES : INT4_BLOCK_BYTES);
}

/** Writes a panel of columns k … k + count − 1 of the group at `from`. k begins a block; whole blocks are written. */
export function decode(type: i32, from: usize, to: usize, k: i32, count: i32): void {
  from += columnOffset(type, k);
  if (type == BFLOAT16) decodeBfloat16(from, to, count);
  else if (type == INT8) decodeInt8(from, to, count);
  else decodeInt4(from, to, count);
}

/** Packs a panel of whole blocks into the group at `to`, from column k on. */
export function encode(type: i32, panel: usize, to: usize, k: i32, count: i32): void {
  to += columnOffset(type, k);
  if (type == BFLOAT16) encodeBfloat16(panel, to, count);
  else if (type == INT8) encodeInt8(panel, to, count);
  else encodeInt4(panel, to, count);
}
