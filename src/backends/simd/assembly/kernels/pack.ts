/** Packs matrices of plain numbers, unpacks them, and gathers their rows. */
import {GatherWord} from '../layouts/embedding';
import {COLUMN_BLOCK, PackWord, UnpackWord, WidenWord} from '../layouts/packing';
import {FLOAT32, INT4} from '../numbers';
import {padded} from '../parts/blocks';
import {decode, encode, groupBytes} from '../parts/formats';
import {clearPanel, copyColumns, fillPanel, setHalves, setMatrix} from '../parts/panel';
import {setEnergies} from '../parts/int4';
import {argument, begin, chunkOf, claim, end, pointer, scratch} from '../parts/threads';

/** Columns packed at once: a multiple of `COLUMN_BLOCK`. */
const DEPTH = 512;

/** PACK: packs a matrix of plain numbers, or a piece of it. */
export function pack(): void {
  const rows = argument(PackWord.rows);
  const columns = argument(PackWord.columns);
  const type = argument(PackWord.targetType);
  const targetColumns = argument(PackWord.targetColumns);
  const firstColumn = argument(PackWord.firstColumn);
  const bytes = groupBytes(type, targetColumns);
  const target = pointer(PackWord.target) + <usize>(argument(PackWord.firstRow) >> 3) * bytes;
  setMatrix(
    pointer(PackWord.source),
    argument(PackWord.sourceType),
    argument(PackWord.inner),
    argument(PackWord.outerStride),
    argument(PackWord.innerStride),
    argument(PackWord.columnStride),
  );
  const energies = pointer(PackWord.energies);
  const panel = scratch();
  const groups = (rows + 7) >> 3;
  while (claim(groups, chunkOf(groups, (<usize>columns) << 5))) {
    for (let group = begin; group < end; group++) {
      const n = group << 3;
      for (let k = 0; k < columns; k += DEPTH) {
        const count = min(DEPTH, columns - k);
        if (type == INT4) setEnergies(panel + ((<usize>DEPTH) << 5), energies, k, count);
        fillPanel(panel, n, min(8, rows - n), k, count);
        clearPanel(panel + ((<usize>count) << 5), padded(count) - count);
        encode(type, panel, target + <usize>group * bytes, firstColumn + k, padded(count));
      }
    }
  }
}

/** WIDEN: widens bfloat16 values to float32. */
export function widen(): void {
  const source = pointer(WidenWord.source);
  const target = pointer(WidenWord.target);
  const count = argument(WidenWord.count);
  // What the last eight write beyond the values is part of their block of memory.
  const lines = (count + 7) >> 3;
  setHalves(true);
  while (claim(lines, chunkOf(lines, 48))) {
    const from = source + ((<usize>begin) << 4);
    copyColumns(target + ((<usize>begin) << 5), from, 16, end - begin);
  }
}

/** UNPACK: unpacks a matrix to float32. */
export function unpack(): void {
  const source = pointer(UnpackWord.source);
  const type = argument(UnpackWord.type);
  const rows = argument(UnpackWord.rows);
  const columns = argument(UnpackWord.columns);
  const target = pointer(UnpackWord.target);
  const bytes = groupBytes(type, columns);
  const groups = (rows + 7) >> 3;
  while (claim(groups, chunkOf(groups, (<usize>columns) << 5))) {
    for (let group = begin; group < end; group++) {
      const n = group << 3;
      unpackGroup(type, source + <usize>group * bytes, target, n, min(8, rows - n), columns);
    }
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

/** GATHER: looks up rows of a table by their ids. */
export function gather(): void {
  const table = pointer(GatherWord.table);
  const type = argument(GatherWord.type);
  const columns = argument(GatherWord.columns);
  const ids = pointer(GatherWord.ids);
  const count = argument(GatherWord.count);
  const target = pointer(GatherWord.target);
  const row = (<usize>columns) << 2;
  const bytes = type == FLOAT32 ? <usize>0 : groupBytes(type, columns);
  while (claim(count, chunkOf(count, row))) {
    for (let i = begin; i < end; i++) {
      const id = load<i32>(ids + ((<usize>i) << 2));
      const to = target + <usize>i * row;
      if (type == FLOAT32) memory.copy(to, table + <usize>id * row, row);
      else gatherRow(type, table + <usize>(id >> 3) * bytes, id & 7, to, columns);
    }
  }
}

/** Unpacks one row of a packed matrix: lane `lane` of the group at `group`. */
export function gatherRow(type: i32, group: usize, lane: i32, to: usize, columns: i32): void {
  const panel = scratch();
  for (let k = 0; k < columns; k += COLUMN_BLOCK) {
    const count = min(COLUMN_BLOCK, columns - k);
    decode(type, group, panel, k, count);
    copyLane(panel, lane, to + ((<usize>k) << 2), count);
  }
}
