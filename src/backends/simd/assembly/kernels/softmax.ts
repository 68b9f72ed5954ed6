/** Softmax of rows, its sums, and samples from it. Sums are in double precision: a vocabulary has 262,144 columns. */
import {DrawWord, SoftmaxSumsWord, SoftmaxWord} from '../layouts/sampling';
import {
  argument,
  barrier,
  begin,
  chunkOf,
  claim,
  end,
  floatArgument,
  pointer,
  scratchOf,
  thread,
  threads,
} from '../parts/threads';
import {exp4, maxOf} from '../parts/vector';

/** Threads share a row in this many parts, so that the order of its sum does not depend on the number of threads. */
const PARTS = 32;
/** Bytes of the results of a part: its largest value (float32) and, 8 bytes on, its sum (float64). */
const PART_BYTES: usize = 16;

/** Below this exponent, `exp4` returns a constant, not zero. */
const LEAST: f32 = -87;

let largest: v128 = f32x4.splat(0);
let scale: v128 = f32x4.splat(1);
let scaledLargest: v128 = f32x4.splat(0);
let scaledTemperature: v128 = f32x4.splat(1);

function setSoftmax(largest_: f32, scale_: f32, scaledTemperature_: f32): void {
  largest = f32x4.splat(largest_);
  scale = f32x4.splat(scale_);
  scaledLargest = f32x4.mul(largest, scale);
  scaledTemperature = f32x4.splat(scaledTemperature_);
}

/** exp((x − largest) / temperature): 1 for the largest values even if they are infinite, 0 for NaN. */
function weigh(x: v128): v128 {
  const power = f32x4.div(f32x4.sub(f32x4.mul(x, scale), scaledLargest), scaledTemperature);
  const weight = v128.and(exp4(power), f32x4.ge(power, f32x4.splat(LEAST)));
  return v128.bitselect(f32x4.splat(1), weight, f32x4.eq(x, largest));
}

function weightAt(at: usize): f32 {
  return f32x4.extract_lane(weigh(v128.load32_splat(at)), 0);
}

/** NaN if any value is NaN. */
function largestOf(x: usize, count: i32): f32 {
  let best = f32x4.splat(-Infinity);
  let invalid = f32x4.splat(0);
  const stop = x + ((<usize>count) << 2);
  for (; x + 16 <= stop; x += 16) {
    const v = v128.load(x);
    best = f32x4.pmax(best, v);
    invalid = v128.or(invalid, f32x4.ne(v, v));
  }
  let value = v128.any_true(invalid) ? <f32>NaN : maxOf(best);
  for (; x < stop; x += 4) value = max(value, load<f32>(x));
  return value;
}

/** Sum of four weights in a fixed order, because `walk` must arrive at the same sums. */
function sumOfFour(weights: v128): f64 {
  const pairs = f64x2.add(
    f64x2.promote_low_f32x4(weights),
    f64x2.promote_low_f32x4(i32x4.shuffle(weights, weights, 2, 3, 0, 1)),
  );
  return f64x2.extract_lane(pairs, 0) + f64x2.extract_lane(pairs, 1);
}

function sumOfWeights(x: usize, count: i32): f64 {
  let sum: f64 = 0;
  const stop = x + ((<usize>count) << 2);
  for (; x + 16 <= stop; x += 16) sum += sumOfFour(weigh(v128.load(x)));
  for (; x < stop; x += 4) sum += <f64>weightAt(x);
  return sum;
}

/**
 * The first of `count` columns at which the cumulative weight exceeds `rest`; if there is none, the last with a weight.
 */
function walk(x: usize, count: i32, rest: f64): i32 {
  let i = 0;
  for (; i + 4 <= count; i += 4) {
    const sum = sumOfFour(weigh(v128.load(x + ((<usize>i) << 2))));
    if (rest < sum) break;
    rest -= sum;
  }
  for (; i < count; i++) {
    rest -= <f64>weightAt(x + ((<usize>i) << 2));
    if (rest < 0) return i;
  }
  // Reached only because of rounding errors.
  for (i = count - 1; i > 0; i--) {
    if (weightAt(x + ((<usize>i) << 2)) > 0) break;
  }
  return max(i, 0);
}

/** The first column of a part. Parts are whole vectors. */
function partBegin(part: i32, columns: i32): i32 {
  return min(columns, (<i32>((<i64>((columns + 3) >> 2) * part) / PARTS)) << 2);
}

function columnsOf(part: i32, columns: i32): i32 {
  return partBegin(part + 1, columns) - partBegin(part, columns);
}

function addressOf(part: i32, x: usize, columns: i32): usize {
  return x + ((<usize>partBegin(part, columns)) << 2);
}

/** Address of the results of a part, for all threads. */
function resultsOf(part: i32): usize {
  return scratchOf(0) + <usize>part * PART_BYTES;
}

/** Largest value of a row, NaN if any value is NaN. The threads share its parts. */
function shareLargest(x: usize, columns: i32): f32 {
  while (claim(PARTS, 1)) {
    for (let part = begin; part < end; part++) {
      store<f32>(resultsOf(part), largestOf(addressOf(part, x, columns), columnsOf(part, columns)));
    }
  }
  barrier();
  let value: f32 = -Infinity;
  for (let part = 0; part < PARTS; part++) value = max(value, load<f32>(resultsOf(part)));
  return value;
}

/**
 * Sum of all weights. The sum of a part does not overwrite its largest value: a thread that has passed both barriers may
 * begin the next row while others still read.
 */
function shareSum(x: usize, columns: i32): f64 {
  while (claim(PARTS, 1)) {
    for (let part = begin; part < end; part++) {
      store<f64>(resultsOf(part), sumOfWeights(addressOf(part, x, columns), columnsOf(part, columns)), 8);
    }
  }
  barrier();
  let sum: f64 = 0;
  for (let part = 0; part < PARTS; part++) sum += load<f64>(resultsOf(part), 8);
  return sum;
}

/** y = weights / sum */
function divideRow(x: usize, y: usize, count: i32, sum: f64): void {
  const factor = f32x4.splat(<f32>(1 / sum));
  const stop = x + ((<usize>count) << 2);
  for (; x + 16 <= stop; x += 16, y += 16) v128.store(y, f32x4.mul(weigh(v128.load(x)), factor));
  for (; x < stop; x += 4, y += 4) store<f32>(y, weightAt(x) * f32x4.extract_lane(factor, 0));
}

/** For softmax: infinite values make all results NaN, as in tfjs. */
function finiteOrNaN(value: f32): f32 {
  return isFinite(value) ? value : <f32>NaN;
}

/** SOFTMAX: threads share rows, or the parts of each row if there are fewer rows than threads. */
export function softmax(): void {
  const rows = argument(SoftmaxWord.rows);
  const columns = argument(SoftmaxWord.columns);
  const step = (<usize>columns) << 2;
  if (rows >= threads) {
    while (claim(rows, chunkOf(rows, step))) {
      for (let row = begin; row < end; row++) {
        const x = pointer(SoftmaxWord.x) + <usize>row * step;
        setSoftmax(finiteOrNaN(largestOf(x, columns)), 1, 1);
        divideRow(x, pointer(SoftmaxWord.y) + <usize>row * step, columns, sumOfWeights(x, columns));
      }
    }
    return;
  }
  for (let row: usize = 0; row < <usize>rows; row++) {
    const x = pointer(SoftmaxWord.x) + row * step;
    setSoftmax(finiteOrNaN(shareLargest(x, columns)), 1, 1);
    const sum = shareSum(x, columns);
    const y = pointer(SoftmaxWord.y) + row * step;
    while (claim(PARTS, 1)) {
      for (let part = begin; part < end; part++) {
        divideRow(addressOf(part, x, columns), addressOf(part, y, columns), columnsOf(part, columns), sum);
      }
    }
    barrier();
  }
}

/** SOFTMAX_SUMS: largest value m of each row, or NaN, and Σ exp((x − m) / temperature). */
export function softmaxSums(): void {
  const columns = argument(SoftmaxSumsWord.columns);
  for (let row: usize = 0; row < <usize>argument(SoftmaxSumsWord.rows); row++) {
    const x = pointer(SoftmaxSumsWord.x) + ((row * <usize>columns) << 2);
    const value = shareLargest(x, columns);
    setSoftmax(value, floatArgument(SoftmaxSumsWord.scale), floatArgument(SoftmaxSumsWord.temperature));
    const sum = shareSum(x, columns);
    if (thread != 0) continue;
    store<f32>(pointer(SoftmaxSumsWord.target) + (row << 3), value);
    store<f32>(pointer(SoftmaxSumsWord.target) + (row << 3), <f32>sum, 4);
  }
}

/**
 * DRAW: for each row the first column at which the cumulative softmax exceeds the row's uniform number; −1 for a row
 * that has a NaN or no value above −Infinity.
 */
export function draw(): void {
  const columns = argument(DrawWord.columns);
  for (let row: usize = 0; row < <usize>argument(DrawWord.rows); row++) {
    const x = pointer(DrawWord.x) + ((row * <usize>columns) << 2);
    const value = shareLargest(x, columns);
    setSoftmax(value, floatArgument(DrawWord.scale), floatArgument(DrawWord.temperature));
    const goal = load<f64>(pointer(DrawWord.uniforms) + (row << 3)) * shareSum(x, columns);
    if (<i32>(row % <usize>threads) != thread) continue;
    // Which part contains the goal?
    let owner = 0;
    let before: f64 = 0;
    let sum: f64 = 0;
    for (let part = 0; part < PARTS; part++) {
      const weight = load<f64>(resultsOf(part), 8);
      if (weight > 0 && sum <= goal) {
        owner = part;
        before = sum;
      }
      sum += weight;
    }
    if (!(value > -Infinity)) {
      store<i32>(pointer(DrawWord.target) + (row << 2), -1);
      continue;
    }
    const found = walk(addressOf(owner, x, columns), columnsOf(owner, columns), goal - before);
    store<i32>(pointer(DrawWord.target) + (row << 2), partBegin(owner, columns) + found);
  }
}
