/**
 * Gradients of attention (https://arxiv.org/abs/2205.14135, algorithm 4). Probabilities are recomputed for one tile of
 * queries and one block of keys at a time, so that memory does not grow with the number of keys. Blocks that no query
 * of the tile sees are skipped. Threads share the tiles of queries for dq, and then the blocks of keys for dk and dv,
 * so that no thread writes to another's sums.
 */
import {AttentionGradientWord, AttentionWord, QUERY_STATISTICS} from '../layouts/attention';
import {EDGE, SCRATCH_BYTES} from '../numbers';
import {setHalves, transposeSomeRows} from '../parts/panel';
import {argument, barrier, begin, claim, end, floatArgument, pointer, scratch} from '../parts/threads';
import {interleaveColumns, interleavedBytes, interleaveRows, tiles} from '../parts/tile';
import {exp4, maxOf, scaleRow, sumOf, tanh4, zero} from '../parts/vector';
import {findVisible, setVisibility} from '../parts/visibility';

/** Where the words that this command shares with ATTENTION begin. */
const SHARED = AttentionGradientWord.attention;

/** Below every real score. */
const NOTHING: f32 = -1e30;
/** Maximum number of query rows, and of keys per block. */
const MOST_ROWS = 64;
/** Extra values between the rows of a block: rows a power of two apart would compete for the same cache lines. */
const GAP = 16;

let length: i32 = 1;
let heads: i32 = 1;
let keyHeads: i32 = 1;
let size: i32 = 0;
let width: i32 = 0;
let softCap: f32 = 0;

// The parts of the scratch memory. Rows are `rowBytes` apart; squares have `most` rows and columns. For a block of
// keys, `sums` holds the sums of dk, and `valueSums` those of dv.
let most: i32 = 0;
let paddedWidth: i32 = 0;
let rowBytes: usize = 0;
let squareBytes: usize = 0;
let queries: usize = 0;
let outputs: usize = 0;
let keys: usize = 0;
let values: usize = 0;
let sums: usize = 0;
let valueSums: usize = 0;
let interleavedQueries: usize = 0;
let interleavedOutputs: usize = 0;
let panel: usize = 0;
let seen: usize = 0;
let interleavedSquare: usize = 0;
/** Per row: its largest score, the inverse sum of its weights, Σ probability · gradient of the probability. */
let rowStatistics: usize = 0;
/**
 * Pairs of squares, for scores and their gradients: as many pairs as fit. The last two variables are the pair in use.
 */
let squares: usize = 0;
let pairs: i32 = 1;
let scores: usize = 0;
let scoreGradients: usize = 0;

function scratchValues(): i32 {
  const interleaved = 2 * interleavedBytes(most, paddedWidth) + interleavedBytes(most, most);
  return most * (6 * (paddedWidth + GAP) + 3 * most + QUERY_STATISTICS) + 16 * paddedWidth + <i32>(interleaved >> 2);
}

function divideScratch(): void {
  paddedWidth = (width + 7) & ~7;
  most = MOST_ROWS;
  while (most > 8 && 4 * scratchValues() > SCRATCH_BYTES - EDGE) most >>= 1;
  rowBytes = (<usize>(paddedWidth + GAP)) << 2;
  squareBytes = (<usize>most) << 2;
  const rows = <usize>most * rowBytes;
  const interleaved = interleavedBytes(most, paddedWidth);
  const square = <usize>most * squareBytes;
  queries = scratch();
  outputs = queries + rows;
  keys = outputs + rows;
  values = keys + rows;
  sums = values + rows;
  valueSums = sums + rows;
  interleavedQueries = valueSums + rows;
  interleavedOutputs = interleavedQueries + interleaved;
  panel = interleavedOutputs + interleaved;
  seen = panel + ((<usize>paddedWidth) << 6);
  interleavedSquare = seen + square;
  rowStatistics = interleavedSquare + interleavedBytes(most, most);
  squares = rowStatistics + <usize>(most * QUERY_STATISTICS) * 4;
  pairs = <i32>((scratch() + SCRATCH_BYTES - EDGE - squares) / (2 * square));
}

function copyRow(to: usize, from: usize, factor: f32): void {
  const bytes = (<usize>width) << 2;
  scaleRow(from, f32x4.splat(factor), to, width);
  for (let at = bytes; at < (<usize>paddedWidth) << 2; at += 4) store<f32>(to + at, 0);
}

/** Loads scaled queries and the gradients of their outputs. Row t · count + i is head i of token t. */
function loadTokens(batch: i32, token: i32, tokens: i32, head: i32, count: i32): void {
  let to: usize = 0;
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < count; i++, to += rowBytes) {
      const at = <usize>((batch * length + token + t) * heads + head + i) * ((<usize>width) << 2);
      copyRow(outputs + to, pointer(AttentionGradientWord.dy) + at, 1);
      copyRow(queries + to, pointer(SHARED + AttentionWord.q) + at, floatArgument(SHARED + AttentionWord.scale));
    }
  }
  interleaveRows(queries, rowBytes, tokens * count, width, interleavedQueries);
  interleaveRows(outputs, rowBytes, tokens * count, width, interleavedOutputs);
}

function usePair(index: i32): void {
  const square = <usize>most * squareBytes;
  scores = squares + <usize>(index % pairs) * 2 * square;
  scoreGradients = scores + square;
}

/** Loads a block of keys or values of one head, padded with zeros. */
function loadBlock(to: usize, from: usize, batch: i32, key: i32, count: i32, keyHead: i32): void {
  for (let s = 0; s < count; s++, to += rowBytes) {
    copyRow(to, from + <usize>((batch * size + key + s) * keyHeads + keyHead) * ((<usize>width) << 2), 1);
  }
  memory.fill(to, 0, <usize>(most - count) * rowBytes);
}

function loadKeys(batch: i32, key: i32, count: i32, keyHead: i32): void {
  loadBlock(keys, pointer(SHARED + AttentionWord.k), batch, key, count, keyHead);
}

function loadValues(batch: i32, key: i32, count: i32, keyHead: i32): void {
  loadBlock(values, pointer(SHARED + AttentionWord.v), batch, key, count, keyHead);
}

/** y[r][s] = row r of x · row s of the block. */
function products(x: usize, rows: i32, block: usize, y: usize): void {
  const panelBytes = (<usize>width) << 5;
  for (let s = 0; s < most; s += 16, block += 16 * rowBytes, y += 64) {
    transposeSomeRows(panel, block, rowBytes, 8, width);
    if (s + 8 < most) transposeSomeRows(panel + panelBytes, block + 8 * rowBytes, rowBytes, 8, width);
    tiles(x, panel, panelBytes, 32, width, y, squareBytes, rows, min(16, most - s), false);
  }
}

/** Scores of rows and keys, and the gradients of their probabilities. */
function score(rows: i32): void {
  products(interleavedQueries, rows, keys, scores);
  if (softCap != 0) {
    const cap = f32x4.splat(softCap);
    for (let at = scores; at < scores + <usize>rows * squareBytes; at += 16) {
      v128.store(at, f32x4.mul(tanh4(f32x4.div(v128.load(at), cap)), cap));
    }
  }
  products(interleavedOutputs, rows, values, scoreGradients);
}

function statisticsOf(row: i32): usize {
  return rowStatistics + <usize>(QUERY_STATISTICS * row) * 4;
}

/** Adds a block to the statistics of each row. The second one is still the sum at this point, not its inverse. */
function addStatistics(rows: i32, group: i32): void {
  const nothing = f32x4.splat(NOTHING);
  for (let r = 0; r < rows; r++) {
    const row = scores + <usize>r * squareBytes;
    const gradient = scoreGradients + <usize>r * squareBytes;
    const visible = seen + <usize>(r / group) * squareBytes;
    const before = load<f32>(statisticsOf(r));
    let largest = f32x4.splat(before);
    for (let at: usize = 0; at < squareBytes; at += 16) {
      largest = f32x4.pmax(largest, v128.bitselect(v128.load(row + at), nothing, v128.load(visible + at)));
    }
    const maximum = maxOf(largest);
    let total = zero();
    let dot = zero();
    for (let at: usize = 0; at < squareBytes; at += 16) {
      const power = f32x4.sub(v128.load(row + at), f32x4.splat(maximum));
      const weight = v128.and(exp4(power), v128.load(visible + at));
      total = f32x4.add(total, weight);
      dot = f32x4.add(dot, f32x4.mul(weight, v128.load(gradient + at)));
    }
    const factor = f32x4.extract_lane(exp4(f32x4.splat(before - maximum)), 0);
    store<f32>(statisticsOf(r), maximum);
    store<f32>(statisticsOf(r), load<f32>(statisticsOf(r), 4) * factor + sumOf(total), 4);
    store<f32>(statisticsOf(r), load<f32>(statisticsOf(r), 8) * factor + sumOf(dot), 8);
  }
}

/** Loads rows and computes their statistics over all keys. Returns how many blocks of keys they see. */
function computeStatistics(batch: i32, token: i32, tokens: i32, head: i32, group: i32): i32 {
  let blocks = 0;
  const rows = tokens * group;
  loadTokens(batch, token, tokens, head, group);
  for (let r = 0; r < rows; r++) {
    store<f32>(statisticsOf(r), NOTHING);
    store<f32>(statisticsOf(r), 0, 4);
    store<f32>(statisticsOf(r), 0, 8);
  }
  for (let key = 0; key < size; key += most) {
    const some = min(most, size - key);
    if (!findVisible(seen, most, batch, token, tokens, key, some)) continue;
    loadKeys(batch, key, some, head / (heads / keyHeads));
    loadValues(batch, key, some, head / (heads / keyHeads));
    usePair(blocks++);
    score(rows);
    addStatistics(rows, group);
  }
  for (let r = 0; r < rows; r++) {
    const total = load<f32>(statisticsOf(r), 4);
    // A row that sees no key has no probabilities.
    const inverse: f32 = total > 0 ? <f32>1 / total : 0;
    store<f32>(statisticsOf(r), inverse, 4);
    store<f32>(statisticsOf(r), load<f32>(statisticsOf(r), 8) * inverse, 8);
  }
  return blocks;
}

/** Turns scores into probabilities, and gradients of probabilities into those of the scores before the soft cap. */
function differentiate(rows: i32, group: i32): void {
  const one = f32x4.splat(1);
  for (let r = 0; r < rows; r++) {
    const row = scores + <usize>r * squareBytes;
    const gradient = scoreGradients + <usize>r * squareBytes;
    const visible = seen + <usize>(r / group) * squareBytes;
    const maximum = f32x4.splat(load<f32>(statisticsOf(r)));
    const inverse = f32x4.splat(load<f32>(statisticsOf(r), 4));
    const dot = f32x4.splat(load<f32>(statisticsOf(r), 8));
    for (let at: usize = 0; at < squareBytes; at += 16) {
      const v = v128.load(row + at);
      const weight = f32x4.mul(exp4(f32x4.sub(v, maximum)), inverse);
      const probability = v128.and(weight, v128.load(visible + at));
      v128.store(row + at, probability);
      let d = f32x4.mul(probability, f32x4.sub(v128.load(gradient + at), dot));
      if (softCap != 0) {
        const capped = f32x4.div(v, f32x4.splat(softCap));
        d = f32x4.mul(d, f32x4.sub(one, f32x4.mul(capped, capped)));
      }
      v128.store(gradient + at, d);
    }
  }
}

/** to[r] += Σ interleavedSquare[i][r] · block[i] over `depth` rows of the block. */
function accumulate(to: usize, rows: i32, block: usize, depth: i32): void {
  tiles(interleavedSquare, block, 32, rowBytes, depth, to, rowBytes, rows, paddedWidth, true);
}

// Tiles of queries: some tokens with all query heads of one key head, or as many heads as fit.
let group: i32 = 1;
let chunks: i32 = 1;
let tokensAtOnce: i32 = 1;
let tokenBlocks: i32 = 1;

function divideQueries(): void {
  const groups = heads / keyHeads;
  group = min(groups, most);
  chunks = (groups + group - 1) / group;
  tokensAtOnce = most / group;
  tokenBlocks = (length + tokensAtOnce - 1) / tokensAtOnce;
}

function firstHead(keyHead: i32, chunk: i32): i32 {
  return keyHead * (heads / keyHeads) + chunk * group;
}

function headsOf(chunk: i32): i32 {
  return min(group, heads / keyHeads - chunk * group);
}

/** Where the statistics of a row are stored for all threads. */
function storedStatistics(batch: i32, token: i32, head: i32): usize {
  return (
    pointer(SHARED + AttentionWord.partials) +
    ((<usize>(((batch * length + token) * heads + head) * QUERY_STATISTICS)) << 2)
  );
}

/** Computes dq and stores the statistics. Later tokens come first: they see more keys. */
function queryTiles(batch: i32): void {
  const units = batch * keyHeads * chunks * tokenBlocks;
  while (claim(units, 1)) {
    for (let unit = begin; unit < end; unit++) queryTile(units - 1 - unit);
  }
}

function queryTile(unit: i32): void {
  const token = (unit % tokenBlocks) * tokensAtOnce;
  const rest = unit / tokenBlocks;
  const chunk = rest % chunks;
  const keyHead = (rest / chunks) % keyHeads;
  const b = rest / chunks / keyHeads;
  const tokens = min(tokensAtOnce, length - token);
  const some = headsOf(chunk);
  const head = firstHead(keyHead, chunk);
  const blocks = computeStatistics(b, token, tokens, head, some);
  queryGradient(b, token, tokens, keyHead, head, some, blocks <= pairs);
  for (let t = 0; t < tokens; t++) {
    memory.copy(storedStatistics(b, token + t, head), statisticsOf(t * some), (<usize>(QUERY_STATISTICS * some)) << 2);
  }
}

/** dq = scale · Σ score gradient · key. `cached`: the squares still hold the scores of all blocks. */
function queryGradient(batch: i32, token: i32, tokens: i32, keyHead: i32, head: i32, some: i32, cached: bool): void {
  const rows = tokens * some;
  let block = 0;
  memory.fill(sums, 0, <usize>rows * rowBytes);
  for (let key = 0; key < size; key += most) {
    const keysHere = min(most, size - key);
    if (!findVisible(seen, most, batch, token, tokens, key, keysHere)) continue;
    loadKeys(batch, key, keysHere, keyHead);
    usePair(block++);
    if (!cached) {
      loadValues(batch, key, keysHere, keyHead);
      score(rows);
    }
    differentiate(rows, some);
    interleaveRows(scoreGradients, squareBytes, rows, keysHere, interleavedSquare);
    accumulate(sums, rows, keys, keysHere);
  }
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < some; i++) {
      const row = (batch * length + token + t) * heads + head + i;
      const from = sums + <usize>(t * some + i) * rowBytes;
      scaleRow(
        from,
        f32x4.splat(floatArgument(SHARED + AttentionWord.scale)),
        pointer(SHARED + AttentionWord.y) + <usize>row * ((<usize>width) << 2),
        width,
      );
    }
  }
}

/** dk = Σ score gradient · scaled query and dv = Σ probability · dy, over all queries of the key head. */
function keyBlocks(batch: i32): void {
  const blocks = (size + most - 1) / most;
  const units = batch * keyHeads * blocks;
  while (claim(units, 1)) {
    for (let unit = begin; unit < end; unit++) {
      keyBlock(unit / blocks / keyHeads, (unit % blocks) * most, (unit / blocks) % keyHeads);
    }
  }
}

function keyBlock(b: i32, key: i32, keyHead: i32): void {
  const keysHere = min(most, size - key);
  // This thread may have had no tile of queries.
  usePair(0);
  loadKeys(b, key, keysHere, keyHead);
  loadValues(b, key, keysHere, keyHead);
  memory.fill(sums, 0, 2 * <usize>most * rowBytes);
  for (let token = 0; token < length; token += tokensAtOnce) {
    const tokens = min(tokensAtOnce, length - token);
    if (!findVisible(seen, most, b, token, tokens, key, keysHere)) continue;
    for (let chunk = 0; chunk < chunks; chunk++) {
      const some = headsOf(chunk);
      const rows = tokens * some;
      loadTokens(b, token, tokens, firstHead(keyHead, chunk), some);
      for (let t = 0; t < tokens; t++) {
        const from = storedStatistics(b, token + t, firstHead(keyHead, chunk));
        memory.copy(statisticsOf(t * some), from, (<usize>(QUERY_STATISTICS * some)) << 2);
      }
      score(rows);
      differentiate(rows, some);
      interleaveColumns(scoreGradients, squareBytes, keysHere, rows, interleavedSquare);
      accumulate(sums, keysHere, queries, rows);
      interleaveColumns(scores, squareBytes, keysHere, rows, interleavedSquare);
      accumulate(valueSums, keysHere, outputs, rows);
    }
  }
  for (let s = 0; s < keysHere; s++) {
    const at = <usize>((b * size + key + s) * keyHeads + keyHead) * ((<usize>width) << 2);
    memory.copy(pointer(AttentionGradientWord.dk) + at, sums + <usize>s * rowBytes, (<usize>width) << 2);
    memory.copy(pointer(AttentionGradientWord.dv) + at, valueSums + <usize>s * rowBytes, (<usize>width) << 2);
  }
}

/** ATTENTION_GRADIENT: gradients with respect to q, k and v. */
export function attentionGradient(): void {
  const batch = argument(SHARED + AttentionWord.batch);
  length = argument(SHARED + AttentionWord.length);
  heads = argument(SHARED + AttentionWord.heads);
  size = argument(SHARED + AttentionWord.size);
  keyHeads = argument(SHARED + AttentionWord.keyHeads);
  width = argument(SHARED + AttentionWord.width);
  softCap = floatArgument(SHARED + AttentionWord.logitSoftCap);
  setVisibility(SHARED + AttentionWord.visibility, length, size);
  setHalves(false);
  divideScratch();
  divideQueries();
  queryTiles(batch);
  barrier();
  keyBlocks(batch);
}
