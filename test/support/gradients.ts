/** Compares the gradients of two implementations. */
import * as tf from '@tensorflow/tfjs';
import {Recording} from '../../src/training/tape';
import {type Tolerance} from './matchers';
import {normal} from './random';

type Operation = (...inputs: tf.Tensor[]) => tf.Tensor;

/** Expects `f` to have the values and gradients of `plain`, for a random upstream gradient, and no leaks. */
export function expectSameGradients(f: Operation, plain: Operation, inputs: tf.Tensor[], tolerance?: Tolerance): void {
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const expected = plain(...inputs);
    expect(f(...inputs)).toBeAllClose(expected, tolerance);
    const dy = normal(expected.shape, 77);
    const actual = tf.grads(f)(inputs, dy);
    tf.grads(plain)(inputs, dy).forEach((gradient, i) => expect(actual[i]).toBeAllClose(gradient, tolerance));
    // One input at a time as well: tfjs computes only the requested gradients, and each must work without the others.
    inputs.forEach((_, i) => {
      const only = (x: tf.Tensor) => f(...inputs.map((input, j) => (j === i ? x : input)));
      expect(tf.grad(only)(inputs[i]!, dy)).toBeAllClose(actual[i]!, 1e-6);
    });
    // A recording disposes every tensor that no gradient declares as an input; the gradients must still be the same.
    for (const wanted of [inputs, ...inputs.map(input => [input])]) {
      const recording = new Recording(() => f(...inputs.map(input => tf.mul(input, 1))), wanted);
      const gradients = recording.gradients(dy);
      recording.dispose();
      wanted.forEach((input, i) => expect(gradients[i]).toBeAllClose(actual[inputs.indexOf(input)]!, 1e-6));
    }
  });
  expect(tf.memory().numTensors).toBe(before);
}
