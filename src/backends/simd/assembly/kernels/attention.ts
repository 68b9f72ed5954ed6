/**
 * Grouped-query attention, one block of keys at a time with a running maximum (https://arxiv.org/abs/2205.14135).
 * Scores and weighted sums are matrix products on panels, and memory does not grow with the number of keys. Blocks that
 * no query of the tile sees are skipped.
 */
import {AttentionWord, PARTIAL_HEADER} from '../layouts/attention';
import {dotKeys} from '../parts/dot_keys';
import {copyFloatColumns, transposeFloatRows} from '../parts/panel';
import {argument, barrier, first, floatArgument, last, pointer, scratch, thread, threads} from '../parts/threads';
import {interleavedBytes, interleaveRows, tiles} from '../parts/tile';
import {addScaledRow, exp4, fma, maxOf, scaleRow, sumOf, tanh4, zero} from '../parts/vector';
import {keysInUse, findVisible, setRingVisibility, setVisibility} from '../parts/visibility';

/** Below every real score. */
const NOTHING: f32 = -1e30;
/** The most rows of queries, and keys per block. Both must fit in the scratch memory together with their products. */
const MOST_ROWS = 64;
/** The most numbers that a block's keys, values, queries and sums may have together. */
const SCRATCH_VALUES = 100000;
/** Up to this many rows of queries read keys and values in place: panels would not be used often enough to pay off. */
const FEW = 4;

// Arguments of the command: set once, read below. Tensors are (batch, length, heads, width).
let q: usize = 0;
let keys: usize = 0;
let values: usize = 0;
let length: i32 = 1;
let heads: i32 = 1;
let keyHeads: i32 = 1;
let size: i32 = 0;
let width: i32 = 0;
let scale: f32 = 1;
let softCap: f32 = 0;

// The parts of the scratch memory, for `most` rows or keys each.
let most: i32 = 0;
let paddedWidth: i32 = 0;
let interleavedQueries: usize = 0;
let keyPanels: usize = 0;
let valuePanels: usize = 0;
let sums: usize = 0;
let scores: usize = 0;
let interleavedScores: usize = 0;
let seen: usize = 0;
let maxima: usize = 0;
let totals: usize = 0;

function divideScratch(): void {
  paddedWidth = (width + 7) & ~7;
  most = MOST_ROWS;
  while (most > 8 && 4 * most * paddedWidth > SCRATCH_VALUES) most >>= 1;
  const block = (<usize>(most * paddedWidth)) << 2;
  const square = (<usize>(most * most)) << 2;
  interleavedQueries = scratch();
  keyPanels = interleavedQueries + interleavedBytes(most, paddedWidth);
  valuePanels = keyPanels + block;
  sums = valuePanels + block;
  scores = sums + block;
  interleavedScores = scores + square;
  seen = interleavedScores + interleavedBytes(most, most);
  maxima = seen + square;
  totals = maxima + ((<usize>most) << 2);
}

/**
 * Sets the arguments for keys in a ring of `size` slots and one new token per row. `positions` holds the position of
 * each token, negative for a row without one.
 */
export function setRing(
  q_: usize,
  keys_: usize,
  values_: usize,
  heads_: i32,
  keyHeads_: i32,
  size_: i32,
  width_: i32,
  scale_: f32,
  softCap_: f32,
  window: i32,
  positions: usize,
): void {
  q = q_;
  keys = keys_;
  values = values_;
  length = 1;
  heads = heads_;
  keyHeads = keyHeads_;
  size = size_;
  width = width_;
  scale = scale_;
  softCap = softCap_;
  setRingVisibility(size, window, positions);
  divideScratch();
}

/**
 * Attends over keys begin … end − 1 with query heads head … head + count − 1 of `tokens` tokens. The heads share one
 * key head. Row t · count + i of `sums` becomes the sum of values weighted by e^(score − maximum), and the same row of
 * `totals` becomes the sum of the weights.
 */
function attend(batch: i32, token: i32, tokens: i32, head: i32, count: i32, begin: i32, end: i32): void {
  const rows = tokens * count;
  const step = (<usize>(keyHeads * width)) << 2;
  const keyHead = head / (heads / keyHeads);
  loadQueries(batch, token, tokens, head, count);
  for (let key = begin; key < end; key += most) {
    const some = min(most, end - key);
    if (!findVisible(seen, most, batch, token, tokens, key, some)) continue;
    const offset = <usize>((batch * size + key) * keyHeads + keyHead) * ((<usize>width) << 2);
    score(rows, keys + offset, step, some);
    weigh(rows, count);
    if (rows <= FEW) {
      sumFewValues(rows, values + offset, step, some);
    } else {
      interleaveRows(scores, (<usize>most) << 2, rows, some, interleavedScores);
      sumValues(rows, values + offset, step, some);
    }
  }
}

function loadQueries(batch: i32, token: i32, tokens: i32, head: i32, count: i32): void {
  const row = (<usize>width) << 2;
  const rows = tokens * count;
  let to = rows > FEW ? sums : interleavedQueries;
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < count; i++, to += row) {
      const from = q + <usize>((batch * length + token + t) * heads + head + i) * row;
      scaleRow(from, f32x4.splat(scale), to, width);
    }
  }
  if (rows > FEW) interleaveRows(sums, row, rows, width, interleavedQueries);
  memory.fill(sums, 0, (<usize>(rows * paddedWidth)) << 2);
  for (let r = 0; r < rows; r++) {
    store<f32>(maxima + ((<usize>r) << 2), NOTHING);
    store<f32>(totals + ((<usize>r) << 2), 0);
  }
}

function score(rows: i32, from: usize, step: usize, count: i32): void {
  if (rows <= FEW) {
    dotKeys(interleavedQueries, rows, width, from, step, count, scores, (<usize>most) << 2);
    return;
  }
  const panelBytes = (<usize>width) << 5;
  let panel = keyPanels;
  for (let key = 0; key < count; key += 8, panel += panelBytes) {
    transposeFloatRows(panel, from + <usize>key * step, step, min(8, count - key), width);
  }
  tiles(
    interleavedQueries,
    keyPanels,
    panelBytes,
    32,
    width,
    scores,
    (<usize>most) << 2,
    rows,
    (count + 7) & ~7,
    false,
  );
}

/** Turns scores into weights, and rescales the previous sums to the new maximum. */
function weigh(rows: i32, count: i32): void {
  const bytes = (<usize>most) << 2;
  const nothing = f32x4.splat(NOTHING);
  const cap = f32x4.splat(softCap);
  for (let r = 0; r < rows; r++) {
    const row = scores + <usize>r * bytes;
    const visible = seen + <usize>(r / count) * bytes;
    const before = load<f32>(maxima + ((<usize>r) << 2));
    let largest = f32x4.splat(before);
    for (let at: usize = 0; at < bytes; at += 16) {
      let v = v128.load(row + at);
      if (softCap != 0) v = f32x4.mul(tanh4(f32x4.div(v, cap)), cap);
      v = v128.bitselect(v, nothing, v128.load(visible + at));
      v128.store(row + at, v);
      largest = f32x4.pmax(largest, v);
    }
    const maximum = maxOf(largest);
    const maximum4 = f32x4.splat(maximum);
    let total = zero();
    for (let at: usize = 0; at < bytes; at += 16) {
      const v = v128.and(exp4(f32x4.sub(v128.load(row + at), maximum4)), v128.load(visible + at));
      v128.store(row + at, v);
      total = f32x4.add(total, v);
    }
    const old = load<f32>(totals + ((<usize>r) << 2));
    if (maximum == before) {
      store<f32>(totals + ((<usize>r) << 2), old + sumOf(total));
      continue;
    }
    const factor = exp4(f32x4.splat(before - maximum));
    store<f32>(maxima + ((<usize>r) << 2), maximum);
    store<f32>(totals + ((<usize>r) << 2), old * f32x4.extract_lane(factor, 0) + sumOf(total));
    const sum = sums + ((<usize>(r * paddedWidth)) << 2);
    scaleRow(sum, factor, sum, paddedWidth);
  }
}

function sumValues(rows: i32, from: usize, step: usize, count: i32): void {
  const rowBytes = (<usize>paddedWidth) << 2;
  const panelBytes = (<usize>count) << 5;
  let panel = valuePanels;
  for (let h = 0; h < width; h += 8, from += 32, panel += panelBytes) {
    if (h + 8 <= width) copyFloatColumns(panel, from, step, count);
    else copyLastColumns(panel, from, step, count, width - h);
  }
  tiles(interleavedScores, valuePanels, panelBytes, 32, count, sums, rowBytes, rows, paddedWidth, true);
}

/** Sums values in place, four keys at a time: each row of values is read once, in order. */
function sumFewValues(rows: i32, from: usize, step: usize, count: i32): void {
  const rowBytes = (<usize>paddedWidth) << 2;
  const bytes = (<usize>most) << 2;
  for (let key = 0; key < count; key += 4, from += 4 * step) {
    // Missing keys have zero weights and use the values of the first key.
    const second = key + 1 < count ? step : 0;
    const third = key + 2 < count ? 2 * step : 0;
    const fourth = key + 3 < count ? 3 * step : 0;
    const at = scores + ((<usize>key) << 2);
    // If the number of rows is odd, the second row of the last pair is never read.
    for (let r = 0; r < rows; r += 2) {
      const a = at + <usize>r * bytes;
      const to = sums + <usize>r * rowBytes;
      addFourValues(from, from + second, from + third, from + fourth, a, a + bytes, to, to + rowBytes);
    }
  }
}

/** Adds four rows of values to two rows of sums, y with weights a and z with weights b. */
function addFourValues(v0: usize, v1: usize, v2: usize, v3: usize, a: usize, b: usize, y: usize, z: usize): void {
  const a0 = v128.load32_splat(a);
  const a1 = v128.load32_splat(a, 4);
  const a2 = v128.load32_splat(a, 8);
  const a3 = v128.load32_splat(a, 12);
  const b0 = v128.load32_splat(b);
  const b1 = v128.load32_splat(b, 4);
  const b2 = v128.load32_splat(b, 8);
  const b3 = v128.load32_splat(b, 12);
  const end = (<usize>(width & ~3)) << 2;
  let at: usize = 0;
  for (; at < end; at += 16) {
    let v = v128.load(v0 + at);
    let s = fma(v, a0, v128.load(y + at));
    let t = fma(v, b0, v128.load(z + at));
    v = v128.load(v1 + at);
    s = fma(v, a1, s);
    t = fma(v, b1, t);
    v = v128.load(v2 + at);
    s = fma(v, a2, s);
    t = fma(v, b2, t);
    v = v128.load(v3 + at);
    v128.store(y + at, fma(v, a3, s));
    v128.store(z + at, fma(v, b3, t));
  }
  for (const all = (<usize>width) << 2; at < all; at += 4) {
    const s = load<f32>(v0 + at) * load<f32>(a) + load<f32>(v1 + at) * load<f32>(a, 4);
    const t = load<f32>(v0 + at) * load<f32>(b) + load<f32>(v1 + at) * load<f32>(b, 4);
    const u = load<f32>(v2 + at) * load<f32>(a, 8) + load<f32>(v3 + at) * load<f32>(a, 12);
    const w = load<f32>(v2 + at) * load<f32>(b, 8) + load<f32>(v3 + at) * load<f32>(b, 12);
    store<f32>(y + at, load<f32>(y + at) + (s + u));
    store<f32>(z + at, load<f32>(z + at) + (t + w));
  }
}

function copyLastColumns(to: usize, from: usize, step: usize, count: i32, columns: i32): void {
  for (; count > 0; count--, from += step, to += 32) {
    for (let i = 0; i < 8; i++)
      store<f32>(to + ((<usize>i) << 2), i < columns ? load<f32>(from + ((<usize>i) << 2)) : 0);
  }
}

/** Writes rows of `sums`, divided by their totals, to the outputs of their queries. */
function writeRows(y: usize, batch: i32, token: i32, tokens: i32, head: i32, count: i32): void {
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < count; i++) {
      const r = t * count + i;
      const total = load<f32>(totals + ((<usize>r) << 2));
      // A row that sees no key is zero.
      const factor: f32 = total > 0 ? <f32>1 / total : 0;
      const from = sums + ((<usize>(r * paddedWidth)) << 2);
      const to = y + <usize>((batch * length + token + t) * heads + head + i) * ((<usize>width) << 2);
      scaleRow(from, f32x4.splat(factor), to, width);
    }
  }
}

/** Bytes of a thread's partial result for one query head: maximum, total, sums. */
function partialBytes(): usize {
  return (<usize>(width + PARTIAL_HEADER)) << 2;
}

/** Attends over this thread's part of the keys for every query (batch, 1, heads, width). Writes to `partials`. */
export function attendPart(batch: i32, partials: usize): void {
  const groups = heads / keyHeads;
  const mine = partials + <usize>(thread * batch * heads) * partialBytes();
  for (let b = 0; b < batch; b++) {
    const used = keysInUse(b);
    const blocks = (used + 7) >> 3;
    const begin = first(blocks) << 3;
    const end = min(used, last(blocks) << 3);
    for (let head = 0; head < heads;) {
      // As many heads as fit, all with the same key head.
      const count = min(most, groups - (head % groups));
      attend(b, 0, 1, head, count, begin, end);
      for (let i = 0; i < count; i++) {
        const to = mine + <usize>(b * heads + head + i) * partialBytes();
        store<f32>(to, load<f32>(maxima + ((<usize>i) << 2)));
        store<f32>(to, load<f32>(totals + ((<usize>i) << 2)), 4);
        memory.copy(to + 8, sums + ((<usize>(i * paddedWidth)) << 2), (<usize>width) << 2);
      }
      head += count;
    }
  }
}

/** Merges the partial results of all threads for heads begin … end − 1, counted over the batch. */
export function mergeParts(batch: i32, partials: usize, begin: i32, end: i32, y: usize): void {
  const step = <usize>(batch * heads) * partialBytes();
  for (let row = begin; row < end; row++) {
    const parts = partials + <usize>row * partialBytes();
    let maximum = NOTHING;
    for (let t = 0; t < threads; t++) maximum = max(maximum, load<f32>(parts + <usize>t * step));
    let total: f32 = 0;
    const to = y + <usize>row * ((<usize>width) << 2);
    memory.fill(to, 0, (<usize>width) << 2);
    for (let t = 0; t < threads; t++) {
      const part = parts + <usize>t * step;
      const factor = exp4(f32x4.splat(load<f32>(part) - maximum));
      total += f32x4.extract_lane(factor, 0) * load<f32>(part, 4);
      addScaledRow(part + 8, factor, to, width);
    }
    scaleRow(to, f32x4.splat(total > 0 ? <f32>1 / total : 0), to, width);
  }
}

/** ATTENTION: see `src/ops/attention.ts`. */
export function attention(): void {
  const batch = argument(AttentionWord.batch);
  q = pointer(AttentionWord.q);
  keys = pointer(AttentionWord.k);
  values = pointer(AttentionWord.v);
  const y = pointer(AttentionWord.y);
  length = argument(AttentionWord.length);
  heads = argument(AttentionWord.heads);
  size = argument(AttentionWord.size);
  keyHeads = argument(AttentionWord.keyHeads);
  width = argument(AttentionWord.width);
  scale = floatArgument(AttentionWord.scale);
  softCap = floatArgument(AttentionWord.logitSoftCap);
  setVisibility(AttentionWord.visibility, length, size);
  divideScratch();
  if (length == 1 && pointer(AttentionWord.partials) != 0) {
    attendPart(batch, pointer(AttentionWord.partials));
    barrier();
    const rows = batch * heads;
    mergeParts(batch, pointer(AttentionWord.partials), first(rows), last(rows), y);
  } else {
    attendTokens(batch, y);
  }
}

/** Attends over all keys with tiles of tokens. Threads take tiles in turn, because later tokens see more keys. */
function attendTokens(batch: i32, y: usize): void {
  const groups = heads / keyHeads;
  const count = min(groups, most);
  const chunks = (groups + count - 1) / count;
  const tokens = most / count;
  const blocks = (length + tokens - 1) / tokens;
  const units = batch * keyHeads * chunks * blocks;
  for (let unit = thread; unit < units; unit += threads) {
    const token = (unit % blocks) * tokens;
    const rest = unit / blocks;
    const chunk = rest % chunks;
    const head = ((rest / chunks) % keyHeads) * groups + chunk * count;
    const b = rest / chunks / keyHeads;
    const someTokens = min(tokens, length - token);
    const someHeads = min(count, groups - chunk * count);
    attend(b, token, someTokens, head, someHeads, 0, size);
    writeRows(y, b, token, someTokens, head, someHeads);
  }
}
