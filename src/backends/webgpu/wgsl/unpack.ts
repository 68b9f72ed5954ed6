/** Unpacked matrices, and rows of packed ones. */
import {type PackedFormat} from '../../../weights/dtype';
import {type Program} from '../program';
import {weightCode, weightNumbers} from './weights';

/** A part of W (rows, columns) → y, rows from `first` on. One invocation for four rows and eight columns. */
export const unpack = (format: PackedFormat): Program => ({
  name: `unpack ${format}`,
  size: 64,
  reads: {w: 'array<vec4<u32>>'},
  writes: {y: 'array<f32>'},
  numbers: {columns: 'u32', blocks: 'u32', first: 'u32', ...weightNumbers('w')},
  declarations: weightCode({w: format}),
  body: `
  let index = group * SIZE + lane;
  let t = index & 3u;
  let half = (index >> 2u) & 1u;
  let block = (index >> 3u) % n.blocks;
  let unit = (index >> 3u) / n.blocks;
  if (8u * unit >= n.wRows) { return; }
  let values = wColumns(unit, block, half, t);
  for (var r = 0u; r < 4u; r++) {
    let row = 8u * unit + 4u * half + r;
    if (row >= n.wRows) { return; }
    for (var i = 0u; i < 8u; i++) {
      let column = 32u * block + 8u * t + i;
      if (column < n.columns) { y[(n.first + row) * n.columns + column] = values[i][r]; }
    }
  }`,
});

/**
 * Rows of a part of W, times a factor → y (count, columns). Ids of other parts are skipped, and ids that are in no part give
 * rows of NaN.
 */
export const gather = (format: PackedFormat): Program => ({
  name: `gather ${format}`,
  size: 64,
  reads: {w: 'array<vec4<u32>>', ids: 'array<i32>'},
  writes: {y: 'array<u32>'},
  numbers: {
    count: 'u32',
    columns: 'u32',
    blocks: 'u32',
    first: 'u32',
    rows: 'u32',
    factor: 'f32',
    ...weightNumbers('w'),
  },
  declarations: weightCode({w: format}),
  body: `
  let index = group * SIZE + lane;
  let t = index & 3u;
  let block = (index >> 2u) % n.blocks;
  let item = (index >> 2u) / n.blocks;
  if (item >= n.count) { return; }
  let id = bitcast<u32>(ids[item]);
  let known = id < n.rows;
  if (known && (id < n.first || id >= n.first + n.wRows)) { return; }
  let local = select(0u, id - n.first, known);
  let values = wColumns(local >> 3u, block, (local >> 2u) & 1u, t);
  for (var i = 0u; i < 8u; i++) {
    let column = 32u * block + 8u * t + i;
    // A word, since shaders may treat numbers that are not finite as they like.
    let value = select(0x7fc00000u, bitcast<u32>(values[i][local & 3u] * n.factor), known);
    if (column < n.columns) { y[item * n.columns + column] = value; }
  }`,
});

/** Words of two bfloat16 values, low half first → float32 values. */
export const unpackWords: Program = {
  name: 'unpack words',
  size: 64,
  reads: {words: 'array<u32>'},
  writes: {y: 'array<u32>'},
  numbers: {count: 'u32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  y[2u * index] = words[index] << 16u;
  y[2u * index + 1u] = words[index] & 0xffff0000u;`,
};
