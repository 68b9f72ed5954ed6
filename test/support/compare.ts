/** Random tensors, and comparisons whose tolerance grows with the numbers compared. */
import * as tf from '@tensorflow/tfjs';
import {Recording} from '../../src/training/tape';
import {maxDifference} from './numbers';

/** Normal numbers, the same for the same seed. */
export const normal = (shape: number[], seed: number): tf.Tensor => tf.randomNormal(shape, 0, 1, 'float32', seed + 1);

/** A generator of numbers in [0, 1), the same for the same seed. */
export function uniform(seed: number): () => number {
  let state = (seed * 2654435761) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Fails unless shapes are equal and numbers as close as `tolerance` times the largest of them, or 1. */
export function expectClose(actual: tf.Tensor, expected: tf.Tensor | ArrayLike<number>, tolerance = 1e-5): void {
  if (expected instanceof tf.Tensor) expect(actual.shape).toEqual(expected.shape);
  const values = expected instanceof tf.Tensor ? expected.dataSync() : expected;
  const largest = Array.from(values).reduce((max, value) => Math.max(max, Math.abs(value)), 1);
  expect(maxDifference(actual.dataSync(), values)).toBeLessThan(tolerance * largest);
}

type Operation = (...inputs: tf.Tensor[]) => tf.Tensor;

/** Fails unless `f` and its gradients are those of `plain`, for a random upstream gradient, and nothing is left over. */
export function expectSameGradients(f: Operation, plain: Operation, inputs: tf.Tensor[], tolerance = 1e-5): void {
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const expected = plain(...inputs);
    expectClose(f(...inputs), expected, tolerance);
    const dy = normal(expected.shape, 77);
    const actual = tf.grads(f)(inputs, dy);
    tf.grads(plain)(inputs, dy).forEach((gradient, i) => expectClose(actual[i]!, gradient, tolerance));
    // Each alone as well: tfjs leaves out what nobody asks for, and the others must not miss it.
    inputs.forEach((_, i) => {
      const only = (x: tf.Tensor) => f(...inputs.map((input, j) => (j === i ? x : input)));
      expectClose(tf.grad(only)(inputs[i]!, dy), actual[i]!, 1e-6);
    });
    // And where nothing is left of the inputs but what these gradients are said to read.
    for (const wanted of [inputs, ...inputs.map(input => [input])]) {
      const recording = new Recording(() => f(...inputs.map(input => tf.mul(input, 1))), wanted);
      const gradients = recording.gradients(dy);
      recording.dispose();
      wanted.forEach((input, i) => expectClose(gradients[i]!, actual[inputs.indexOf(input)]!, 1e-6));
    }
  });
  expect(tf.memory().numTensors).toBe(before);
}
