/** Attention of single new tokens, which also writes their keys and values to the cache. */
import {type Program} from '../program';
import {CAPPED, COMMON, MOST_FEATURES, SIZE} from './attention';
import {PAIRS} from './bfloat16';
import {TOTAL} from './norms';

const PARTS = MOST_FEATURES / SIZE;

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
 * One tile of keys: `seesKey` and the `logit` of the invocation's key, LOWEST if it is not seen. Results and their sum are scaled
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

const AT = '((b * n.keys + (oldest + begin + i) % n.keys) * n.keyHeads + keyHead) * n.width + h';
const VALUE = `cachedValues[${AT}]`;
const PAIR = `cachedValues[(${AT}) / 2u]`;

export interface AttentionStepVariant {
  normed: boolean;
  split: boolean;
  halves: boolean;
}

/**
 * One new token for each row: queries, keys and values side by side, qkv (B, (N + 2 K) · H), are normed and rotated,
 * the cache (B, capacity, K, H) gets the new key and value, and the query attends to it → y (B, N · H). `angles` has
 * for each row its position, −1 for a row without a token, then cosines (B, H/2) and sines. With `split`, several
 * workgroups share the keys of a head: y (B, N, parts, H + 2) has of each part the largest logit, the sum of the
 * weights, and the weighted sum of the values, for {@link mergeParts}. With `halves`, the cache has pairs of bfloat16.
 */
export const attentionStep = ({normed, split, halves}: AttentionStepVariant): Program => ({
  name: `attention_step${normed ? ' normed' : ''}${split ? ' split' : ''}${halves ? ' halves' : ''}`,
  size: SIZE,
  reads: {
    qkv: 'array<f32>',
    angles: 'array<f32>',
    ...(normed ? {queryScale: 'array<f32>', keyScale: 'array<f32>'} : {}),
  },
  writes: {
    cachedKeys: halves ? 'array<u32>' : 'array<f32>',
    cachedValues: halves ? 'array<u32>' : 'array<f32>',
    y: 'array<f32>',
  },
  numbers: {...COMMON, window: 'u32', tables: 'u32', parts: 'u32', epsilon: 'f32'},
  declarations: `${CAPPED}${halves ? PAIRS : ''}
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
  if (group >= n.batch * n.queryHeads * n.parts) { return; }
  let part = group % n.parts;
  let pair = group / n.parts;
  let head = pair % n.queryHeads;
  let b = pair / n.queryHeads;
  let target_ = ${split ? 'group * (n.width + 2u) + 2u' : 'group * n.width'};
  let shared_ = n.queryHeads / n.keyHeads;
  let keyHead = head / shared_;
  let half = n.width / 2u;
  let position = i32(angles[b]);
  if (position < 0) {
    for (var h = lane; h < n.width; h += SIZE) { y[target_ + h] = 0.0; }
    ${split ? 'if (lane < 2u) { y[target_ - 2u + lane] = select(0.0, LOWEST, lane == 0u); }' : ''}
    return;
  }
  let row = b * (n.queryHeads + 2u * n.keyHeads) * n.width;
  let fromQuery = row + head * n.width;
  let fromKey = row + (n.queryHeads + keyHead) * n.width;
  let fromValue = row + (n.queryHeads + n.keyHeads + keyHead) * n.width;
  let slot = ((b * n.keys + u32(position) % n.keys) * n.keyHeads + keyHead) * n.width;
  let writes = head % shared_ == 0u && part == 0u;
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
    ${
      halves
        ? `newKey[i] = rounded(newKey[i]);
    newKey[half + i] = rounded(newKey[half + i]);`
        : `if (writes) {
      cachedKeys[slot + i] = newKey[i];
      cachedKeys[slot + half + i] = newKey[half + i];
      cachedValues[slot + i] = qkv[fromValue + i];
      cachedValues[slot + half + i] = qkv[fromValue + half + i];
    }`
    }
  }
  workgroupBarrier();
  ${
    halves
      ? `if (writes) {
    for (var i = lane; i < half; i += SIZE) {
      cachedKeys[slot / 2u + i] = pairOf(newKey[2u * i], newKey[2u * i + 1u]);
      cachedValues[slot / 2u + i] = pairOf(qkv[fromValue + 2u * i], qkv[fromValue + 2u * i + 1u]);
    }
  }`
      : ''
  }
  // The new token first: its slot cannot be read here, since another workgroup writes it now.
  var own = 0.0;
  for (var h = lane; h < n.width; h += SIZE) { own += query[h] * newKey[h]; }
  var largest = cappedLogit(total(own, lane));
  var sum = 1.0;
  var result = array<f32, ${PARTS}>();
  for (var p = 0u; p * SIZE < n.width; p++) {
    if (p * SIZE + lane < n.width) { result[p] = ${halves ? 'rounded' : ''}(qkv[fromValue + p * SIZE + lane]); }
  }
  let before = min(u32(position), n.window - 1u);
  let oldest = u32(position) - before;
  ${
    split
      ? `if (part > 0u) {
    largest = LOWEST;
    sum = 0.0;
    for (var p = 0u; p < ${PARTS}u; p++) { result[p] = 0.0; }
  }
  // Whole tiles for each part.
  let share = ((before + n.parts - 1u) / n.parts + SIZE - 1u) / SIZE * SIZE;
  let end = min(before, (part + 1u) * share);
  for (var begin = part * share; begin < end; begin += SIZE) {
    let inTile = min(SIZE, end - begin);`
      : `for (var begin = 0u; begin < before; begin += SIZE) {
    let inTile = min(SIZE, before - begin);`
  }
    var logit = LOWEST;
    let seesKey = lane < inTile;
    if (seesKey) {
      let at = ((b * n.keys + (oldest + begin + lane) % n.keys) * n.keyHeads + keyHead) * n.width;
      var dot = 0.0;
      ${
        halves
          ? `for (var h = 0u; h < n.width; h += 2u) {
        let pair = cachedKeys[(at + h) / 2u];
        dot += query[h] * lowOf(pair) + query[h + 1u] * highOf(pair);
      }`
          : 'for (var h = 0u; h < n.width; h++) { dot += query[h] * cachedKeys[at + h]; }'
      }
      logit = cappedLogit(dot);
    }${tile(halves ? `select(lowOf(${PAIR}), highOf(${PAIR}), h % 2u == 1u)` : VALUE)}
  }
  for (var p = 0u; p * SIZE < n.width; p++) {
    let h = p * SIZE + lane;
    if (h < n.width) { y[target_ + h] = result[p]${split ? '' : ' / sum'}; }
  }
  ${split ? 'if (lane < 2u) { y[target_ - 2u + lane] = select(sum, largest, lane == 0u); }' : ''}`,
});

/** Merges the results of the parts of a head, (heads, parts, width + 2) → y (heads, width). */
export const mergeParts: Program = {
  name: 'merge_parts',
  size: SIZE,
  reads: {parts: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: {heads: 'u32', parts: 'u32', width: 'u32'},
  body: `
  if (group >= n.heads) { return; }
  let stride = n.width + 2u;
  let first = group * n.parts * stride;
  var largest = -3.0e38;
  for (var i = 0u; i < n.parts; i++) { largest = max(largest, parts[first + i * stride]); }
  var sum = 0.0;
  for (var i = 0u; i < n.parts; i++) {
    sum += parts[first + i * stride + 1u] * exp(parts[first + i * stride] - largest);
  }
  for (var h = lane; h < n.width; h += SIZE) {
    var value = 0.0;
    for (var i = 0u; i < n.parts; i++) {
      value += parts[first + i * stride + 2u + h] * exp(parts[first + i * stride] - largest);
    }
    y[group * n.width + h] = select(0.0, value / sum, sum > 0.0);
  }`,
};
