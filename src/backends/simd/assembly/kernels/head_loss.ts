/**
 * Losses of tokens over a vocabulary, and their gradients with respect to the hidden states, in one pass over the
 * weights of the head.
 *
 * As in FlashAttention (https://arxiv.org/abs/2205.14135), with the vocabulary as keys and values: a tile of rows of W
 * gives logits, weights exp(logit − reference) and the weighted sum of the rows. References and sums are kept per
 * token. The tiles are divided into shares with separate sums. Threads claim shares, and the sums are merged at the
 * end, so which tiles are summed together does not depend on the speed of the threads.
 */
import {HEAD_ROUND, HEAD_ROWS, HEAD_SHARES, HEAD_STATISTICS_BYTES, HEAD_TILE, HeadLossWord} from '../layouts/head_loss';
import {FLOAT32} from '../numbers';
import {padded} from '../parts/blocks';
import {decode, groupBytes} from '../parts/formats';
import {fillPanel, setMatrix, transposePanel} from '../parts/panel';
import {argument, barrier, begin, chunkOf, claim, end, floatArgument, pointer, thread, threads} from '../parts/threads';
import {height, interleaveRows, tiles} from '../parts/tile';
import {addScaledRow, exp4, maxOf, scaleRow, sumOf, tanh4, zero} from '../parts/vector';
import {gatherRow} from './pack';

/** Columns of a panel. Together with a tile's rows of x, they fit in the innermost cache. */
const DEPTH = 640;
/** Below this exponent, `exp4` returns a constant, not zero. */
const LEAST: f32 = -87;
/** Below every real logit. */
const NOTHING: f32 = -3e38;
/** The reference moves when a logit exceeds it by this much. Weights up to e²⁰ are as exact as those below 1. */
const SLACK: f32 = 20;

let type: i32 = 0;
let rows: i32 = 0;
let vocabulary: i32 = 0;
let width: i32 = 0;
let octets: i32 = 0;
let cap: f32 = 0;
let gradients: usize = 0;

let interleaved: usize = 0;
let shareCount: i32 = 0;
let shares: usize = 0;
let shareBytes: usize = 0;
// Private to each thread: a tile of W as panels [width][8 rows] and as panels [rows][8 columns], logits, interleaved
// weights.
let panels: usize = 0;
let transposed: usize = 0;
let logits: usize = 0;
let weights: usize = 0;

const LOGIT_STEP: usize = HEAD_TILE << 2;
const LOGIT_BYTES: usize = <usize>HEAD_ROWS * LOGIT_STEP;

function upTo(count: i32, step: i32): i32 {
  return ((count + step - 1) / step) * step;
}

/** Bytes of a tile of W. */
function tileBytes(): usize {
  return (<usize>(padded(width) * HEAD_TILE)) << 2;
}

function shareAt(index: i32): usize {
  return shares + <usize>index * shareBytes;
}

function statisticsOf(share: usize, row: i32): usize {
  return share + <usize>row * HEAD_STATISTICS_BYTES;
}

/** Weighted sum of a token: as many values as the panels have columns. */
function sumsOf(share: usize, row: i32): usize {
  return share + <usize>rows * HEAD_STATISTICS_BYTES + <usize>row * sumStep();
}

function sumStep(): usize {
  return (<usize>octets) << 5;
}

/**
 * Divides the workspace as `headLossWorkspaceBytes` does: interleaved rows, then statistics and sums of each share, then,
 * for each thread, space for a tile.
 */
function divideWorkspace(): void {
  interleaved = pointer(HeadLossWord.workspace);
  shares = interleaved + ((<usize>(upTo(rows, HEAD_ROUND) * width)) << 2);
  shareBytes = <usize>rows * (HEAD_STATISTICS_BYTES + sumStep());
  panels = shareAt(shareCount) + <usize>thread * (2 * tileBytes() + 2 * LOGIT_BYTES);
  transposed = panels + tileBytes();
  logits = transposed + tileBytes();
  weights = logits + LOGIT_BYTES;
}

/** Address of column k of the interleaved tokens from `row` on, where `row` begins a block. */
function interleavedAt(row: i32, some: i32, k: i32): usize {
  return interleaved + ((<usize>(row * width + upTo(some, height) * k)) << 2);
}

function interleaveTokens(): void {
  const parts = (width + DEPTH - 1) / DEPTH;
  const step = (<usize>width) << 2;
  while (claim(parts * ((rows + HEAD_ROWS - 1) / HEAD_ROWS), 1)) {
    for (let unit = begin; unit < end; unit++) {
      const row = (unit / parts) * HEAD_ROWS;
      const k = (unit % parts) * DEPTH;
      const some = min(HEAD_ROWS, rows - row);
      interleaveRows(
        pointer(HeadLossWord.x) + <usize>row * step + ((<usize>k) << 2),
        step,
        some,
        min(DEPTH, width - k),
        interleavedAt(row, some, k),
      );
    }
  }
}

/** Loads rows n … n + count − 1 of W as panels, and as transposed panels if gradients are wanted. */
function loadTile(n: i32, count: i32): void {
  const panelBytes = (<usize>padded(width)) << 5;
  let panel = panels;
  for (let i = 0; i < count; i += 8, panel += panelBytes) {
    if (type == FLOAT32) fillPanel(panel, n + i, min(8, vocabulary - n - i), 0, width);
    else decode(type, pointer(HeadLossWord.w) + <usize>((n + i) >> 3) * groupBytes(type, width), panel, 0, width);
    if (gradients == 0) continue;
    for (let octet = 0; octet < octets; octet++) {
      transposePanel(transposed + ((<usize>(octet * HEAD_TILE + i)) << 5), panel + ((<usize>octet) << 8));
    }
  }
}

/** Logits of a block of tokens over the tile. */
function project(row: i32, some: i32, count: i32): void {
  for (let k = 0; k < width; k += DEPTH) {
    const depth = min(DEPTH, width - k);
    const panel = panels + ((<usize>k) << 5);
    tiles(
      interleavedAt(row, some, k),
      panel,
      (<usize>padded(width)) << 5,
      32,
      depth,
      logits,
      LOGIT_STEP,
      some,
      count,
      k > 0,
    );
  }
}

/** Moves the reference of a token and rescales its sums. */
function moveReference(share: usize, row: i32, reference: f32): void {
  const at = statisticsOf(share, row);
  const factor = exp4(f32x4.splat(load<f32>(at) - reference));
  store<f32>(at, reference);
  const sum = load<f64>(at, 8);
  if (sum == 0) return;
  store<f64>(at, sum * <f64>f32x4.extract_lane(factor, 0), 8);
  if (gradients == 0) return;
  const sums = sumsOf(share, row);
  scaleRow(sums, factor, sums, 8 * octets);
}

/** Turns logits of a token into weights, times the derivative of the cap if there is one. */
function weigh(share: usize, row: i32, at: usize, n: i32, count: i32): void {
  const end = at + ((<usize>count) << 2);
  if (cap != 0) {
    const caps = f32x4.splat(cap);
    for (let p = at; p < end; p += 16) v128.store(p, f32x4.mul(tanh4(f32x4.div(v128.load(p), caps)), caps));
  }
  // Pads the last vector: lanes after the last logit get no weight.
  for (let i = count; i & 3; i++) store<f32>(at + ((<usize>i) << 2), NOTHING);
  let most = f32x4.splat(NOTHING);
  for (let p = at; p < end; p += 16) most = f32x4.pmax(most, v128.load(p));
  const largest = maxOf(most);
  const statistics = statisticsOf(share, row);
  const target = load<i32>(pointer(HeadLossWord.targets) + ((<usize>row) << 2)) - n;
  if (target >= 0 && target < count) store<f32>(statistics, load<f32>(at + ((<usize>target) << 2)), 4);
  if (largest > load<f32>(statistics) + SLACK) moveReference(share, row, largest);
  const reference = f32x4.splat(load<f32>(statistics));
  const least = f32x4.splat(LEAST);
  const one = f32x4.splat(1);
  const inverse: f32 = cap == 0 ? 0 : <f32>1 / cap;
  let sum = zero();
  for (let p = at; p < end; p += 16) {
    const logit = v128.load(p);
    const power = f32x4.sub(logit, reference);
    let weight = v128.and(exp4(power), f32x4.ge(power, least));
    sum = f32x4.add(sum, weight);
    if (cap != 0) {
      const capped = f32x4.mul(f32x4.max(logit, f32x4.splat(-cap)), f32x4.splat(inverse));
      weight = f32x4.mul(weight, f32x4.sub(one, f32x4.mul(capped, capped)));
    }
    v128.store(p, weight);
  }
  store<f64>(statistics, load<f64>(statistics, 8) + <f64>sumOf(sum), 8);
}

function walkTile(share: usize, n: i32, count: i32): void {
  loadTile(n, count);
  for (let row = 0; row < rows; row += HEAD_ROWS) {
    const some = min(HEAD_ROWS, rows - row);
    project(row, some, count);
    for (let r = 0; r < some; r++) weigh(share, row + r, logits + <usize>r * LOGIT_STEP, n, count);
    if (gradients == 0) continue;
    interleaveRows(logits, LOGIT_STEP, some, count, weights);
    tiles(weights, transposed, LOGIT_STEP << 3, 32, count, sumsOf(share, row), sumStep(), some, 8 * octets, true);
  }
}

/** Walks over all tiles of a share. */
function walkShare(index: i32): void {
  const share = shareAt(index);
  memory.fill(share, 0, shareBytes);
  for (let row = 0; row < rows; row++) store<f32>(statisticsOf(share, row), NOTHING);
  const all = (vocabulary + HEAD_TILE - 1) / HEAD_TILE;
  const stop = min(vocabulary, ((all * (index + 1)) / shareCount) * HEAD_TILE);
  for (let n = ((all * index) / shareCount) * HEAD_TILE; n < stop; n += HEAD_TILE) {
    walkTile(share, n, min(HEAD_TILE, stop - n));
  }
}

/** Merges the sums of all shares and subtracts the row of the target. */
function finish(row: i32): void {
  let reference = NOTHING;
  for (let i = 0; i < shareCount; i++) reference = max(reference, load<f32>(statisticsOf(shareAt(i), row)));
  let sum: f64 = 0;
  let targetLogit: f32 = 0;
  for (let i = 0; i < shareCount; i++) {
    const statistics = statisticsOf(shareAt(i), row);
    const factor = exp4(f32x4.splat(load<f32>(statistics) - reference));
    sum += load<f64>(statistics, 8) * <f64>f32x4.extract_lane(factor, 0);
    targetLogit += load<f32>(statistics, 4);
  }
  store<f32>(pointer(HeadLossWord.differences) + ((<usize>row) << 2), reference - targetLogit);
  store<f32>(pointer(HeadLossWord.sums) + ((<usize>row) << 2), <f32>sum);
  if (gradients == 0) return;
  const to = gradients + ((<usize>row * <usize>width) << 2);
  const target = load<i32>(pointer(HeadLossWord.targets) + ((<usize>row) << 2));
  if (type == FLOAT32)
    memory.copy(to, pointer(HeadLossWord.w) + ((<usize>target * <usize>width) << 2), (<usize>width) << 2);
  else gatherRow(type, pointer(HeadLossWord.w) + <usize>(target >> 3) * groupBytes(type, width), target & 7, to, width);
  const capped: f32 = cap == 0 ? 0 : targetLogit / cap;
  scaleRow(to, f32x4.splat(capped * capped - 1), to, width);
  for (let i = 0; i < shareCount; i++) {
    const share = shareAt(i);
    const power = f32x4.splat(load<f32>(statisticsOf(share, row)) - reference);
    const factor = f32x4.extract_lane(exp4(power), 0) * <f32>(1 / sum);
    addScaledRow(sumsOf(share, row), f32x4.splat(factor), to, width);
  }
}

/** HEAD_LOSS: the loss of a token is difference + log(sum). */
export function headLoss(): void {
  type = argument(HeadLossWord.type);
  gradients = pointer(HeadLossWord.gradients);
  rows = argument(HeadLossWord.rows);
  vocabulary = argument(HeadLossWord.vocabulary);
  width = argument(HeadLossWord.width);
  octets = padded(width) / 8;
  cap = floatArgument(HeadLossWord.softCap);
  shareCount = max(HEAD_SHARES, threads);
  divideWorkspace();
  interleaveTokens();
  if (type == FLOAT32) setMatrix(pointer(HeadLossWord.w), FLOAT32, 1, width, 0, 1);
  barrier();
  while (claim(shareCount, 1)) {
    for (let index = begin; index < end; index++) walkShare(index);
  }
  barrier();
  while (claim(rows, chunkOf(rows, sumStep() * <usize>shareCount))) {
    for (let row = begin; row < end; row++) finish(row);
  }
}
