/** Sums over the softmax of rows, and draws from it. */
import {type Program} from '../program';
import {ORDER} from './order';

const SIZE = 256;

/** exp((x − largest) / temperature), of the bits of both. */
export const WEIGHT = `
fn weight(bits: u32, largest: u32) -> f32 {
  if (isNan(bits) || keyOfFloat(bits) <= LEAST_KEY) { return select(0.0, 1.0, bits == largest); }
  if (keyOfFloat(bits) == keyOfFloat(largest)) { return 1.0; }
  // If the largest value is infinite, finite values have no weight.
  if (largest == 0x7f800000u) { return 0.0; }
  return exp((bitcast<f32>(bits) * n.scale - bitcast<f32>(largest) * n.scale) / n.temperature);
}`;

/**
 * The largest value of a row and the sum of the weights exp((x − largest) / temperature); x and temperature are scaled so
 * that no difference overflows. Each invocation sums its own columns, and their sums are added in order.
 */
const declarations = `${ORDER}
var<workgroup> keys: array<u32, ${SIZE}>;
var<workgroup> sums: array<f32, ${SIZE}>;
var<workgroup> nans: array<u32, ${SIZE}>;${WEIGHT}`;

const SUMS = `
  if (group >= n.rows) { return; }
  let row = group * n.columns;
  let begin = min(n.columns, lane * n.share);
  let end = min(n.columns, begin + n.share);
  var key = 0u;
  var nan = 0u;
  for (var i = begin; i < end; i++) {
    let bits = x[row + i];
    if (isNan(bits)) { nan = 1u; } else { key = max(key, keyOfFloat(bits)); }
  }
  keys[lane] = key;
  nans[lane] = nan;
  for (var step = SIZE / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (lane < step) {
      keys[lane] = max(keys[lane], keys[lane + step]);
      nans[lane] |= nans[lane + step];
    }
  }
  workgroupBarrier();
  let largest = floatOfKey(keys[0]);
  var sum = 0.0;
  for (var i = begin; i < end; i++) { sum += weight(x[row + i], largest); }
  sums[lane] = sum;
  workgroupBarrier();
  if (lane > 0u) { return; }`;

const numbers = {
  rows: 'u32',
  columns: 'u32',
  share: 'u32',
  scale: 'f32',
  temperature: 'f32',
} as const;

/** Columns that each invocation sums. */
export const softmaxShare = (columns: number): number => Math.ceil(columns / SIZE);

/** x (rows, columns) → y (rows, 2): the largest value, NaN if there is a NaN; the sum of the weights. */
export const softmaxSums: Program = {
  name: 'softmax_sums',
  size: SIZE,
  reads: {x: 'array<u32>'},
  writes: {y: 'array<u32>'},
  numbers,
  declarations,
  body: `${SUMS}
  var total = 0.0;
  for (var i = 0u; i < SIZE; i++) { total += sums[i]; }
  y[2u * group] = select(largest, 0x7fc00000u, nans[0] != 0u);
  y[2u * group + 1u] = bitcast<u32>(total);`,
};

/** x (rows, columns), uniforms (rows) → y (rows): the first column at which the sum of the weights exceeds its part. */
export const draw: Program = {
  name: 'draw',
  size: SIZE,
  reads: {x: 'array<u32>', uniforms: 'array<f32>'},
  writes: {y: 'array<i32>'},
  numbers,
  declarations,
  body: `${SUMS}
  if (nans[0] != 0u || keys[0] <= LEAST_KEY) {
    y[group] = -1;
    return;
  }
  var total = 0.0;
  for (var i = 0u; i < SIZE; i++) { total += sums[i]; }
  var remaining = uniforms[group] * total;
  // Rounding may leave nothing above the part: then the last column with a weight is drawn.
  var share = 0u;
  for (var i = 0u; i < SIZE; i++) {
    if (sums[i] <= 0.0) { continue; }
    if (i > 0u && sums[share] > 0.0) { remaining -= sums[share]; }
    share = i;
    if (remaining < sums[i]) { break; }
  }
  var result = 0u;
  let from_ = share * n.share;
  for (var i = from_; i < min(n.columns, from_ + n.share); i++) {
    let w = weight(x[row + i], largest);
    if (w <= 0.0) { continue; }
    result = i;
    remaining -= w;
    if (remaining < 0.0) { break; }
  }
  y[group] = bitcast<i32>(result);`,
};
