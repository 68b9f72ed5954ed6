/** Softmax of rows, its sums, and samples from it. Sums are in double precision: a vocabulary has 262,144 columns. */
import {DrawWord, SoftmaxSumsWord, SoftmaxWord} from '../layouts/sampling';
import {
  argument,
  barrier,
  first,
  floatArgument,
  last,
  pointer,
  scratch,
  scratchOf,
  thread,
  threads,
} from '../parts/threads';
import {exp4, maxOf} from '../parts/vector';

/** Below this exponent, `exp4` returns a constant, not zero. */
const LEAST: f32 = -87;

let largest: v128 = f32x4.splat(0);
let temperature: v128 = f32x4.splat(1);

function setSoftmax(largest_: f32, temperature_: f32): void {
  largest = f32x4.splat(largest_);
  temperature = f32x4.splat(temperature_);
}

/** exp((x − largest) / temperature) */
function weigh(x: v128): v128 {
  const power = f32x4.div(f32x4.sub(x, largest), temperature);
  return v128.and(exp4(power), f32x4.ge(power, f32x4.splat(LEAST)));
}

function weightAt(at: usize): f32 {
  return f32x4.extract_lane(weigh(v128.load32_splat(at)), 0);
}

function largestOf(x: usize, count: i32): f32 {
  let best = f32x4.splat(-Infinity);
  const end = x + ((<usize>count) << 2);
  for (; x + 16 <= end; x += 16) best = f32x4.pmax(best, v128.load(x));
  let value = maxOf(best);
  for (; x < end; x += 4) {
    const v = load<f32>(x);
    if (v > value) value = v;
  }
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
  const end = x + ((<usize>count) << 2);
  for (; x + 16 <= end; x += 16) sum += sumOfFour(weigh(v128.load(x)));
  for (; x < end; x += 4) sum += <f64>weightAt(x);
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

/** Largest value of a row. Every thread reads a part of it. */
function shareLargest(x: usize, columns: i32): f32 {
  store<f32>(scratch(), largestOf(x + ((<usize>first(columns)) << 2), last(columns) - first(columns)));
  barrier();
  let value: f32 = -Infinity;
  for (let t = 0; t < threads; t++) value = max(value, load<f32>(scratchOf(t)));
  return value;
}

/**
 * Sum of all weights. Every thread adds up a part and stores the sum after its largest value instead of overwriting it:
 * a thread that has passed both barriers may begin the next row while others still read.
 */
function shareSum(x: usize, columns: i32): f64 {
  store<f64>(scratch(), sumOfWeights(x + ((<usize>first(columns)) << 2), last(columns) - first(columns)), 8);
  barrier();
  let sum: f64 = 0;
  for (let t = 0; t < threads; t++) sum += load<f64>(scratchOf(t), 8);
  return sum;
}

/** y = weights / sum */
function divideRow(x: usize, y: usize, count: i32, sum: f64): void {
  const factor = f32x4.splat(<f32>(1 / sum));
  const end = x + ((<usize>count) << 2);
  for (; x + 16 <= end; x += 16, y += 16) v128.store(y, f32x4.mul(weigh(v128.load(x)), factor));
  for (; x < end; x += 4, y += 4) store<f32>(y, weightAt(x) * f32x4.extract_lane(factor, 0));
}

/** SOFTMAX: threads take rows, or parts of each row if there are fewer rows than threads. */
export function softmax(): void {
  const rows = argument(SoftmaxWord.rows);
  const columns = argument(SoftmaxWord.columns);
  const step = (<usize>columns) << 2;
  if (rows >= threads) {
    for (let row = first(rows); row < last(rows); row++) {
      const x = pointer(SoftmaxWord.x) + <usize>row * step;
      setSoftmax(largestOf(x, columns), 1);
      divideRow(x, pointer(SoftmaxWord.y) + <usize>row * step, columns, sumOfWeights(x, columns));
    }
    return;
  }
  const part = (<usize>first(columns)) << 2;
  for (let row: usize = 0; row < <usize>rows; row++) {
    const x = pointer(SoftmaxWord.x) + row * step;
    setSoftmax(shareLargest(x, columns), 1);
    const sum = shareSum(x, columns);
    divideRow(x + part, pointer(SoftmaxWord.y) + row * step + part, last(columns) - first(columns), sum);
  }
}

/** SOFTMAX_SUMS: largest value m of each row, and Σ exp((x − m) / temperature). */
export function softmaxSums(): void {
  const columns = argument(SoftmaxSumsWord.columns);
  for (let row: usize = 0; row < <usize>argument(SoftmaxSumsWord.rows); row++) {
    const x = pointer(SoftmaxSumsWord.x) + ((row * <usize>columns) << 2);
    const value = shareLargest(x, columns);
    setSoftmax(value, floatArgument(SoftmaxSumsWord.temperature));
    const sum = shareSum(x, columns);
    if (thread != 0) continue;
    store<f32>(pointer(SoftmaxSumsWord.target) + (row << 3), value);
    store<f32>(pointer(SoftmaxSumsWord.target) + (row << 3), <f32>sum, 4);
  }
}

/** DRAW: for each row the first column at which the cumulative softmax exceeds the row's uniform number. */
export function draw(): void {
  const columns = argument(DrawWord.columns);
  for (let row: usize = 0; row < <usize>argument(DrawWord.rows); row++) {
    const x = pointer(DrawWord.x) + ((row * <usize>columns) << 2);
    setSoftmax(shareLargest(x, columns), floatArgument(DrawWord.temperature));
    const goal = load<f64>(pointer(DrawWord.uniforms) + (row << 3)) * shareSum(x, columns);
    // Which thread's part contains the goal? Every thread finds the same one.
    let owner = 0;
    let before: f64 = 0;
    let sum: f64 = 0;
    for (let t = 0; t < threads; t++) {
      const part = load<f64>(scratchOf(t), 8);
      if (part > 0 && sum <= goal) {
        owner = t;
        before = sum;
      }
      sum += part;
    }
    if (owner != thread) continue;
    const begin = first(columns);
    const found = walk(x + ((<usize>begin) << 2), last(columns) - begin, goal - before);
    store<i32>(pointer(DrawWord.target) + (row << 2), begin + found);
  }
}
