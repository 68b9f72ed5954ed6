/**
 * Attention of one query head at a time over keys in tiles, with a running softmax. A workgroup for each query and head:
 * invocations share the keys of a tile, and then the features of the result.
 */
import {type Program} from '../program';
import {TANH} from './elementwise';
import {TOTAL} from './norms';

const SIZE = 64;

/** What a program sees beside positions. */
export interface AttentionVariant {
  padding: boolean;
  images: boolean;
  /** A mask (1 or B, 1 or T, S) instead of all of these. */
  mask: boolean;
}

/** Numbers of heads and features, and how they are seen. */
const COMMON = {
  batch: 'u32',
  length: 'u32',
  keys: 'u32',
  queryHeads: 'u32',
  keyHeads: 'u32',
  width: 'u32',
  scale: 'f32',
  cap: 'f32',
} as const;

/** The most features of a head: each invocation keeps its part of the result. */
export const MOST_FEATURES = 512;
const PARTS = MOST_FEATURES / SIZE;

const capped = `${TANH}
fn cappedLogit(value: f32) -> f32 {
  if (n.cap == 0.0) { return value; }
  return n.cap * boundedTanh(value / n.cap);
}`;

const MEMORY = `${TOTAL}
var<workgroup> query: array<f32, ${MOST_FEATURES}>;
var<workgroup> weights: array<f32, SIZE>;
var<workgroup> maxima: array<f32, SIZE>;
fn largestOf(own: f32, lane: u32) -> f32 {
  workgroupBarrier();
  maxima[lane] = own;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) { maxima[lane] = max(maxima[lane], maxima[lane + step]); }
  }
  workgroupBarrier();
  return maxima[0];
}
const LOWEST = -3.0e38;`;

/**
 * One tile: `seesKey` and the `logit` of the invocation's key, LOWEST if it is not seen. Results and their sum are scaled
 * to the largest logit so far.
 */
const tile = (valueAt: string) => `
    let peak = max(largest, largestOf(logit, lane));
    let shrink = exp(largest - peak);
    let weight = select(0.0, exp(logit - peak), seesKey);
    weights[lane] = weight;
    sum = sum * shrink + total(weight, lane);
    largest = peak;
    for (var p = 0u; p * SIZE < n.width; p++) {
      let h = p * SIZE + lane;
      if (h >= n.width) { break; }
      var value = result[p] * shrink;
      for (var i = 0u; i < inTile; i++) { value += weights[i] * ${valueAt}; }
      result[p] = value;
    }
    workgroupBarrier();`;

/** q (B, T, N, H), k and v (B, S, K, H) → y (B, T, N, H). A query that sees no key gives zeros. */
export const attention = ({padding, images, mask}: AttentionVariant): Program => ({
  name: `attention${padding ? ' padding' : ''}${images ? ' images' : ''}${mask ? ' mask' : ''}`,
  size: SIZE,
  reads: {
    q: 'array<f32>',
    k: 'array<f32>',
    v: 'array<f32>',
    ...(mask
      ? {seen: 'array<i32>'}
      : {
          queryPositions: 'array<i32>',
          keyPositions: 'array<i32>',
          ...(padding ? {paddingMask: 'array<i32>'} : {}),
          // Of two more buffers there is room only for one: images of queries, then of keys.
          ...(images ? {imageNumbers: 'array<i32>'} : {}),
        }),
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
  declarations: `${capped}
${MEMORY}
fn sees(b: u32, t: u32, s: u32) -> bool {
${
  mask
    ? '  return seen[(select(0u, b, n.maskRows > 1u) * n.maskLength + select(0u, t, n.maskLength > 1u)) * n.keys + s] != 0;'
    : `  let i = queryPositions[select(0u, b, n.queryRows > 1u) * n.length + t];
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
  return order && i - j <= n.left && j - i <= n.right;`
}
}`,
  body: `
  if (group >= n.batch * n.length * n.queryHeads) { return; }
  let head = group % n.queryHeads;
  let t = (group / n.queryHeads) % n.length;
  let b = group / (n.queryHeads * n.length);
  let keyHead = head / (n.queryHeads / n.keyHeads);
  for (var h = lane; h < n.width; h += SIZE) { query[h] = q[group * n.width + h] * n.scale; }
  workgroupBarrier();
  var result: array<f32, ${PARTS}>;
  var largest = LOWEST;
  var sum = 0.0;
  for (var begin = 0u; begin < n.keys; begin += SIZE) {
    let inTile = min(SIZE, n.keys - begin);
    var logit = LOWEST;
    let seesKey = lane < inTile && sees(b, t, begin + lane);
    if (seesKey) {
      let at = ((b * n.keys + begin + lane) * n.keyHeads + keyHead) * n.width;
      var dot = 0.0;
      for (var h = 0u; h < n.width; h++) { dot += query[h] * k[at + h]; }
      logit = cappedLogit(dot);
    }${tile('v[((b * n.keys + begin + i) * n.keyHeads + keyHead) * n.width + h]')}
  }
  for (var p = 0u; p * SIZE < n.width; p++) {
    let h = p * SIZE + lane;
    if (h < n.width) { y[group * n.width + h] = select(0.0, result[p] / sum, sum > 0.0); }
  }`,
});

/**
 * One new token for each row: queries, keys and values side by side, qkv (B, (N + 2 K) · H), are normed and turned, the
 * cache (B, capacity, K, H) gets the new key and value, and the query attends over it → y (B, N · H). `angles` has for
 * each row its position, −1 for a row without a token, then cosines (B, H/2) and sines.
 */
export const attentionStep = ({normed}: {normed: boolean}): Program => ({
  name: `attention_step${normed ? ' normed' : ''}`,
  size: SIZE,
  reads: {
    qkv: 'array<f32>',
    angles: 'array<f32>',
    ...(normed ? {queryScale: 'array<f32>', keyScale: 'array<f32>'} : {}),
  },
  writes: {cachedKeys: 'array<f32>', cachedValues: 'array<f32>', y: 'array<f32>'},
  numbers: {...COMMON, window: 'u32', tables: 'u32', epsilon: 'f32'},
  declarations: `${capped}
${MEMORY}
var<workgroup> newKey: array<f32, ${MOST_FEATURES}>;
fn inverseAt(first: u32, lane: u32) -> f32 {
  ${
    normed
      ? `var square = 0.0;
  for (var h = lane; h < n.width; h += SIZE) { square += qkv[first + h] * qkv[first + h]; }
  return inverseSqrt(total(square, lane) / f32(n.width) + n.epsilon);`
      : 'return 1.0;'
  }
}`,
  body: `
  if (group >= n.batch * n.queryHeads) { return; }
  let head = group % n.queryHeads;
  let b = group / n.queryHeads;
  let shared_ = n.queryHeads / n.keyHeads;
  let keyHead = head / shared_;
  let half = n.width / 2u;
  let position = i32(angles[b]);
  if (position < 0) {
    for (var h = lane; h < n.width; h += SIZE) { y[group * n.width + h] = 0.0; }
    return;
  }
  let row = b * (n.queryHeads + 2u * n.keyHeads) * n.width;
  let fromQuery = row + head * n.width;
  let fromKey = row + (n.queryHeads + keyHead) * n.width;
  let fromValue = row + (n.queryHeads + n.keyHeads + keyHead) * n.width;
  let slot = ((b * n.keys + u32(position) % n.keys) * n.keyHeads + keyHead) * n.width;
  let writes = head % shared_ == 0u;
  let inverseQuery = inverseAt(fromQuery, lane) * n.scale;
  let inverseKey = inverseAt(fromKey, lane);
  let table = select(0u, b, n.tables > 1u);
  for (var i = lane; i < half; i += SIZE) {
    let c = angles[n.batch + table * half + i];
    let s = angles[n.batch + (n.tables + table) * half + i];
    let qa = qkv[fromQuery + i] * inverseQuery${normed ? ' * (1.0 + queryScale[i])' : ''};
    let qb = qkv[fromQuery + half + i] * inverseQuery${normed ? ' * (1.0 + queryScale[half + i])' : ''};
    query[i] = qa * c - qb * s;
    query[half + i] = qb * c + qa * s;
    let ka = qkv[fromKey + i] * inverseKey${normed ? ' * (1.0 + keyScale[i])' : ''};
    let kb = qkv[fromKey + half + i] * inverseKey${normed ? ' * (1.0 + keyScale[half + i])' : ''};
    newKey[i] = ka * c - kb * s;
    newKey[half + i] = kb * c + ka * s;
    if (writes) {
      cachedKeys[slot + i] = newKey[i];
      cachedKeys[slot + half + i] = newKey[half + i];
      cachedValues[slot + i] = qkv[fromValue + i];
      cachedValues[slot + half + i] = qkv[fromValue + half + i];
    }
  }
  workgroupBarrier();
  // The new token first: its slot cannot be read here, since another workgroup writes it now.
  var own = 0.0;
  for (var h = lane; h < n.width; h += SIZE) { own += query[h] * newKey[h]; }
  var largest = cappedLogit(total(own, lane));
  var sum = 1.0;
  var result: array<f32, ${PARTS}>;
  for (var p = 0u; p * SIZE < n.width; p++) {
    if (p * SIZE + lane < n.width) { result[p] = qkv[fromValue + p * SIZE + lane]; }
  }
  let before = min(u32(position), n.window - 1u);
  let oldest = u32(position) - before;
  for (var begin = 0u; begin < before; begin += SIZE) {
    let inTile = min(SIZE, before - begin);
    var logit = LOWEST;
    let seesKey = lane < inTile;
    if (seesKey) {
      let at = ((b * n.keys + (oldest + begin + lane) % n.keys) * n.keyHeads + keyHead) * n.width;
      var dot = 0.0;
      for (var h = 0u; h < n.width; h++) { dot += query[h] * cachedKeys[at + h]; }
      logit = cappedLogit(dot);
    }${tile('cachedValues[((b * n.keys + (oldest + begin + i) % n.keys) * n.keyHeads + keyHead) * n.width + h]')}
  }
  for (var p = 0u; p * SIZE < n.width; p++) {
    let h = p * SIZE + lane;
    if (h < n.width) { y[group * n.width + h] = result[p] / sum; }
  }`,
});
