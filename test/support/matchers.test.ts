/** The matcher `toBeAllClose`: what it accepts, and its messages. */
import * as tf from '@tensorflow/tfjs';

describe('toBeAllClose', () => {
  test('accepts tensors, typed arrays and nested arrays of the same values', () => {
    const tensor = tf.tensor2d([
      [1, 2],
      [3, 4],
    ]);
    const flat = Float32Array.of(1, 2, 3, 4);
    for (const actual of [tensor, flat, [1, 2, 3, 4], tensor.arraySync(), [flat.subarray(0, 2), flat.subarray(2)]]) {
      for (const expected of [tensor, flat, [1, 2, 3, 4], tensor.arraySync()]) expect(actual).toBeAllClose(expected);
    }
  });

  test('names the first bad index, both values and the largest error', () => {
    const received = tf.tensor2d([1, 2, 9, 3, 5, 6], [2, 3]);
    const expected = tf.tensor2d([1, 2, 9, 4, 5, 8], [2, 3]);
    const compare = () => expect(received).toBeAllClose(expected, {atol: 0.5});
    expect(compare).toThrow('2 of 6 values are further off.');
    expect(compare).toThrow('First at [1, 0]: expected 4, received 3.');
    expect(compare).toThrow('Largest error: 2 at [1, 2]: expected 8, received 6.');
  });

  test('multiplies `rtol` by the largest expected value, and takes `atol` as it is', () => {
    expect([100.05, 0.05]).toBeAllClose([100, 0], {rtol: 1e-3});
    expect([100.2, 0]).not.toBeAllClose([100, 0], {rtol: 1e-3});
    expect([100.2, 0]).toBeAllClose([100, 0], {atol: 0.3});
    expect([1e-6, 0]).toBeAllClose([0, 0], 1e-5);
    expect([1e-6, 0]).not.toBeAllClose([0, 0], {rtol: 1e-5});
    expect([1 + 2 ** -20, 2]).not.toBeAllClose([1, 2], {atol: 0});
  });

  test.each([
    ['NaN', [NaN, 1], [NaN, 1]],
    ['infinity', [Infinity, 1], [Infinity, 1]],
    ['a value where NaN is expected', [1, 1], [NaN, 1]],
    ['another length', [1], [1, 1]],
    ['another length of nested arrays', [[1, 1]], [1]],
  ])('refuses %s', (_, actual, expected) => {
    expect(actual).not.toBeAllClose(expected, 1);
  });

  test('refuses another shape', () => {
    expect(() => expect(tf.ones([2, 3])).toBeAllClose(tf.ones([3, 2]))).toThrow(
      'Expected shape [3,2]. Received: [2,3].',
    );
    expect(() => expect(tf.ones([2])).toBeAllClose([[1, 1]])).toThrow('Expected shape [1,2]. Received: [2].');
  });

  test('reports the largest error of values that should differ', () => {
    expect(() => expect([1, 2]).not.toBeAllClose([1, 2.5], {atol: 1})).toThrow(
      'The largest error of 2 values is 0.5 at [1]: expected 2.5, received 2.',
    );
  });
});
