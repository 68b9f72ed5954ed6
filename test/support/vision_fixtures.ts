/** Reads test/fixtures/vision, which make_vision_fixtures.py describes. */
import * as tf from '@tensorflow/tfjs';
import {fixtureBytes, fixtureJson} from './fixtures';

/** Offset in the file of values, and shape. */
type Stored = [number, number[]];

interface Cases {
  encoders: {
    name: string;
    config: Record<string, number>;
    numVisionTokensPerImage: number;
    weights: Record<string, Stored>;
    runs: {images: Stored; output: Stored}[];
  }[];
  interleave: {name: string; tokens: number; indices: number[][]; images: Stored; text: Stored; output: Stored}[];
  dense: {activation: string; x: Stored; kernel: Stored; bias: Stored; output: Stored}[];
  layerNormalization: {epsilon: number; x: Stored; gamma: Stored; beta: Stored; output: Stored}[];
}

const bytes = fixtureBytes('vision/values.bin');
const values = new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));

export const CASES = fixtureJson<Cases>('vision/cases.json');

export function stored([offset, shape]: Stored): tf.Tensor {
  return tf.tensor(values.slice(offset, offset + tf.util.sizeFromShape(shape)), shape, 'float32');
}

/** Largest absolute difference; the shapes must be equal. */
export function maxDifference(actual: tf.Tensor, expected: tf.Tensor): number {
  expect(actual.shape).toEqual(expected.shape);
  const [a, b] = [actual.dataSync(), expected.dataSync()];
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    // A NaN compares as false, so it must be turned into something that does not.
    largest = Math.max(largest, Number.isNaN(difference) ? Infinity : difference);
  }
  return largest;
}

/** Fails unless `f` and its gradients are those of `plain`, for a random upstream gradient, and nothing leaks. */
export function expectSameGradients(
  f: (...inputs: tf.Tensor[]) => tf.Tensor,
  plain: (...inputs: tf.Tensor[]) => tf.Tensor,
  inputs: tf.Tensor[],
  tolerance = 2e-5,
): void {
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const expected = plain(...inputs);
    expect(maxDifference(f(...inputs), expected)).toBeLessThan(tolerance);
    const dy = tf.randomNormal(expected.shape, 0, 1, 'float32', 5);
    const actualGradients = tf.grads(f)(inputs, dy);
    tf.grads(plain)(inputs, dy).forEach((gradient, i) => {
      expect(maxDifference(actualGradients[i]!, gradient)).toBeLessThan(tolerance);
    });
  });
  expect(tf.memory().numTensors).toBe(before);
}
