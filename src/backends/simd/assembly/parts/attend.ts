/**
 * Attention of some queries over a run of keys, one block of keys at a time with a running maximum
 * (https://arxiv.org/abs/2205.14135). Scores and weighted sums are matrix products on panels, and memory does not grow
 * with the number of keys. Blocks that no query of the tile sees are skipped.
 */
import {BFLOAT16} from '../numbers';
import {fourOf, oneOf} from './bfloat16';
import {dotKeys} from './dot_keys';
import {copyColumns, copySomeColumns, setHalves, transposeSomeRows} from './panel';
import {scratch} from './threads';
import {interleavedBytes, interleaveRows, tiles} from './tile';
import {exp4, fma, scaleRow, tanh4} from './vector';
import {endOfVisible, findVisible, firstVisible, seesAll} from './visibility';
import {largestOf, weighRow} from './weigh';

/** Below every real score. */
export const NOTHING: f32 = -1e30;
/** The most keys per block. They must fit in the scratch memory together with queries and their products. */
export const MOST_KEYS = 64;
/** Rows of queries for each key of a block: the more, the more products for each panel of keys and values. */
const ROWS_PER_KEY = 2;
/** The most numbers that a block's keys, values, queries and sums may have together. */
const SCRATCH_VALUES = 200000;
/**
 * Up to this many rows of queries in a command read keys and values in place: panels would not be used often enough to
 * pay off.
 */
const FEW = 4;
let few: bool = false;

// Set once per command. Tensors are (batch, length, heads, width).
let q: usize = 0;
export let keys: usize = 0;
export let values: usize = 0;
export let length: i32 = 1;
export let heads: i32 = 1;
export let keyHeads: i32 = 1;
export let size: i32 = 0;
export let width: i32 = 0;
/** Whether keys and values are bfloat16, and the bytes of one: 1 << keyShift. */
export let halves: bool = false;
export let keyShift: usize = 2;
let scale: f32 = 1;
let softCap: f32 = 0;

// The parts of the scratch memory, for `most` keys and `mostRows` rows of queries.
let most: i32 = 0;
export let mostRows: i32 = 0;
export let paddedWidth: i32 = 0;
let interleavedQueries: usize = 0;
let keyPanels: usize = 0;
let valuePanels: usize = 0;
export let sums: usize = 0;
let scores: usize = 0;
let interleavedScores: usize = 0;
let seen: usize = 0;
export let maxima: usize = 0;
export let totals: usize = 0;

function divideScratch(): void {
  paddedWidth = (width + 7) & ~7;
  most = MOST_KEYS;
  while (most > 8 && (2 + 2 * ROWS_PER_KEY) * most * paddedWidth > SCRATCH_VALUES) most >>= 1;
  mostRows = ROWS_PER_KEY * most;
  const block = (<usize>(most * paddedWidth)) << 2;
  const square = (<usize>(mostRows * most)) << 2;
  interleavedQueries = scratch();
  keyPanels = interleavedQueries + interleavedBytes(mostRows, paddedWidth);
  valuePanels = keyPanels + block;
  sums = valuePanels + block;
  scores = sums + ROWS_PER_KEY * block;
  interleavedScores = scores + square;
  seen = interleavedScores + interleavedBytes(mostRows, most);
  maxima = seen + square;
  totals = maxima + ((<usize>mostRows) << 2);
}

/** Sets the tensors and numbers of a command, and divides the scratch memory. Keys and values are of type `type`. */
export function setAttention(
  q_: usize,
  keys_: usize,
  values_: usize,
  length_: i32,
  heads_: i32,
  size_: i32,
  keyHeads_: i32,
  width_: i32,
  scale_: f32,
  softCap_: f32,
  type: i32,
): void {
  halves = type == BFLOAT16;
  keyShift = halves ? 1 : 2;
  q = q_;
  keys = keys_;
  values = values_;
  length = length_;
  heads = heads_;
  size = size_;
  keyHeads = keyHeads_;
  width = width_;
  scale = scale_;
  softCap = softCap_;
  divideScratch();
}

/**
 * Attends over keys begin … end − 1 with query heads head … head + count − 1 of `tokens` tokens. The heads share one
 * key head. Row t · count + i of `sums` becomes the sum of values weighted by e^(score − maximum), and the same row of
 * `totals` becomes the sum of the weights.
 */
export function attend(batch: i32, token: i32, tokens: i32, head: i32, count: i32, begin: i32, end: i32): void {
  const rows = tokens * count;
  few = length * count <= FEW;
  const step = (<usize>(keyHeads * width)) << keyShift;
  const keyHead = head / (heads / keyHeads);
  loadQueries(batch, token, tokens, head, count);
  setHalves(halves);
  for (let key = begin; key < end; key += most) {
    let some = min(most, end - key);
    const all = some == most && seesAll(batch, token, tokens, key, some);
    if (all) memory.fill(seen, 0xff, (<usize>most) << 2);
    else if (!findVisible(seen, most, batch, token, tokens, key, some)) continue;
    let first = 0;
    if (!few && !all) {
      // The weights of all others are zero.
      first = firstVisible(seen, most, tokens);
      some = endOfVisible(seen, most, tokens, some) - first;
    }
    const offset = <usize>((batch * size + key + first) * keyHeads + keyHead) * ((<usize>width) << keyShift);
    score(rows, keys + offset, step, some);
    weigh(rows, count, some, seen + ((<usize>first) << 2), all ? 0 : (<usize>most) << 2);
    if (few) {
      if (halves) sumFewValues<u16>(rows, values + offset, step, some);
      else sumFewValues<f32>(rows, values + offset, step, some);
    } else {
      interleaveRows(scores, (<usize>most) << 2, rows, some, interleavedScores);
      sumValues(rows, values + offset, step, some);
    }
  }
}

function loadQueries(batch: i32, token: i32, tokens: i32, head: i32, count: i32): void {
  const row = (<usize>width) << 2;
  const rows = tokens * count;
  let to = !few ? sums : interleavedQueries;
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < count; i++, to += row) {
      const from = q + <usize>((batch * length + token + t) * heads + head + i) * row;
      scaleRow(from, f32x4.splat(scale), to, width);
    }
  }
  if (!few) interleaveRows(sums, row, rows, width, interleavedQueries);
  memory.fill(sums, 0, (<usize>(rows * paddedWidth)) << 2);
  for (let r = 0; r < rows; r++) {
    store<f32>(maxima + ((<usize>r) << 2), NOTHING);
    store<f32>(totals + ((<usize>r) << 2), 0);
  }
}

function score(rows: i32, from: usize, step: usize, count: i32): void {
  if (few) {
    const scoreStep = (<usize>most) << 2;
    if (halves) dotKeys<u16>(interleavedQueries, rows, width, from, step, count, scores, scoreStep);
    else dotKeys<f32>(interleavedQueries, rows, width, from, step, count, scores, scoreStep);
    return;
  }
  const panelBytes = (<usize>width) << 5;
  let panel = keyPanels;
  for (let key = 0; key < count; key += 8, panel += panelBytes) {
    transposeSomeRows(panel, from + <usize>key * step, step, min(8, count - key), width);
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

/**
 * Turns scores of some keys into weights, and rescales the previous sums to the new maximum. `seen` has a row of words
 * for each token, `seenStep` bytes apart; if that is 0, all keys are visible.
 */
function weigh(rows: i32, count: i32, some: i32, seen: usize, seenStep: usize): void {
  const step = (<usize>most) << 2;
  const bytes = (<usize>((some + 7) & ~7)) << 2;
  for (let r = 0; r < rows; r++) {
    const row = scores + <usize>r * step;
    const visible = seen + <usize>(r / count) * seenStep;
    const before = load<f32>(maxima + ((<usize>r) << 2));
    if (softCap != 0) capRow(row, bytes);
    if (seenStep != 0) hideRow(row, bytes, visible);
    const maximum = largestOf(row, bytes, before);
    const total = weighRow(row, bytes, visible, maximum);
    const old = load<f32>(totals + ((<usize>r) << 2));
    if (maximum == before) {
      store<f32>(totals + ((<usize>r) << 2), old + total);
      continue;
    }
    const factor = exp4(f32x4.splat(before - maximum));
    store<f32>(maxima + ((<usize>r) << 2), maximum);
    store<f32>(totals + ((<usize>r) << 2), old * f32x4.extract_lane(factor, 0) + total);
    const sum = sums + ((<usize>(r * paddedWidth)) << 2);
    scaleRow(sum, factor, sum, paddedWidth);
  }
}

function capRow(row: usize, bytes: usize): void {
  const cap = f32x4.splat(softCap);
  for (const end = row + bytes; row < end; row += 16) {
    v128.store(row, f32x4.mul(tanh4(f32x4.div(v128.load(row), cap)), cap));
  }
}

/** Replaces the scores of keys that are not visible. */
function hideRow(row: usize, bytes: usize, visible: usize): void {
  const nothing = f32x4.splat(NOTHING);
  for (const end = row + bytes; row < end; row += 16, visible += 16) {
    v128.store(row, v128.bitselect(v128.load(row), nothing, v128.load(visible)));
  }
}

function sumValues(rows: i32, from: usize, step: usize, count: i32): void {
  const rowBytes = (<usize>paddedWidth) << 2;
  const panelBytes = (<usize>count) << 5;
  let panel = valuePanels;
  for (let h = 0; h < width; h += 8, from += (<usize>8) << keyShift, panel += panelBytes) {
    if (h + 8 <= width) copyColumns(panel, from, step, count);
    else copySomeColumns(panel, from, step, count, width - h);
  }
  tiles(interleavedScores, valuePanels, panelBytes, 32, count, sums, rowBytes, rows, paddedWidth, true);
}

/** Sums values of type T in place, four keys at a time: each row of values is read once, in order. */
function sumFewValues<T>(rows: i32, from: usize, step: usize, count: i32): void {
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
      addFourValues<T>(from, from + second, from + third, from + fourth, a, a + bytes, to, to + rowBytes);
    }
  }
}

/** Adds four rows of values to two rows of sums, y with weights a and z with weights b. */
function addFourValues<T>(v0: usize, v1: usize, v2: usize, v3: usize, a: usize, b: usize, y: usize, z: usize): void {
  const a0 = v128.load32_splat(a);
  const a1 = v128.load32_splat(a, 4);
  const a2 = v128.load32_splat(a, 8);
  const a3 = v128.load32_splat(a, 12);
  const b0 = v128.load32_splat(b);
  const b1 = v128.load32_splat(b, 4);
  const b2 = v128.load32_splat(b, 8);
  const b3 = v128.load32_splat(b, 12);
  const end = (<usize>(width & ~7)) << 2;
  let at: usize = 0;
  let i: usize = 0;
  // Two vectors side by side: engines with 256-bit vectors merge them (see `tile.ts`).
  for (; at < end; at += 32, i += 8 * sizeof<T>()) {
    let u = fourOf<T>(v0 + i);
    let v = fourOf<T>(v0 + i + 4 * sizeof<T>());
    let s0 = fma(u, a0, v128.load(y + at));
    let s1 = fma(v, a0, v128.load(y + at, 16));
    let t0 = fma(u, b0, v128.load(z + at));
    let t1 = fma(v, b0, v128.load(z + at, 16));
    u = fourOf<T>(v1 + i);
    v = fourOf<T>(v1 + i + 4 * sizeof<T>());
    s0 = fma(u, a1, s0);
    s1 = fma(v, a1, s1);
    t0 = fma(u, b1, t0);
    t1 = fma(v, b1, t1);
    u = fourOf<T>(v2 + i);
    v = fourOf<T>(v2 + i + 4 * sizeof<T>());
    s0 = fma(u, a2, s0);
    s1 = fma(v, a2, s1);
    t0 = fma(u, b2, t0);
    t1 = fma(v, b2, t1);
    u = fourOf<T>(v3 + i);
    v = fourOf<T>(v3 + i + 4 * sizeof<T>());
    v128.store(y + at, fma(v, a3, s1), 16);
    v128.store(y + at, fma(u, a3, s0));
    v128.store(z + at, fma(v, b3, t1), 16);
    v128.store(z + at, fma(u, b3, t0));
  }
  for (const all = (<usize>width) << 2; at < all; at += 4, i += sizeof<T>()) {
    const p = oneOf<T>(v0 + i);
    const q = oneOf<T>(v1 + i);
    const r = oneOf<T>(v2 + i);
    const l = oneOf<T>(v3 + i);
    const s = p * load<f32>(a) + q * load<f32>(a, 4);
    const t = p * load<f32>(b) + q * load<f32>(b, 4);
    const u = r * load<f32>(a, 8) + l * load<f32>(a, 12);
    const w = r * load<f32>(b, 8) + l * load<f32>(b, 12);
    store<f32>(y + at, load<f32>(y + at) + (s + u));
    store<f32>(z + at, load<f32>(z + at) + (t + w));
  }
}

/** Writes rows of `sums`, divided by their totals, to the outputs of their queries. */
export function writeRows(y: usize, batch: i32, token: i32, tokens: i32, head: i32, count: i32): void {
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
