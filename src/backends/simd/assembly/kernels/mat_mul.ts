/** y (m, rows) = x (m, columns) · Wᵀ with W (rows, columns) in any format. */
import {MatMulWord} from '../layouts/mat_mul';
import {COLUMN_BLOCK} from '../layouts/packing';
import {BFLOAT16, EDGE, FLOAT32, INT4, INT8, INT8_WORDS, SCRATCH_BYTES} from '../numbers';
import {quantizeRow, roundedBytes, roundRow} from '../parts/activations';
import {matVecBfloat16} from '../parts/bfloat16';
import {padded} from '../parts/blocks';
import {bytePanel, byteTiles, interleaveByteRows, interleavedByteRows} from '../parts/byte_tile';
import {float32GroupsPerClaim, matVecFloat32} from '../parts/float32';
import {decode, groupBytes} from '../parts/formats';
import {matVecInt4} from '../parts/int4';
import {byteTiles as byteTilesChosen, int8Kernel, wordTiles} from '../parts/int8_kernel';
import {matVecInt8} from '../parts/int8_row';
import {integerPanel, integerTiles, interleavedIntegerBytes, interleaveIntegerRows} from '../parts/integer_tile';
import {fillPanels, setMatrix} from '../parts/panel';
import {argument, barrier, begin, chunkOf, claim, end, pointer, scratch, threads} from '../parts/threads';
import {height, interleavedBytes, interleaveRows, tiles} from '../parts/tile';

/**
 * Columns of a panel. A panel of 20 kB fits in the innermost cache together with a tile's rows of x. A multiple of
 * `COLUMN_BLOCK`.
 */
const DEPTH = 640;
const PANEL_BYTES: usize = DEPTH * 32;
/**
 * Panels filled at once. Where the float32 weights of one column are adjacent, their 64 rows are four cache lines of
 * one page.
 */
const PANELS = 8;
/** Rows of x per block. The panels are filled again for each block. */
const ROWS_AT_ONCE = 256;
/** Rows of x per block for integer products: their interleaved rows fit in the second-level cache. */
const INTEGER_ROWS_AT_ONCE = 128;
/** The same for products of bytes: whole tiles. */
const BYTE_ROWS_AT_ONCE = 130;
const INTERLEAVED_ROWS: usize = <usize>PANELS * PANEL_BYTES;
const INTERLEAVED_BYTES: usize = <usize>SCRATCH_BYTES - EDGE - INTERLEAVED_ROWS;
const INTERLEAVED_INTEGER_BYTES: usize = 262144;
/** Fewer rows of x than this are multiplied one by one: panels would not be used often enough to pay off. */
const PANEL_ROWS = 4;
/** Groups of rows of W that are claimed at a time in products on tiles: the rows of `PANELS` panels. */
const TILE_GROUPS = PANELS;

// How a product is computed.

/** One row of x after another, over weights that are read once. */
const VECTORS = 0;
const FLOAT_TILES = 1;
const INTEGER_TILES = 2;
const BYTE_TILES = 3;

// The rows of x, and the form of them that scratch memory holds. Claims come in small pieces, so each thread prepares
// its rows once, not for each claim.

let x: usize = 0;
let m: i32 = 0;
let columns: i32 = 0;
const NONE = -1;
/** The type of the weights for which rows are quantized. */
let preparedType: i32 = NONE;
let preparedMethod: i32 = NONE;
let preparedBlock: i32 = 0;
let preparedDepth: i32 = 0;

// Products of single rows read them as words or as bytes. Both may be present at once: otherwise a thread that
// alternately claims rows of two matrices would round x again for each claim.

const WORDS = 1;
const BYTES = 2;
let preparedForms: i32 = 0;
/** Space for each form. */
const FORM_BYTES: usize = <usize>(SCRATCH_BYTES - EDGE) / 2;

/** Sets the rows of x (m, columns) that the following products multiply. */
export function setRows(x_: usize, m_: i32, columns_: i32): void {
  x = x_;
  m = m_;
  columns = columns_;
  preparedMethod = NONE;
}

/** True if scratch memory does not yet hold what the arguments describe. Afterwards it does. */
function mustPrepare(method: i32, type: i32, block: i32, depth: i32): bool {
  if (method == preparedMethod && type == preparedType && block == preparedBlock && depth == preparedDepth)
    return false;
  preparedMethod = method;
  preparedType = type;
  preparedBlock = block;
  preparedDepth = depth;
  return true;
}

/** True if scratch memory does not yet hold single rows in this form. Afterwards it does. */
function mustPrepareForm(form: i32): bool {
  if (preparedMethod != VECTORS) preparedForms = 0;
  preparedMethod = VECTORS;
  const missing = (preparedForms & form) == 0;
  preparedForms |= form;
  return missing;
}

function methodOf(type: i32): i32 {
  if (type == FLOAT32) return m == 1 ? VECTORS : FLOAT_TILES;
  if (m < PANEL_ROWS && <usize>m * roundedBytes(columns) <= FORM_BYTES) return VECTORS;
  if (type == BFLOAT16) return FLOAT_TILES;
  if (byteTilesChosen && (type == INT4 || int8Kernel != INT8_WORDS)) return BYTE_TILES;
  return height == 5 && !wordTiles ? FLOAT_TILES : INTEGER_TILES;
}

/** Rows of x in a block. */
function blockRows(method: i32): i32 {
  if (method == VECTORS) return m;
  if (method == FLOAT_TILES) return min(m, ROWS_AT_ONCE);
  return min(m, method == BYTE_TILES ? BYTE_ROWS_AT_ONCE : INTEGER_ROWS_AT_ONCE);
}

/** Columns per pass: as many whole panels as scratch memory has room for the rows of a block. */
function passColumns(method: i32): i32 {
  if (method == VECTORS || m == 0) return columns;
  const rows = blockRows(method);
  const panels =
    method == FLOAT_TILES
      ? INTERLEAVED_BYTES / interleavedBytes(rows, DEPTH)
      : INTERLEAVED_INTEGER_BYTES /
        (method == BYTE_TILES ? interleavedByteRows(rows, DEPTH) : interleavedIntegerBytes(rows, DEPTH));
  return DEPTH * max(1, <i32>panels);
}

/** Bytes of eight rows of weights in any format. */
export function weightBytes(type: i32, columns: i32): usize {
  return type == FLOAT32 ? (<usize>columns) << 5 : groupBytes(type, columns);
}

/**
 * How many of n groups of weights to claim at a time, in pairs of groups, if each has this many bytes. For the rows of x
 * given to `setRows`; `inner` is used only for float32.
 */
export function groupsPerClaim(n: i32, bytes: usize, type: i32, inner: i32): i32 {
  if (type == FLOAT32 && inner > 1 && m == 1) return float32GroupsPerClaim(n, inner, threads);
  return (chunkOf(n, bytes) + 1) & ~1;
}

/**
 * y = x · Wᵀ for rows n0 … n1 − 1 of W, which is (rows, columns), and the rows of x given to `setRows`. n0 is a multiple
 * of 8; `inner` is used only for float32.
 */
export function product(type: i32, w: usize, inner: i32, y: usize, yStep: usize, n0: i32, n1: i32): void {
  if (n0 >= n1) return;
  const method = methodOf(type);
  const step = passColumns(method);
  const rows = blockRows(method);
  for (let k = 0; k < columns; k += step) {
    for (let row = 0; row < m; row += rows) blockProduct(method, type, w, inner, row, k, y, yStep, n0, n1);
  }
}

/** The part of a product that belongs to one block of rows of x and one pass. Later passes add to earlier ones. */
function blockProduct(
  method: i32,
  type: i32,
  w: usize,
  inner: i32,
  row: i32,
  k: i32,
  y: usize,
  yStep: usize,
  n0: i32,
  n1: i32,
): void {
  if (method == VECTORS) vectorProducts(type, w, inner, y, yStep, n0, n1);
  else if (method == FLOAT_TILES) floatProduct(type, w, inner, row, k, y + <usize>row * yStep, yStep, n0, n1);
  else if (method == INTEGER_TILES) integerProduct(type, w, row, k, y + <usize>row * yStep, yStep, n0, n1);
  else byteProduct(type, w, row, k, y + <usize>row * yStep, yStep, n0, n1);
}

/** Multiplies group by group, so that all rows of x except the first find the weights in the cache. */
function vectorProducts(type: i32, w: usize, inner: i32, y: usize, yStep: usize, n0: i32, n1: i32): void {
  if (type == FLOAT32) {
    matVecFloat32(w, inner, x, y, columns, n0, n1);
    return;
  }
  const bytes = groupBytes(type, columns);
  let rows = x;
  let step = (<usize>columns) << 2;
  if (type != BFLOAT16) {
    const split = ASC_FEATURE_RELAXED_SIMD && (type == INT4 || int8Kernel != INT8_WORDS);
    rows = scratch() + (split ? FORM_BYTES : 0);
    if (mustPrepareForm(split ? BYTES : WORDS)) {
      for (let r: usize = 0; r < <usize>m; r++) {
        quantizeRow(type, x + r * step, columns, rows + r * roundedBytes(columns));
      }
    }
    step = roundedBytes(columns);
  }
  w += <usize>(n0 >> 3) * bytes;
  y += (<usize>n0) << 2;
  if (m == 1) {
    vectorProduct(type, w, rows, y, n1 - n0, columns);
    return;
  }
  for (let n = n0; n < n1; n += 8, w += bytes, y += 32) {
    for (let r: usize = 0; r < <usize>m; r++) {
      vectorProduct(type, w, rows + r * step, y + r * yStep, min(8, n1 - n), columns);
    }
  }
}

function vectorProduct(type: i32, w: usize, x: usize, y: usize, rows: i32, columns: i32): void {
  if (type == BFLOAT16) matVecBfloat16(w, groupBytes(type, columns), x, y, rows, columns);
  else if (type == INT8) matVecInt8(w, x, y, rows, padded(columns) / COLUMN_BLOCK);
  else matVecInt4(w, x, y, rows, padded(columns) / COLUMN_BLOCK);
}

/** Multiplies in 16-bit integers, one panel at a time. */
function integerProduct(type: i32, w: usize, row: i32, from: i32, y: usize, yStep: usize, n0: i32, n1: i32): void {
  const bytes = groupBytes(type, columns);
  const xStep = (<usize>columns) << 2;
  const panel = scratch();
  const sums = panel + PANEL_BYTES;
  const interleavedRows = panel + INTERLEAVED_ROWS;
  const rows = min(blockRows(INTEGER_TILES), m - row);
  const pieceBytes = interleavedIntegerBytes(rows, DEPTH);
  const to = min(columns, from + passColumns(INTEGER_TILES));
  if (mustPrepare(INTEGER_TILES, NONE, row, from)) {
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const at = x + <usize>row * xStep + ((<usize>k) << 2);
      interleaveIntegerRows(at, xStep, rows, min(DEPTH, to - k), panel, piece);
    }
  }
  y += (<usize>n0) << 2;
  for (let n = n0; n < n1; n += 8, y += 32) {
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const count = min(DEPTH, to - k);
      integerPanel(type, w + <usize>(n >> 3) * bytes, panel, k, count);
      integerTiles(type, piece, panel, count, sums, y, yStep, rows, min(8, n1 - n), k > 0);
    }
  }
}

/** Multiplies in bytes, one panel at a time. */
function byteProduct(type: i32, w: usize, row: i32, from: i32, y: usize, yStep: usize, n0: i32, n1: i32): void {
  const bytes = groupBytes(type, columns);
  const xStep = (<usize>columns) << 2;
  const panel = scratch();
  const sums = panel + PANEL_BYTES;
  const interleavedRows = panel + INTERLEAVED_ROWS;
  const rows = min(blockRows(BYTE_TILES), m - row);
  const pieceBytes = interleavedByteRows(rows, DEPTH);
  const to = min(columns, from + passColumns(BYTE_TILES));
  if (mustPrepare(BYTE_TILES, type, row, from)) {
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const at = x + <usize>row * xStep + ((<usize>k) << 2);
      interleaveByteRows(type, at, xStep, rows, min(DEPTH, to - k), panel, piece);
    }
  }
  y += (<usize>n0) << 2;
  for (let n = n0; n < n1; n += 8, y += 32) {
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const count = min(DEPTH, to - k);
      bytePanel(type, w + <usize>(n >> 3) * bytes, panel, k, count);
      byteTiles(type, piece, panel, count, sums, y, yStep, rows, min(8, n1 - n), k > 0);
    }
  }
}

function floatProduct(
  type: i32,
  w: usize,
  inner: i32,
  row: i32,
  from: i32,
  y: usize,
  yStep: usize,
  n0: i32,
  n1: i32,
): void {
  const bytes = type == FLOAT32 ? 0 : groupBytes(type, columns);
  const xStep = (<usize>columns) << 2;
  const panels = scratch();
  const interleavedRows = panels + INTERLEAVED_ROWS;
  const rows = min(blockRows(FLOAT_TILES), m - row);
  const pieceBytes = interleavedBytes(rows, DEPTH);
  const to = min(columns, from + passColumns(FLOAT_TILES));
  const rounded = type != FLOAT32 && type != BFLOAT16;
  if (mustPrepare(FLOAT_TILES, rounded ? INT8 : FLOAT32, row, from)) {
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const at = x + <usize>row * xStep + ((<usize>k) << 2);
      const count = min(DEPTH, to - k);
      if (rounded) interleaveRoundedRows(at, xStep, rows, count, panels, piece);
      else interleaveRows(at, xStep, rows, count, piece);
    }
  }
  if (type == FLOAT32) setMatrix(w, FLOAT32, inner, columns * inner, 1, inner);
  for (let n = n0; n < n1; n += 8 * PANELS) {
    const some = min(8 * PANELS, n1 - n);
    let piece = interleavedRows;
    for (let k = from; k < to; k += DEPTH, piece += pieceBytes) {
      const count = min(DEPTH, to - k);
      if (type == FLOAT32) {
        fillPanels(panels, PANEL_BYTES, n, some, k, count);
      } else {
        let panel = panels;
        for (let i = n; i < n + some; i += 8, panel += PANEL_BYTES) {
          decode(type, w + <usize>(i >> 3) * bytes, panel, k, count);
        }
      }
      tiles(piece, panels, PANEL_BYTES, 32, count, y + ((<usize>n) << 2), yStep, rows, some, k > 0);
    }
  }
}

/** Like `interleaveRows`, for rows that are rounded first, one tile at a time, at `space`. */
function interleaveRoundedRows(x: usize, step: usize, rows: i32, count: i32, space: usize, to: usize): void {
  const bytes = (<usize>count) << 2;
  for (; rows > 0; rows -= height, x += <usize>height * step, to += <usize>height * bytes) {
    const some = min(height, rows);
    for (let r: usize = 0; r < <usize>some; r++) roundRow(x + r * step, count, space + r * bytes);
    interleaveRows(space, bytes, some, count, to);
  }
}

/** MAT_MUL: y = x · Wᵀ. The threads share blocks of rows of x, each with some groups of rows of W. */
export function matMul(): void {
  const type = argument(MatMulWord.type);
  const rows = argument(MatMulWord.rows);
  setRows(pointer(MatMulWord.x), argument(MatMulWord.m), argument(MatMulWord.columns));
  const method = methodOf(type);
  const step = passColumns(method);
  const groups = (rows + 7) >> 3;
  const blocks = m == 0 ? 0 : (m + blockRows(method) - 1) / blockRows(method);
  const chunk =
    method == VECTORS
      ? groupsPerClaim(groups, weightBytes(type, columns), type, argument(MatMulWord.inner))
      : tileGroups(blocks * groups);
  const parts = (groups + chunk - 1) / chunk;
  for (let k = 0; k < columns; k += step) {
    // Each pass adds to the sums of the previous one, whichever thread computed them.
    if (k > 0) barrier();
    while (claim(blocks * parts, 1)) {
      for (let unit = begin; unit < end; unit++) {
        const n = (unit % parts) * chunk;
        blockProduct(
          method,
          type,
          pointer(MatMulWord.w),
          argument(MatMulWord.inner),
          (unit / parts) * blockRows(method),
          k,
          pointer(MatMulWord.y),
          (<usize>rows) << 2,
          n << 3,
          min(rows, (n + chunk) << 3),
        );
      }
    }
  }
}

/** How many groups of rows of W are multiplied with a block of rows of x at a time. Wide tiles take pairs of groups. */
function tileGroups(units: i32): i32 {
  if (threads == 1) return max(2, units);
  return max(2, min(TILE_GROUPS, units / (4 * threads)) & ~1);
}
