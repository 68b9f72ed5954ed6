/**
 * Attention of a tile of queries of one head over keys in tiles, with a running softmax. Invocations share the keys of a
 * tile, and then the features of the result; each key and value is read once for all queries of the tile.
 */
import {type Program} from '../program';
import {PAIRS} from './bfloat16';
import {TANH} from './elementwise';

export const SIZE = 64;

/** The keys that queries see. Without any of these, all keys. */
export interface AttentionVariant {
  /** Whether keys are seen by positions: of the past, in a window. */
  positions: boolean;
  padding: boolean;
  images: boolean;
  /** A mask (1 or B, 1 or T, S) instead of all of these. */
  mask: boolean;
  /** Whether keys and values are pairs of bfloat16. */
  halves: boolean;
  /** Queries of a tile, and maximum number of features of a head: see {@link queryTile}. */
  queries: number;
  features: number;
}

/** Numbers of heads and features, and how they are seen. */
export const COMMON = {
  batch: 'u32',
  length: 'u32',
  keys: 'u32',
  queryHeads: 'u32',
  keyHeads: 'u32',
  width: 'u32',
  scale: 'f32',
  cap: 'f32',
} as const;

/** Maximum number of features of a head: each invocation keeps its part of the result. */
export const MOST_FEATURES = 512;

/** How many queries share the keys that are read, so that all fit into 16 KiB of shared memory. */
export function queryTile(length: number, width: number): Pick<AttentionVariant, 'queries' | 'features'> {
  const features = width <= 128 ? 128 : width <= 256 ? 256 : MOST_FEATURES;
  if (length < 4) return {queries: 1, features};
  return {queries: features === MOST_FEATURES ? 4 : 8, features};
}

export const CAPPED = `${TANH}
fn cappedLogit(value: f32) -> f32 {
  if (n.cap == 0.0) { return value; }
  return n.cap * boundedTanh(value / n.cap);
}`;

const seesBy = ({padding, images, mask, positions}: AttentionVariant): string => {
  if (mask) {
    return '  return seen[(select(0u, b, n.maskRows > 1u) * n.maskLength + select(0u, t, n.maskLength > 1u)) * n.keys + s] != 0;';
  }
  if (!positions) return '  return true;';
  return `  let i = queryPositions[select(0u, b, n.queryRows > 1u) * n.length + t];
  let j = keyPositions[select(0u, b, n.keyRows > 1u) * n.keys + s];
  if (j < 0) { return false; }
  var order = n.bidirectional == 1u || i >= j;
  ${
    images
      ? `let image = imageNumbers[b * n.length + t];
  order = order || (image > 0 && image == imageNumbers[n.batch * n.length + b * n.keys + s]);`
      : ''
  }
  ${
    padding
      ? `order = order && paddingMask[b * n.keys + s] != 0;
  // Embedding models are bidirectional. In them, padding tokens see nothing either.
  if (n.bidirectional == 1u) { order = order && paddingMask[b * n.keys + t] != 0; }`
      : ''
  }
  return order && i - j <= n.left && j - i <= n.right;`;
};

/** q (B, T, N, H), k and v (B, S, K, H) → y (B, T, N, H). A query that sees no key gives zeros. */
export function attention(variant: AttentionVariant): Program {
  const {padding, images, mask, positions, halves, queries, features} = variant;
  const parts = Math.ceil(features / SIZE);
  const each = `for (var m = 0u; m < ${queries}u; m++)`;
  const what = [positions && 'positions', padding && 'padding', images && 'images', mask && 'mask'];
  return {
    name: ['attention', queries, features, ...what, halves && 'halves'].filter(Boolean).join(' '),
    size: SIZE,
    reads: {
      q: 'array<f32>',
      k: halves ? 'array<u32>' : 'array<f32>',
      v: halves ? 'array<u32>' : 'array<f32>',
      ...(mask ? {seen: 'array<i32>'} : {}),
      ...(positions && !mask ? {queryPositions: 'array<i32>', keyPositions: 'array<i32>'} : {}),
      ...(padding ? {paddingMask: 'array<i32>'} : {}),
      // Of two more buffers there is room only for one: images of queries, then of keys.
      ...(images ? {imageNumbers: 'array<i32>'} : {}),
    },
    writes: {y: 'array<f32>'},
    numbers: {
      ...COMMON,
      // Sizes of axes along which masks and positions differ, or 0.
      queryRows: 'u32',
      keyRows: 'u32',
      maskRows: 'u32',
      maskLength: 'u32',
      left: 'i32',
      right: 'i32',
      bidirectional: 'u32',
    },
    declarations: `${CAPPED}${halves ? PAIRS : ''}
const LOWEST = -3.0e38;
var<workgroup> query: array<f32, ${queries * features}>;
var<workgroup> weights: array<f32, ${queries * SIZE}>;
var<workgroup> maxima: array<f32, ${queries * SIZE}>;
fn sees(b: u32, t: u32, s: u32) -> bool {
${seesBy(variant)}
}`,
    body: `
  let tiles = (n.length + ${queries - 1}u) / ${queries}u;
  if (group >= n.batch * tiles * n.queryHeads) { return; }
  let head = group % n.queryHeads;
  let first = ((group / n.queryHeads) % tiles) * ${queries}u;
  let b = group / (n.queryHeads * tiles);
  let inTile = min(${queries}u, n.length - first);
  let keyHead = head / (n.queryHeads / n.keyHeads);
  for (var i = lane; i < inTile * n.width; i += SIZE) {
    let m = i / n.width;
    let h = i % n.width;
    query[m * ${features}u + h] = q[((b * n.length + first + m) * n.queryHeads + head) * n.width + h] * n.scale;
  }
  workgroupBarrier();
  var result = array<f32, ${queries * parts}>();
  var largest = array<f32, ${queries}>();
  // Each invocation sums the weights of its own keys.
  var sums = array<f32, ${queries}>();
  ${each} { largest[m] = LOWEST; }
  for (var begin = 0u; begin < n.keys; begin += SIZE) {
    let keysInTile = min(SIZE, n.keys - begin);
    var seenBy = 0u;
    if (lane < keysInTile) {
      for (var m = 0u; m < inTile; m++) { seenBy |= select(0u, 1u << m, sees(b, first + m, begin + lane)); }
    }
    var logits = array<f32, ${queries}>();
    if (seenBy != 0u) {
      let at = ((b * n.keys + begin + lane) * n.keyHeads + keyHead) * n.width;
      ${
        halves
          ? `for (var h = 0u; h < n.width; h += 2u) {
        let pair = k[(at + h) / 2u];
        ${each} {
          logits[m] += query[m * ${features}u + h] * lowOf(pair) + query[m * ${features}u + h + 1u] * highOf(pair);
        }
      }`
          : `for (var h = 0u; h < n.width; h++) {
        let key = k[at + h];
        ${each} { logits[m] += query[m * ${features}u + h] * key; }
      }`
      }
    }
    ${each} {
      logits[m] = select(LOWEST, cappedLogit(logits[m]), (seenBy & (1u << m)) != 0u);
      maxima[m * SIZE + lane] = logits[m];
    }
    for (var step = SIZE / 2u; step > 0u; step /= 2u) {
      workgroupBarrier();
      if (lane < step) {
        ${each} { maxima[m * SIZE + lane] = max(maxima[m * SIZE + lane], maxima[m * SIZE + lane + step]); }
      }
    }
    workgroupBarrier();
    var seen_ = false;
    ${each} {
      seen_ = seen_ || maxima[m * SIZE] > LOWEST;
      let peak = max(largest[m], maxima[m * SIZE]);
      let shrink = exp(largest[m] - peak);
      let weight = select(0.0, exp(logits[m] - peak), (seenBy & (1u << m)) != 0u);
      weights[m * SIZE + lane] = weight;
      sums[m] = sums[m] * shrink + weight;
      largest[m] = peak;
      for (var p = 0u; p < ${parts}u; p++) { result[m * ${parts}u + p] *= shrink; }
    }
    workgroupBarrier();
    // Tiles that no query sees cost no values.
    if (seen_) {
      for (var p = 0u; p < ${parts}u; p++) {
        let h = p * SIZE + lane;
        if (h >= n.width) { break; }
        for (var i = 0u; i < keysInTile; i++) {
          let at = ((b * n.keys + begin + i) * n.keyHeads + keyHead) * n.width + h;
          let value = ${halves ? 'select(lowOf(v[at / 2u]), highOf(v[at / 2u]), h % 2u == 1u)' : 'v[at]'};
          ${each} { result[m * ${parts}u + p] += weights[m * SIZE + i] * value; }
        }
      }
    }
    workgroupBarrier();
  }
  ${each} { weights[m * SIZE + lane] = sums[m]; }
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) { ${each} { weights[m * SIZE + lane] += weights[m * SIZE + lane + step]; } }
  }
  workgroupBarrier();
  for (var m = 0u; m < inTile; m++) {
    let sum = weights[m * SIZE];
    for (var p = 0u; p < ${parts}u; p++) {
      let h = p * SIZE + lane;
      if (h >= n.width) { break; }
      y[((b * n.length + first + m) * n.queryHeads + head) * n.width + h] =
        select(0.0, result[m * ${parts}u + p] / sum, sum > 0.0);
    }
  }`,
  };
}
