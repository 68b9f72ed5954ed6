/**
 * Gradients of attention, without a matrix of all logits: these are recomputed where they are needed. What a query sees
 * is a mask (1 or B, 1 or T, S). A workgroup has 64 keys, or queries, at a time: each invocation computes what one of
 * them contributes, and then all share the features of the result.
 */
import {type Program} from '../program';
import {CAPPED, COMMON, MOST_FEATURES, SIZE} from './attention';
import {TOTAL} from './norms';

const PARTS = MOST_FEATURES / SIZE;

const READS = {
  q: 'array<f32>',
  k: 'array<f32>',
  v: 'array<f32>',
  dy: 'array<f32>',
  seen: 'array<i32>',
} as const;

const NUMBERS = {...COMMON, maskRows: 'u32', maskLength: 'u32'} as const;

const DECLARATIONS = `${CAPPED}
const LOWEST = -3.0e38;
fn sees(b: u32, t: u32, s: u32) -> bool {
  return seen[(select(0u, b, n.maskRows > 1u) * n.maskLength + select(0u, t, n.maskLength > 1u)) * n.keys + s] != 0;
}
fn queryAt(b: u32, t: u32, head: u32) -> u32 { return ((b * n.length + t) * n.queryHeads + head) * n.width; }
fn keyAt(b: u32, s: u32, head: u32) -> u32 { return ((b * n.keys + s) * n.keyHeads + head) * n.width; }
// The logit of a query and a key after the soft cap, and dy · v.
fn products(fromQuery: u32, fromKey: u32) -> vec2<f32> {
  var sums = vec2<f32>(0.0);
  for (var h = 0u; h < n.width; h++) {
    sums += vec2<f32>(q[fromQuery + h] * k[fromKey + h], dy[fromQuery + h] * v[fromKey + h]);
  }
  return vec2<f32>(cappedLogit(sums.x * n.scale), sums.y);
}`;

/** The derivative of the soft cap, from the capped logit. */
const SLOPE = `
fn slopeOf(logit: f32) -> f32 {
  if (n.cap == 0.0) { return 1.0; }
  let part = logit / n.cap;
  return 1.0 - part * part;
}`;

/** For each query and head, the largest logit, the inverse sum of the weights, and the mean of dy · v → y (B, T, N, 3). */
export const attentionStatistics: Program = {
  name: 'attention_statistics',
  size: SIZE,
  reads: READS,
  writes: {y: 'array<f32>'},
  numbers: NUMBERS,
  declarations: `${DECLARATIONS}${TOTAL}
var<workgroup> maxima: array<f32, SIZE>;`,
  body: `
  if (group >= n.batch * n.length * n.queryHeads) { return; }
  let head = group % n.queryHeads;
  let t = (group / n.queryHeads) % n.length;
  let b = group / (n.queryHeads * n.length);
  let keyHead = head / (n.queryHeads / n.keyHeads);
  var largest = LOWEST;
  var sum = 0.0;
  var weighted = 0.0;
  for (var s = lane; s < n.keys; s += SIZE) {
    if (!sees(b, t, s)) { continue; }
    let both = products(group * n.width, keyAt(b, s, keyHead));
    let peak = max(largest, both.x);
    let shrink = exp(largest - peak);
    let weight = exp(both.x - peak);
    sum = sum * shrink + weight;
    weighted = weighted * shrink + weight * both.y;
    largest = peak;
  }
  maxima[lane] = largest;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) { maxima[lane] = max(maxima[lane], maxima[lane + step]); }
  }
  workgroupBarrier();
  let peak = maxima[0];
  let shrink = select(0.0, exp(largest - peak), largest > LOWEST);
  let all = total(sum * shrink, lane);
  let mean = total(weighted * shrink, lane);
  if (lane > 0u) { return; }
  // A query that sees no key has no weights.
  let inverse = select(0.0, 1.0 / all, all > 0.0);
  y[3u * group] = peak;
  y[3u * group + 1u] = inverse;
  y[3u * group + 2u] = mean * inverse;`,
};

/** The gradient for q: y (B, T, N, H). */
export const attentionGradientQ: Program = {
  name: 'attention_gradient_q',
  size: SIZE,
  reads: {...READS, statistics: 'array<f32>'},
  writes: {y: 'array<f32>'},
  numbers: NUMBERS,
  declarations: `${DECLARATIONS}${SLOPE}
var<workgroup> slopes: array<f32, SIZE>;`,
  body: `
  if (group >= n.batch * n.length * n.queryHeads) { return; }
  let head = group % n.queryHeads;
  let t = (group / n.queryHeads) % n.length;
  let b = group / (n.queryHeads * n.length);
  let keyHead = head / (n.queryHeads / n.keyHeads);
  let largest = statistics[3u * group];
  let inverse = statistics[3u * group + 1u];
  let mean = statistics[3u * group + 2u];
  var result = array<f32, ${PARTS}>();
  for (var begin = 0u; begin < n.keys; begin += SIZE) {
    let inTile = min(SIZE, n.keys - begin);
    var slope = 0.0;
    if (lane < inTile && sees(b, t, begin + lane)) {
      let both = products(group * n.width, keyAt(b, begin + lane, keyHead));
      slope = exp(both.x - largest) * inverse * (both.y - mean) * slopeOf(both.x);
    }
    slopes[lane] = slope;
    workgroupBarrier();
    for (var p = 0u; p * SIZE < n.width; p++) {
      let h = p * SIZE + lane;
      if (h >= n.width) { break; }
      for (var i = 0u; i < inTile; i++) { result[p] += slopes[i] * k[keyAt(b, begin + i, keyHead) + h]; }
    }
    workgroupBarrier();
  }
  for (var p = 0u; p * SIZE < n.width; p++) {
    let h = p * SIZE + lane;
    if (h < n.width) { y[group * n.width + h] = result[p] * n.scale; }
  }`,
};

/** The gradients for k and v: dk and dv (B, S, K, H). */
export const attentionGradientKV: Program = {
  name: 'attention_gradient_kv',
  size: SIZE,
  reads: {...READS, statistics: 'array<f32>'},
  writes: {dk: 'array<f32>', dv: 'array<f32>'},
  numbers: NUMBERS,
  declarations: `${DECLARATIONS}${SLOPE}
var<workgroup> slopes: array<f32, SIZE>;
var<workgroup> weights: array<f32, SIZE>;`,
  body: `
  if (group >= n.batch * n.keys * n.keyHeads) { return; }
  let keyHead = group % n.keyHeads;
  let s = (group / n.keyHeads) % n.keys;
  let b = group / (n.keyHeads * n.keys);
  let shared_ = n.queryHeads / n.keyHeads;
  // All queries of all heads that share this key.
  let queries = n.length * shared_;
  var keyResult = array<f32, ${PARTS}>();
  var valueResult = array<f32, ${PARTS}>();
  for (var begin = 0u; begin < queries; begin += SIZE) {
    let inTile = min(SIZE, queries - begin);
    var slope = 0.0;
    var weight = 0.0;
    if (lane < inTile) {
      let t = (begin + lane) / shared_;
      if (sees(b, t, s)) {
        let head = keyHead * shared_ + (begin + lane) % shared_;
        let from_ = queryAt(b, t, head);
        let at = 3u * ((b * n.length + t) * n.queryHeads + head);
        let both = products(from_, group * n.width);
        weight = exp(both.x - statistics[at]) * statistics[at + 1u];
        slope = weight * (both.y - statistics[at + 2u]) * slopeOf(both.x);
      }
    }
    slopes[lane] = slope;
    weights[lane] = weight;
    workgroupBarrier();
    for (var p = 0u; p * SIZE < n.width; p++) {
      let h = p * SIZE + lane;
      if (h >= n.width) { break; }
      for (var i = 0u; i < inTile; i++) {
        let from_ = queryAt(b, (begin + i) / shared_, keyHead * shared_ + (begin + i) % shared_) + h;
        keyResult[p] += slopes[i] * q[from_];
        valueResult[p] += weights[i] * dy[from_];
      }
    }
    workgroupBarrier();
  }
  for (var p = 0u; p * SIZE < n.width; p++) {
    let h = p * SIZE + lane;
    if (h >= n.width) { break; }
    dk[group * n.width + h] = keyResult[p] * n.scale;
    dv[group * n.width + h] = valueResult[p];
  }`,
};
