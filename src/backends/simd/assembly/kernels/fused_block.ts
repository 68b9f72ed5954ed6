/**
 * Runs one token per row through whole decoder blocks, with keys and values in rings. Every thread computes the short
 * steps (norms, residuals, rotary positions) for itself, so that only products and attention need a barrier after them.
 */
import {ATTENTION_PARTS, PARTIAL_HEADER} from '../layouts/attention';
import {DenseWord, FusedBlocksWord, FusedBlockWord, OWN_PARTS, PART_ALIGNMENT} from '../layouts/fused_block';
import {ARGUMENTS} from '../numbers';
import {attendParts, mergeParts, setRing} from './attention';
import {groupsPerClaim, product, setRows, weightBytes} from './mat_mul';
import {normRow} from './norms';
import {rotateRow} from './rotary';
import {gateRow} from '../parts/gelu_row';
import {argument, barrier, begin, claim, end, pointer, thread} from '../parts/threads';

/** The words of the block, see `FusedBlockWord`: arguments, or an entry of a table. */
let words: usize = 0;
let batch: i32 = 0;
let epsilon: f32 = 0;
/** The hidden states within a block and after it, (batch, hiddenDim). Each thread has its own. */
let residual: usize = 0;
/** The next free byte of the workspace. */
let free: usize = 0;

function wordOf(index: i32): i32 {
  return load<i32>(words + ((<usize>index) << 2));
}

function pointerOf(index: i32): usize {
  return load<u32>(words + ((<usize>index) << 2));
}

function floatOf(index: i32): f32 {
  return load<f32>(words + ((<usize>index) << 2));
}

/** Allocates a part of the workspace. */
function take(values: i32): usize {
  const at = free;
  free += (((<usize>values) << 2) + PART_ALIGNMENT - 1) & -PART_ALIGNMENT;
  return at;
}

/** Computes rows n0 … n1 − 1 of y (batch, rows) = x · Wᵀ. The words of W begin at word `kernel` of the block. */
function denseRows(kernel: i32, y: usize, rows: i32, n0: i32, n1: i32): void {
  product(
    wordOf(kernel + DenseWord.type),
    pointerOf(kernel + DenseWord.w),
    wordOf(kernel + DenseWord.inner),
    y,
    (<usize>rows) << 2,
    n0,
    min(n1, rows),
  );
}

/** How many of n groups of a kernel to claim at a time, if each has this many bytes. */
function denseChunk(kernel: i32, n: i32, bytes: usize): i32 {
  return groupsPerClaim(n, bytes, wordOf(kernel + DenseWord.type), wordOf(kernel + DenseWord.inner));
}

/** Bytes of eight rows of a kernel. */
function denseBytes(kernel: i32, columns: i32): usize {
  return weightBytes(wordOf(kernel + DenseWord.type), columns);
}

/** y (batch, rows) = x (batch, columns) · Wᵀ */
function dense(kernel: i32, x: usize, columns: i32, y: usize, rows: i32): void {
  const groups = (rows + 7) >> 3;
  setRows(x, batch, columns);
  const chunk = denseChunk(kernel, groups, denseBytes(kernel, columns));
  while (claim(groups, chunk)) denseRows(kernel, y, rows, begin << 3, end << 3);
}

/** The query, key and value products, which the threads share as one product. */
function attentionProducts(x: usize, columns: i32, q: usize, queryRows: i32, k: usize, v: usize, keyRows: i32): void {
  const queryGroups = (queryRows + 7) >> 3;
  const keyGroups = (keyRows + 7) >> 3;
  const groups = queryGroups + 2 * keyGroups;
  setRows(x, batch, columns);
  const chunk = denseChunk(FusedBlockWord.query, groups, denseBytes(FusedBlockWord.query, columns));
  while (claim(groups, chunk)) {
    denseRows(FusedBlockWord.query, q, queryRows, begin << 3, min(end, queryGroups) << 3);
    let base = queryGroups;
    denseRows(FusedBlockWord.key, k, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
    base += keyGroups;
    denseRows(FusedBlockWord.value, v, keyRows, max(0, begin - base) << 3, min(end - base, keyGroups) << 3);
  }
}

/** gate = gelu(x · gate kernel) · (x · up kernel). A thread claims the same columns of both. */
function gatedProducts(x: usize, columns: i32, gate: usize, up: usize, rows: i32): void {
  const groups = (rows + 7) >> 3;
  const bytes = denseBytes(FusedBlockWord.gate, columns) + denseBytes(FusedBlockWord.up, columns);
  setRows(x, batch, columns);
  const chunk = denseChunk(FusedBlockWord.gate, groups, bytes);
  while (claim(groups, chunk)) {
    denseRows(FusedBlockWord.gate, gate, rows, begin << 3, end << 3);
    denseRows(FusedBlockWord.up, up, rows, begin << 3, end << 3);
    const count = min(rows, end << 3) - (begin << 3);
    for (let b = 0; b < batch; b++) {
      const at = (<usize>(b * rows + (begin << 3))) << 2;
      gateRow(gate + at, up + at, gate + at, count);
    }
  }
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
  const shared = wordOf(FusedBlockWord.tableRows) == 1;
  for (let b = 0; b < batch; b++) {
    const angles = shared ? <usize>0 : <usize>b * (row >> 1);
    for (let head = 0; head < heads; head++) {
      const at = <usize>(b * heads + head) * row;
      let from = x + at;
      if (norm != 0) {
        normRow(from, norm, 0, y + at, width, epsilon);
        from = y + at;
      }
      rotateRow(from, pointerOf(FusedBlockWord.cos) + angles, pointerOf(FusedBlockWord.sin) + angles, y + at, width, 1);
    }
  }
}

/** FUSED_BLOCK: `Gemma3DecoderBlock`, causal, for one token per row. Adds the token's key and value to the cache. */
export function fusedBlock(): void {
  words = <usize>ARGUMENTS;
  block();
}

/** FUSED_BLOCKS: the same for blocks in a table, one after another. */
export function fusedBlocks(): void {
  words = pointer(FusedBlocksWord.table);
  for (let count = argument(FusedBlocksWord.count); count > 0; count--) {
    block();
    words += (<usize>FusedBlockWord.end) << 2;
  }
}

/**
 * No barrier is needed between one block and the next: what a block writes before its first barrier, the queries, keys
 * and values, was last read before the last barrier of the previous block.
 */
function block(): void {
  let x = pointerOf(FusedBlockWord.x);
  if (x == 0) x = residual;
  batch = wordOf(FusedBlockWord.batch);
  const hidden = wordOf(FusedBlockWord.hiddenDim);
  const gateWidth = wordOf(FusedBlockWord.gateDim);
  const heads = wordOf(FusedBlockWord.numQueryHeads);
  const keyHeads = wordOf(FusedBlockWord.numKeyValueHeads);
  const width = wordOf(FusedBlockWord.headDim);
  epsilon = floatOf(FusedBlockWord.epsilon);
  const queryRows = heads * width;
  const keyRows = keyHeads * width;

  free = pointerOf(FusedBlockWord.workspace);
  const q = take(batch * queryRows);
  const k = take(batch * keyRows);
  const v = take(batch * keyRows);
  const partials = take(ATTENTION_PARTS * batch * heads * (width + PARTIAL_HEADER));
  const projected = take(batch * hidden);
  const gate = take(batch * gateWidth);
  const up = take(batch * gateWidth);
  // The following parts are private to each thread.
  const own = batch * (2 * hidden + queryRows + keyRows);
  free += <usize>thread * (((<usize>own) << 2) + OWN_PARTS * PART_ALIGNMENT);
  residual = take(batch * hidden);
  const normed = take(batch * hidden);
  const heads1 = take(batch * queryRows);
  const newKeys = take(batch * keyRows);

  normRows(x, pointerOf(FusedBlockWord.preAttentionNorm), 0, normed, hidden);
  attentionProducts(normed, hidden, q, queryRows, k, v, keyRows);
  barrier();

  prepareHeads(q, pointerOf(FusedBlockWord.queryNorm), heads1, heads, width);
  prepareHeads(k, pointerOf(FusedBlockWord.keyNorm), newKeys, keyHeads, width);
  setRing(
    heads1,
    pointerOf(FusedBlockWord.cachedKeys),
    pointerOf(FusedBlockWord.cachedValues),
    heads,
    keyHeads,
    wordOf(FusedBlockWord.capacity),
    width,
    floatOf(FusedBlockWord.scale),
    floatOf(FusedBlockWord.logitSoftCap),
    wordOf(FusedBlockWord.window),
    pointerOf(FusedBlockWord.positions),
    newKeys,
    v,
    wordOf(FusedBlockWord.cacheType),
  );
  attendParts(batch, partials);
  barrier();

  mergeParts(partials, 0, batch * heads, heads1);
  dense(FusedBlockWord.output, heads1, queryRows, projected, hidden);
  barrier();

  normRows(projected, pointerOf(FusedBlockWord.postAttentionNorm), x, residual, hidden);
  normRows(residual, pointerOf(FusedBlockWord.preFfwNorm), 0, normed, hidden);
  gatedProducts(normed, hidden, gate, up, gateWidth);
  barrier();

  dense(FusedBlockWord.down, gate, gateWidth, projected, hidden);
  barrier();

  const y = pointerOf(FusedBlockWord.y);
  if (y == 0) normRows(projected, pointerOf(FusedBlockWord.postFfwNorm), residual, residual, hidden);
  else if (thread == 0) normRows(projected, pointerOf(FusedBlockWord.postFfwNorm), residual, y, hidden);
}
