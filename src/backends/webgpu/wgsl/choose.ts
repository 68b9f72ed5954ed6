/** Programs that choose the next token of each row on the GPU, and record it. */
import {type Program} from '../program';
import {ORDER} from './order';
import {WEIGHT} from './softmax';

const SIZE = 64;

/** Columns of a piece of which the best is found first. */
export const BEST_PIECE = 2048;

const DECLARATIONS = `${ORDER}
const NAN_KEY = 0xffffffffu;
var<workgroup> keys: array<u32, ${SIZE}>;
var<workgroup> places: array<u32, ${SIZE}>;`;

/** The best of all invocations in `keys[0]` and `places[0]`, the first of equals. NaN counts as the largest. */
const REDUCE = `
  keys[lane] = key;
  places[lane] = place;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      let other = lane + step;
      if (keys[other] > keys[lane] || (keys[other] == keys[lane] && places[other] < places[lane])) {
        keys[lane] = keys[other];
        places[lane] = places[other];
      }
    }
  }`;

/** x (rows, columns) → candidates (rows, pieces, 2): the best of each piece, its key and its column. */
export const bestOfPieces: Program = {
  name: 'best of pieces',
  size: SIZE,
  reads: {x: 'array<u32>'},
  writes: {candidates: 'array<u32>'},
  numbers: {rows: 'u32', columns: 'u32', pieces: 'u32'},
  declarations: DECLARATIONS,
  body: `
  if (group >= n.rows * n.pieces) { return; }
  let row = group / n.pieces;
  let begin = (group % n.pieces) * ${BEST_PIECE}u;
  let end = min(n.columns, begin + ${BEST_PIECE}u);
  var key = 0u;
  var place = 0xffffffffu;
  for (var i = begin + lane; i < end; i += SIZE) {
    let bits = x[row * n.columns + i];
    let own = select(keyOfFloat(bits), NAN_KEY, isNan(bits));
    if (own > key) {
      key = own;
      place = i;
    }
  }${REDUCE}
  if (lane > 0u) { return; }
  candidates[2u * group] = keys[0];
  candidates[2u * group + 1u] = places[0];`,
};

/** candidates → picked (rows): the best column; −1 for a row with a NaN or no value above −Infinity. */
export const bestPicked: Program = {
  name: 'best picked',
  size: SIZE,
  reads: {candidates: 'array<u32>'},
  writes: {picked: 'array<i32>'},
  numbers: {rows: 'u32', pieces: 'u32'},
  declarations: DECLARATIONS,
  body: `
  if (group >= n.rows) { return; }
  var key = 0u;
  var place = 0xffffffffu;
  for (var i = lane; i < n.pieces; i += SIZE) {
    let at = 2u * (group * n.pieces + i);
    if (candidates[at] > key) {
      key = candidates[at];
      place = candidates[at + 1u];
    }
  }${REDUCE}
  if (lane > 0u) { return; }
  let usable = keys[0] > LEAST_KEY && keys[0] != NAN_KEY;
  picked[group] = select(-1, bitcast<i32>(places[0]), usable);`,
};

/** Maximum number of tokens that {@link drawBest} draws from. */
export const MOST_DRAWN = 64;

/**
 * Draws from the k best tokens (rows, 2, k) of `topKPick` → picked (rows): by their softmax at a temperature, without
 * those below `minP` times the largest weight. With `sums` (rows, 2) of the whole softmax, only from the first ones,
 * until their probabilities exceed `p`. −1 for a row with a NaN or no value above −Infinity; −2 if `whole` is 0, so that
 * there are more tokens, and some of them may have to be drawn as well.
 */
export const drawBest = ({sums}: {sums: boolean}): Program => ({
  name: `draw best${sums ? ' sums' : ''}`,
  size: SIZE,
  reads: {
    best: 'array<u32>',
    ...(sums ? {sums: 'array<f32>'} : {}),
    uniforms: 'array<f32>',
  },
  writes: {picked: 'array<i32>'},
  numbers: {rows: 'u32', k: 'u32', whole: 'u32', scale: 'f32', temperature: 'f32', p: 'f32', minP: 'f32'},
  declarations: `${ORDER}${WEIGHT}`,
  body: `
  let row = group * SIZE + lane;
  if (row >= n.rows) { return; }
  let first = 2u * row * n.k;
  let largest = best[first];
  if (isNan(largest) || keyOfFloat(largest) <= LEAST_KEY) {
    picked[row] = -1;
    return;
  }
  var weights = array<f32, ${MOST_DRAWN}>();
  var kept = n.k;
  var sum = 0.0;
  var enough = n.whole == 1u;
  for (var i = 0u; i < n.k; i++) {
    weights[i] = weight(best[first + i], largest)${sums ? ' / sums[2u * row + 1u]' : ''};
    ${
      sums
        ? `sum += weights[i];
    if (sum > n.p) {
      kept = i + 1u;
      enough = true;
      break;
    }`
        : ''
    }
  }
  let least = n.minP * weights[0];
  ${sums ? '' : 'enough = enough || weights[n.k - 1u] < least;'}
  if (!enough) {
    picked[row] = -2;
    return;
  }
  sum = 0.0;
  for (var i = 0u; i < kept; i++) {
    if (weights[i] < least) { weights[i] = 0.0; }
    sum += weights[i];
  }
  var remaining = uniforms[row] * sum;
  var last = 0u;
  for (var i = 0u; i < kept; i++) {
    if (weights[i] <= 0.0) { continue; }
    last = i;
    remaining -= weights[i];
    if (remaining < 0.0) { break; }
  }
  picked[row] = i32(bitcast<f32>(best[first + n.k + last]));`,
});

/**
 * Penalties on the logits x (rows, columns), in place. `seen` has for each token twice the number of times that it is in
 * the new text, and 1 more if it is in the text at all.
 */
export const penalizeSeen: Program = {
  name: 'penalize seen',
  size: SIZE,
  reads: {seen: 'array<u32>'},
  writes: {x: 'array<f32>'},
  numbers: {count: 'u32', factor: 'f32', presence: 'f32', frequency: 'f32'},
  body: `
  let index = group * SIZE + lane;
  if (index >= n.count) { return; }
  let times = seen[index];
  if (times == 0u) { return; }
  let value = x[index];
  let scaled = select(value * n.factor, value / n.factor, value > 0.0);
  let added = f32(times >> 1u);
  x[index] = scaled - select(0.0, n.presence + added * n.frequency, times > 1u);`,
};

/**
 * Records the picked tokens (rows): in the history (steps, rows), as the next tokens, and with `penalized` in `seen`
 * (rows, columns). Where none could be picked, the next token is arbitrary: the host will not use the following ones.
 */
export const note = ({penalized}: {penalized: boolean}): Program => ({
  name: `note${penalized ? ' penalized' : ''}`,
  size: SIZE,
  reads: {picked: 'array<i32>', step: 'array<u32>'},
  writes: {history: 'array<i32>', next: 'array<i32>', ...(penalized ? {seen: 'array<u32>'} : {})},
  numbers: {rows: 'u32', columns: 'u32'},
  body: `
  let row = group * SIZE + lane;
  if (row >= n.rows) { return; }
  let token = picked[row];
  history[step[0] * n.rows + row] = token;
  next[row] = max(token, 0);
  ${penalized ? 'if (token >= 0) { seen[row * n.columns + u32(token)] = (seen[row * n.columns + u32(token)] | 1u) + 2u; }' : ''}`,
});
