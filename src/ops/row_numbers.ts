/** Softmax, largest values and random draws over one row of numbers, on the host. */

/** The largest value of a row; NaN if any value is NaN. */
export function largestOf(row: ArrayLike<number>): number {
  let largest = -Infinity;
  for (let i = 0; i < row.length; i++) {
    const value = row[i]!;
    if (value > largest) largest = value;
    else if (Number.isNaN(value)) return NaN;
  }
  return largest;
}

/**
 * (value − largest) / temperature, the logarithm of a weight whose largest is 1. The difference of two infinite values
 * is not a number, but values equal to the largest one have the same weight as it.
 */
export const logWeight = (value: number, largest: number, temperature: number): number =>
  value === largest ? 0 : (value - largest) / temperature;

/**
 * Probabilities for one row of logits. The sum is computed in double precision. All of them are NaN if a logit is NaN,
 * or if none is above −Infinity.
 */
export function softmax(logits: Float32Array, temperature: number): Float32Array {
  const largest = largestOf(logits);
  const probabilities = new Float32Array(logits.length);
  if (!(largest > -Infinity)) return probabilities.fill(NaN);
  let sum = 0;
  for (let i = 0; i < logits.length; i++) {
    sum += probabilities[i] = Math.exp(logWeight(logits[i]!, largest, temperature));
  }
  for (let i = 0; i < logits.length; i++) probabilities[i]! /= sum;
  return probabilities;
}

/**
 * Draws an index with the given weights, which need not sum to one. −1 if no weight is above 0, or if one is NaN.
 */
export function draw(weights: ArrayLike<number>, random: () => number): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) sum += weights[i]!;
  let remaining = random() * sum;
  if (!(sum > 0)) return -1;
  let last = 0;
  for (let i = 0; i < weights.length; i++) {
    if (weights[i]! <= 0) continue;
    last = i;
    remaining -= weights[i]!;
    if (remaining < 0) break;
  }
  return last;
}

/**
 * Indices of the `count` largest values: largest first, and the lower index first among equals. One pass over the
 * values with a heap of `count` indices.
 */
export function topIndices(values: Float32Array, count: number): number[] {
  const better = (a: number, b: number) => values[a]! > values[b]! || (values[a] === values[b] && a < b);
  const heap: number[] = []; // the worst kept index on top
  const sink = (at: number) => {
    for (;;) {
      let worst = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && better(heap[worst]!, heap[child]!)) worst = child;
      }
      if (worst === at) return;
      [heap[at], heap[worst]] = [heap[worst]!, heap[at]!];
      at = worst;
    }
  };
  for (let i = 0; i < values.length; i++) {
    if (heap.length < count) {
      heap.push(i);
      if (heap.length === count) for (let at = (count >> 1) - 1; at >= 0; at--) sink(at);
    } else if (values[i]! > values[heap[0]!]!) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => values[b]! - values[a]! || a - b);
}
