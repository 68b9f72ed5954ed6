/** `toBeAllClose`: all tests compare computed numbers with this matcher. */
import * as tf from '@tensorflow/tfjs';

export type NestedNumbers = ArrayLike<number> | readonly NestedNumbers[];
export type Numbers = tf.Tensor | NestedNumbers;

/** An error may be as large as `atol`, or as `rtol` times the largest expected value. A single number sets both. */
export type Tolerance = number | {rtol?: number; atol?: number};

const DEFAULT_TOLERANCE = 1e-5;

interface Values {
  data: ArrayLike<number>;
  /** Missing for flat arrays, which can be compared with tensors of any shape. */
  shape?: readonly number[];
}

function shapeOf(array: NestedNumbers): number[] {
  const first = array[0];
  return typeof first === 'object' ? [array.length, ...shapeOf(first)] : [array.length];
}

const flatten = (array: NestedNumbers): number[] =>
  Array.from(array as ArrayLike<number | NestedNumbers>).flatMap(item =>
    typeof item === 'object' ? flatten(item) : item,
  );

function valuesOf(numbers: Numbers): Values {
  if (numbers instanceof tf.Tensor) return {data: numbers.dataSync(), shape: numbers.shape};
  if (typeof numbers[0] !== 'object') return {data: numbers as ArrayLike<number>};
  return {data: flatten(numbers), shape: shapeOf(numbers)};
}

function indices(flat: number, shape: readonly number[] | undefined): string {
  if (!shape) return `[${flat}]`;
  const strides = shape.map((_, axis) => tf.util.sizeFromShape(shape.slice(axis + 1)));
  return `[${shape.map((size, axis) => Math.floor(flat / strides[axis]!) % size).join(', ')}]`;
}

function compare(received: Numbers, wanted: Numbers, tolerance: Tolerance): {pass: boolean; message: () => string} {
  const [actual, expected] = [valuesOf(received), valuesOf(wanted)];
  if (actual.shape && expected.shape && !tf.util.arraysEqual([...actual.shape], [...expected.shape])) {
    const shapes = `Expected shape [${expected.shape.join()}]. Received: [${actual.shape.join()}].`;
    return {pass: false, message: () => shapes};
  }
  const count = expected.data.length;
  if (actual.data.length !== count) {
    const lengths = `Expected ${count} values. Received: ${actual.data.length}.`;
    return {pass: false, message: () => lengths};
  }
  const {rtol = 0, atol = 0} = typeof tolerance === 'number' ? {rtol: tolerance, atol: tolerance} : tolerance;
  let scale = 0;
  for (let i = 0; i < count; i++) scale = Math.max(scale, Math.abs(expected.data[i]!));
  const allowed = Math.max(atol, rtol * scale);

  let [first, bad, worst, largest] = [-1, 0, -1, -1];
  for (let i = 0; i < count; i++) {
    const difference = Math.abs(actual.data[i]! - expected.data[i]!);
    // NaN is not close to any value, not even to an expected NaN or infinity.
    const error = Number.isNaN(difference) ? Infinity : difference;
    if (error > largest) [worst, largest] = [i, error];
    if (error <= allowed && error < Infinity) continue;
    bad += 1;
    if (first < 0) first = i;
  }
  const describe = (i: number) =>
    `${indices(i, actual.shape ?? expected.shape)}: expected ${expected.data[i]}, received ${actual.data[i]}`;
  const limit = `errors up to ${allowed} (atol ${atol}, rtol ${rtol} of ${scale})`;
  const message = () =>
    bad === 0
      ? `Expected values that differ by more than ${limit}. The largest error of ${count} values is ${largest}` +
        (worst < 0 ? '.' : ` at ${describe(worst)}.`)
      : `Expected ${limit}. ${bad} of ${count} values are further off.\n` +
        `First at ${describe(first)}.\nLargest error: ${largest} at ${describe(worst)}.`;
  return {pass: bad === 0, message};
}

expect.extend({
  toBeAllClose: (received: Numbers, expected: Numbers, tolerance: Tolerance = DEFAULT_TOLERANCE) =>
    compare(received, expected, tolerance),
});
