/**
 * One token per row through a whole decoder block, with keys and values in a ring. Every thread computes the short
 * steps (norms, residuals, rotary positions) for itself, so that only products and attention need a barrier after them.
 */
import {attendPart, mergeParts, setRing} from './attention';
import {gateRow, normRow, turnRow} from './elementwise';
import {product} from './mat_mul';
import {argument, barrier, first, floatArgument, last, pointer, thread, threads} from '../parts/threads';

// Dense kernels, three arguments each from this one on: type, weights, inner.
const DENSE = 24;
const QUERY = 0;
const KEY = 1;
const VALUE = 2;
const OUTPUT = 3;
const GATE = 4;
const UP = 5;
const DOWN = 6;
const WORKSPACE = 45;

let batch: i32 = 0;
let epsilon: f32 = 0;
/** The next free byte of the workspace. */
let free: usize = 0;

/** Takes a part of the workspace. */
function take(values: i32): usize {
  const at = free;
  free += (((<usize>values) << 2) + 63) & ~63;
  return at;
}

/** Rows n0 … n1 − 1 of y (batch, rows) = x (batch, columns) · Wᵀ. */
function dense(kernel: i32, x: usize, columns: i32, y: usize, rows: i32, n0: i32, n1: i32): void {
  const at = DENSE + 3 * kernel;
  const yStep = (<usize>rows) << 2;
  product(argument(at), pointer(at + 1), argument(at + 2), x, batch, y, yStep, rows, columns, n0, min(n1, rows));
}

/** This thread's rows of a product. */
function denseShare(kernel: i32, x: usize, columns: i32, y: usize, rows: i32): void {
  const groups = (rows + 7) >> 3;
  dense(kernel, x, columns, y, rows, first(groups) << 3, last(groups) << 3);
}

/** This thread's rows of the query, key and value products, shared out as one product. */
function denseShares(x: usize, columns: i32, q: usize, queryRows: i32, k: usize, v: usize, keyRows: i32): void {
  const queryGroups = (queryRows + 7) >> 3;
  const keyGroups = (keyRows + 7) >> 3;
  const total = queryGroups + 2 * keyGroups;
  const begin = first(total);
  const end = last(total);
  dense(QUERY, x, columns, q, queryRows, begin << 3, min(end, queryGroups) << 3);
  let base = queryGroups;
  dense(KEY, x, columns, k, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
  base += keyGroups;
  dense(VALUE, x, columns, v, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
}

/** y = [residual +] norm(x). Without the norm if `scale` is 0. */
function normRows(x: usize, scale: usize, residual: usize, y: usize, columns: i32): void {
  const row = (<usize>columns) << 2;
  for (let b: usize = 0; b < <usize>batch; b++) {
    const at = b * row;
    const other = residual == 0 ? <usize>0 : residual + at;
    if (scale != 0) normRow(x + at, scale, other, y + at, columns, epsilon);
    else addRow(x + at, other, y + at, columns);
  }
}

function addRow(x: usize, residual: usize, y: usize, columns: i32): void {
  for (let at: usize = 0; at < (<usize>columns) << 2; at += 4) {
    store<f32>(y + at, load<f32>(x + at) + (residual != 0 ? load<f32>(residual + at) : 0));
  }
}

/** Applies the norm, if there is one, and the rotary positions to query or key heads of all rows. y may be x. */
function prepareHeads(x: usize, norm: usize, y: usize, heads: i32, width: i32): void {
  const row = (<usize>width) << 2;
  const shared = argument(18) == 1;
  for (let b = 0; b < batch; b++) {
    const angles = shared ? <usize>0 : <usize>b * (row >> 1);
    for (let head = 0; head < heads; head++) {
      const at = <usize>(b * heads + head) * row;
      let from = x + at;
      if (norm != 0) {
        normRow(from, norm, 0, y + at, width, epsilon);
        from = y + at;
      }
      turnRow(from, pointer(16) + angles, pointer(17) + angles, y + at, width, 1);
    }
  }
}

/** Copies new keys and values to their slots in the ring. Each is copied by the thread that will read it there. */
function updateCache(keys: usize, values: usize, rowValues: i32): void {
  const capacity = argument(14);
  const row = (<usize>rowValues) << 2;
  for (let b = 0; b < batch; b++) {
    const position = load<i32>(pointer(15) + ((<usize>b) << 2));
    if (position < 0) continue;
    const place = position % capacity;
    const blocks = (min(position + 1, capacity) + 7) >> 3;
    if (place < first(blocks) << 3 || place >= last(blocks) << 3) continue;
    const at = (<usize>b * <usize>capacity + <usize>place) * row;
    memory.copy(pointer(12) + at, keys + <usize>b * row, row);
    memory.copy(pointer(13) + at, values + <usize>b * row, row);
  }
}

/**
 * DECODER_BLOCK: x, y, batch, hidden width, gate width, query heads, key heads, head width, epsilon, scale, soft cap
 * (0: none), window, cached keys, cached values, capacity, positions, cos, sin, rows of these (1 or batch), then scales
 * of norms, 0 for none: post attention, pre feed-forward, post feed-forward, query, key; then the dense kernels: query,
 * key, value, output, gate, up, down; then workspace and the scale of the norm before attention.
 */
export function decoderBlock(): void {
  const x = pointer(0);
  batch = argument(2);
  const hidden = argument(3);
  const gateWidth = argument(4);
  const heads = argument(5);
  const keyHeads = argument(6);
  const width = argument(7);
  epsilon = floatArgument(8);
  const queryRows = heads * width;
  const keyRows = keyHeads * width;

  free = pointer(WORKSPACE);
  const q = take(batch * queryRows);
  const k = take(batch * keyRows);
  const v = take(batch * keyRows);
  const partials = take(threads * batch * heads * (width + 2));
  const projected = take(batch * hidden);
  const gate = take(batch * gateWidth);
  const up = take(batch * gateWidth);
  // The following parts are private to each thread.
  const own = batch * (2 * hidden + queryRows + keyRows);
  free += <usize>thread * (((<usize>own) << 2) + 256);
  const residual = take(batch * hidden);
  const normed = take(batch * hidden);
  const heads1 = take(batch * queryRows);
  const newKeys = take(batch * keyRows);

  normRows(x, pointer(WORKSPACE + 1), 0, normed, hidden);
  denseShares(normed, hidden, q, queryRows, k, v, keyRows);
  barrier();

  prepareHeads(q, pointer(22), heads1, heads, width);
  prepareHeads(k, pointer(23), newKeys, keyHeads, width);
  updateCache(newKeys, v, keyRows);
  setRing(
    heads1,
    pointer(12),
    pointer(13),
    heads,
    keyHeads,
    argument(14),
    width,
    floatArgument(9),
    floatArgument(10),
    argument(11),
    pointer(15),
  );
  attendPart(batch, partials);
  barrier();

  mergeParts(batch, partials, 0, batch * heads, heads1);
  denseShare(OUTPUT, heads1, queryRows, projected, hidden);
  barrier();

  normRows(projected, pointer(19), x, residual, hidden);
  normRows(residual, pointer(20), 0, normed, hidden);
  denseShare(GATE, normed, hidden, gate, gateWidth);
  denseShare(UP, normed, hidden, up, gateWidth);
  gateShare(gate, up, gateWidth);
  barrier();

  denseShare(DOWN, gate, gateWidth, projected, hidden);
  barrier();

  if (thread == 0) normRows(projected, pointer(21), residual, pointer(1), hidden);
}

/** gate = gelu(gate) · up, in the columns that this thread has computed. */
function gateShare(gate: usize, up: usize, columns: i32): void {
  const groups = (columns + 7) >> 3;
  const begin = first(groups) << 3;
  const count = min(columns, last(groups) << 3) - begin;
  for (let b = 0; b < batch; b++) {
    const at = (<usize>(b * columns + begin)) << 2;
    gateRow(gate + at, up + at, gate + at, count);
  }
}
