/**
 * Runs one token per row through a whole decoder block, with keys and values in a ring. Every thread computes the short
 * steps (norms, residuals, rotary positions) for itself, so that only products and attention need a barrier after them.
 */
import {PARTIAL_HEADER} from '../layouts/attention';
import {FusedBlockWord, DenseWord, OWN_PARTS, PART_ALIGNMENT} from '../layouts/fused_block';
import {attendPart, mergeParts, setRing} from './attention';
import {gateRow} from './gelu';
import {product} from './mat_mul';
import {normRow} from './norms';
import {rotateRow} from './rotary';
import {argument, barrier, first, floatArgument, last, pointer, thread, threads} from '../parts/threads';

let batch: i32 = 0;
let epsilon: f32 = 0;
/** The next free byte of the workspace. */
let free: usize = 0;

/** Allocates a part of the workspace. */
function take(values: i32): usize {
  const at = free;
  free += (((<usize>values) << 2) + PART_ALIGNMENT - 1) & -PART_ALIGNMENT;
  return at;
}

/** y (batch, rows) = x (batch, columns) · Wᵀ for rows n0 … n1 − 1 of W. The words of W begin at argument `kernel`. */
function dense(kernel: i32, x: usize, columns: i32, y: usize, rows: i32, n0: i32, n1: i32): void {
  const yStep = (<usize>rows) << 2;
  product(
    argument(kernel + DenseWord.type),
    pointer(kernel + DenseWord.w),
    argument(kernel + DenseWord.inner),
    x,
    batch,
    y,
    yStep,
    rows,
    columns,
    n0,
    min(n1, rows),
  );
}

/** This thread's rows of a product. */
function denseShare(kernel: i32, x: usize, columns: i32, y: usize, rows: i32): void {
  const groups = (rows + 7) >> 3;
  dense(kernel, x, columns, y, rows, first(groups) << 3, last(groups) << 3);
}

/** This thread's rows of the query, key and value products, which the threads divide among them as one product. */
function denseShares(x: usize, columns: i32, q: usize, queryRows: i32, k: usize, v: usize, keyRows: i32): void {
  const queryGroups = (queryRows + 7) >> 3;
  const keyGroups = (keyRows + 7) >> 3;
  const total = queryGroups + 2 * keyGroups;
  const begin = first(total);
  const end = last(total);
  dense(FusedBlockWord.query, x, columns, q, queryRows, begin << 3, min(end, queryGroups) << 3);
  let base = queryGroups;
  dense(FusedBlockWord.key, x, columns, k, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
  base += keyGroups;
  dense(FusedBlockWord.value, x, columns, v, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
}

/** y = [residual +] norm(x). There is no norm if `scale` is 0. */
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
  const shared = argument(FusedBlockWord.tableRows) == 1;
  for (let b = 0; b < batch; b++) {
    const angles = shared ? <usize>0 : <usize>b * (row >> 1);
    for (let head = 0; head < heads; head++) {
      const at = <usize>(b * heads + head) * row;
      let from = x + at;
      if (norm != 0) {
        normRow(from, norm, 0, y + at, width, epsilon);
        from = y + at;
      }
      rotateRow(from, pointer(FusedBlockWord.cos) + angles, pointer(FusedBlockWord.sin) + angles, y + at, width, 1);
    }
  }
}

/** Copies new keys and values to their slots in the ring. Each is copied by the thread that will read it there. */
function updateCache(keys: usize, values: usize, rowValues: i32): void {
  const capacity = argument(FusedBlockWord.capacity);
  const row = (<usize>rowValues) << 2;
  for (let b = 0; b < batch; b++) {
    const position = load<i32>(pointer(FusedBlockWord.positions) + ((<usize>b) << 2));
    if (position < 0) continue;
    const place = position % capacity;
    const blocks = (min(position + 1, capacity) + 7) >> 3;
    if (place < first(blocks) << 3 || place >= last(blocks) << 3) continue;
    const at = (<usize>b * <usize>capacity + <usize>place) * row;
    memory.copy(pointer(FusedBlockWord.cachedKeys) + at, keys + <usize>b * row, row);
    memory.copy(pointer(FusedBlockWord.cachedValues) + at, values + <usize>b * row, row);
  }
}

/** FUSED_BLOCK: `Gemma3DecoderBlock`, causal, for one token per row. Adds the token's key and value to the cache. */
export function fusedBlock(): void {
  const x = pointer(FusedBlockWord.x);
  batch = argument(FusedBlockWord.batch);
  const hidden = argument(FusedBlockWord.hiddenDim);
  const gateWidth = argument(FusedBlockWord.gateDim);
  const heads = argument(FusedBlockWord.numQueryHeads);
  const keyHeads = argument(FusedBlockWord.numKeyValueHeads);
  const width = argument(FusedBlockWord.headDim);
  epsilon = floatArgument(FusedBlockWord.epsilon);
  const queryRows = heads * width;
  const keyRows = keyHeads * width;

  free = pointer(FusedBlockWord.workspace);
  const q = take(batch * queryRows);
  const k = take(batch * keyRows);
  const v = take(batch * keyRows);
  const partials = take(threads * batch * heads * (width + PARTIAL_HEADER));
  const projected = take(batch * hidden);
  const gate = take(batch * gateWidth);
  const up = take(batch * gateWidth);
  // The following parts are private to each thread.
  const own = batch * (2 * hidden + queryRows + keyRows);
  free += <usize>thread * (((<usize>own) << 2) + OWN_PARTS * PART_ALIGNMENT);
  const residual = take(batch * hidden);
  const normed = take(batch * hidden);
  const heads1 = take(batch * queryRows);
  const newKeys = take(batch * keyRows);

  normRows(x, pointer(FusedBlockWord.preAttentionNorm), 0, normed, hidden);
  denseShares(normed, hidden, q, queryRows, k, v, keyRows);
  barrier();

  prepareHeads(q, pointer(FusedBlockWord.queryNorm), heads1, heads, width);
  prepareHeads(k, pointer(FusedBlockWord.keyNorm), newKeys, keyHeads, width);
  updateCache(newKeys, v, keyRows);
  setRing(
    heads1,
    pointer(FusedBlockWord.cachedKeys),
    pointer(FusedBlockWord.cachedValues),
    heads,
    keyHeads,
    argument(FusedBlockWord.capacity),
    width,
    floatArgument(FusedBlockWord.scale),
    floatArgument(FusedBlockWord.logitSoftCap),
    argument(FusedBlockWord.window),
    pointer(FusedBlockWord.positions),
  );
  attendPart(batch, partials);
  barrier();

  mergeParts(batch, partials, 0, batch * heads, heads1);
  denseShare(FusedBlockWord.output, heads1, queryRows, projected, hidden);
  barrier();

  normRows(projected, pointer(FusedBlockWord.postAttentionNorm), x, residual, hidden);
  normRows(residual, pointer(FusedBlockWord.preFfwNorm), 0, normed, hidden);
  denseShare(FusedBlockWord.gate, normed, hidden, gate, gateWidth);
  denseShare(FusedBlockWord.up, normed, hidden, up, gateWidth);
  gateShare(gate, up, gateWidth);
  barrier();

  denseShare(FusedBlockWord.down, gate, gateWidth, projected, hidden);
  barrier();

  if (thread == 0)
    normRows(projected, pointer(FusedBlockWord.postFfwNorm), residual, pointer(FusedBlockWord.y), hidden);
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
