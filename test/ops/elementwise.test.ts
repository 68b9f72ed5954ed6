/** GELU, soft cap and image numbers, on every backend. */
import * as tf from '@tensorflow/tfjs';
import {gatedGelu, gatedGeluOp, gelu} from '../../src/ops/gated_gelu';
import {imageNumbers} from '../../src/ops/image_numbers';
import {softCap} from '../../src/ops/soft_cap';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

const geluOf = (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
const plainGelu = (x: tf.Tensor) => {
  const cube = tf.mul(tf.mul(x, x), x);
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(tf.mul(tf.add(x, tf.mul(cube, 0.044715)), Math.sqrt(2 / Math.PI))), 1));
};

onEachBackend(() => {
  disposeAfterEach();

  describe('gelu', () => {
    test.each([[[1]], [[3, 5]], [[2, 3, 1, 4]]])('of %j', shape => {
      const [gate, value] = [tf.mul(normal(shape, 1), 3), normal(shape, 2)];
      expect(gelu(gate)).toBeAllClose(Array.from(gate.dataSync(), geluOf));
      const values = value.dataSync();
      const expected = Array.from(gate.dataSync(), (x, i) => geluOf(x) * values[i]!);
      expect(gatedGeluOp.reference({gate, value}, {})).toBeAllClose(expected);
      expectSameGradients(
        (...[g, v]) => gatedGelu(g!, v!),
        (...[g, v]) => tf.mul(plainGelu(g!), v!),
        [gate, value],
      );
    });

    test('saturates far from zero', () => {
      const x = tf.tensor1d([-100, -20, 0, 20, 100]);
      const exact = gatedGeluOp.reference({gate: x, value: tf.onesLike(x)}, {});
      expect(Array.from(exact.dataSync())).toEqual([-0, -0, 0, 20, 100]);
      expect(gelu(x)).toBeAllClose(exact, {atol: 1e-35});
      const slope = tf.grad(gate => gatedGelu(gate, tf.onesLike(x)))(x);
      expect(slope).toBeAllClose([0, 0, 0.5, 1, 1], 1e-6);
    });
  });

  describe('softCap', () => {
    test('caps its input, and returns it unchanged without a cap', () => {
      const x = tf.mul(normal([3, 4], 1), 10);
      expect(softCap(x, null)).toBe(x);
      expect(softCap(x, 5)).toBeAllClose(Array.from(x.dataSync(), v => 5 * Math.tanh(v / 5)));
      expectSameGradients(
        y => softCap(y, 5),
        y => tf.mul(tf.tanh(tf.mul(y, 1 / 5)), 5),
        [x],
      );
    });
  });

  describe('imageNumbers', () => {
    test.each(['int32', 'bool', 'float32'] as const)('numbers the runs of a mask of %s', dtype => {
      const mask = tf.tensor2d(
        [
          [0, 1, 1, 0, 1],
          [1, 0, 1, 0, 1],
          [0, 0, 0, 0, 0],
          [1, 1, 1, 1, 1],
        ],
        undefined,
        dtype,
      );
      const before = tf.memory().numTensors;
      const numbers = imageNumbers(mask);
      expect(tf.memory().numTensors).toBe(before + 1);
      expect(numbers.dtype).toBe('int32');
      expect(numbers.arraySync()).toEqual([
        [0, 1, 1, 0, 2],
        [1, 0, 2, 0, 3],
        [0, 0, 0, 0, 0],
        [1, 1, 1, 1, 1],
      ]);
    });

    test('takes one token', () => {
      expect(imageNumbers(tf.tensor2d([[1]])).arraySync()).toEqual([[1]]);
    });
  });
});
