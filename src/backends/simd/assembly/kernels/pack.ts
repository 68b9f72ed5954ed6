/** Packs matrices of plain numbers, unpacks them, and gathers their rows. */
import {FLOAT32} from '../numbers';
import {BLOCK, padded} from '../parts/blocks';
import {decode, encode, groupBytes} from '../parts/formats';
import {clearPanel, fillPanel, setMatrix} from '../parts/panel';
import {argument, first, last, pointer, scratch} from '../parts/threads';

/** Columns packed at once: a multiple of `BLOCK`. */
const DEPTH = 512;

/**
 * PACK: source, source type, inner, outer stride, inner stride, column stride, rows, columns, target, target type,
 * target columns, first row, first column.
 */
export function pack(): void {
  const rows = argument(6);
  const columns = argument(7);
  const type = argument(9);
  const targetColumns = argument(10);
  const firstColumn = argument(12);
  const bytes = groupBytes(type, targetColumns);
  const target = pointer(8) + <usize>(argument(11) >> 3) * bytes;
  setMatrix(pointer(0), argument(1), argument(2), argument(3), argument(4), argument(5));
  const panel = scratch();
  const groups = (rows + 7) >> 3;
  for (let group = first(groups); group < last(groups); group++) {
    const n = group << 3;
    for (let k = 0; k < columns; k += DEPTH) {
      const count = min(DEPTH, columns - k);
      fillPanel(panel, n, min(8, rows - n), k, count);
      clearPanel(panel + ((<usize>count) << 5), padded(count) - count);
      encode(type, panel, target + <usize>group * bytes, firstColumn + k, padded(count));
    }
  }
}

/** UNPACK: source, type, rows, columns, target: float32 (rows, columns). */
export function unpack(): void {
  const source = pointer(0);
  const type = argument(1);
  const rows = argument(2);
  const columns = argument(3);
  const target = pointer(4);
  const bytes = groupBytes(type, columns);
  const groups = (rows + 7) >> 3;
  for (let group = first(groups); group < last(groups); group++) {
    const n = group << 3;
    unpackGroup(type, source + <usize>group * bytes, target, n, min(8, rows - n), columns);
  }
}

function unpackGroup(type: i32, from: usize, target: usize, n: i32, rows: i32, columns: i32): void {
  const panel = scratch();
  const row = (<usize>columns) << 2;
  for (let k = 0; k < columns; k += DEPTH) {
    const count = min(DEPTH, columns - k);
    decode(type, from, panel, k, count);
    for (let r = 0; r < rows; r++) copyLane(panel, r, target + <usize>(n + r) * row + ((<usize>k) << 2), count);
  }
}

function copyLane(panel: usize, lane: i32, to: usize, count: i32): void {
  panel += (<usize>lane) << 2;
  for (; count > 0; count--, panel += 32, to += 4) store<f32>(to, load<f32>(panel));
}

/**
 * GATHER: table, type, columns, ids (int32), count, target: float32 (count, columns). Float32 tables are plain rows.
 */
export function gather(): void {
  const table = pointer(0);
  const type = argument(1);
  const columns = argument(2);
  const ids = pointer(3);
  const count = argument(4);
  const target = pointer(5);
  const row = (<usize>columns) << 2;
  const bytes = type == FLOAT32 ? <usize>0 : groupBytes(type, columns);
  for (let i = first(count); i < last(count); i++) {
    const id = load<i32>(ids + ((<usize>i) << 2));
    const to = target + <usize>i * row;
    if (type == FLOAT32) memory.copy(to, table + <usize>id * row, row);
    else gatherRow(type, table + <usize>(id >> 3) * bytes, id & 7, to, columns);
  }
}

/** One row of a packed matrix: lane `lane` of the group at `group`. */
export function gatherRow(type: i32, group: usize, lane: i32, to: usize, columns: i32): void {
  const panel = scratch();
  for (let k = 0; k < columns; k += BLOCK) {
    const count = min(BLOCK, columns - k);
    decode(type, group, panel, k, count);
    copyLane(panel, lane, to + ((<usize>k) << 2), count);
  }
}
