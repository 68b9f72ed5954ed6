/** What samplers need of a softmax over the vocabulary, without reading back all probabilities. No gradients. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type SoftmaxSumsAttrs = {temperature: number};

/** (rows, columns) → (rows, 2): the largest value of each row, and Σ exp((x − largest) / temperature). */
export const softmaxSumsOp: Op<{x: tf.Tensor}, SoftmaxSumsAttrs> = {
  name: 'Gemma3SoftmaxSums',
  reference: ({x}, {temperature}) =>
    tf.tidy(() => {
      const largest = tf.max(x, -1, true);
      return tf.concat([largest, tf.sum(weights(x, temperature), -1, true)], -1);
    }),
};

export function softmaxSums(x: tf.Tensor2D, temperature: number): tf.Tensor2D {
  return runOp(softmaxSumsOp, {x}, {temperature}) as tf.Tensor2D;
}

/** exp((x − largest) / temperature) */
const weights = (x: tf.Tensor, temperature: number) => tf.exp(tf.div(tf.sub(x, tf.max(x, -1, true)), temperature));

type DrawAttrs = {
  temperature: number;
  /** One number in [0, 1) per row. */
  uniforms: readonly number[];
};

/** Weights are summed within blocks of this size first, then over blocks, so that rounding errors do not accumulate. */
const BLOCK = 512;

/**
 * Draws one column per row from the softmax of the row, (rows, columns) → int32 (rows): the first column where the
 * cumulative weight exceeds uniform · sum.
 */
export const drawOp: Op<{x: tf.Tensor}, DrawAttrs> = {
  name: 'Gemma3Draw',
  reference: ({x}, {temperature, uniforms}) =>
    tf.tidy(() => {
      const [rows, columns] = x.shape as [number, number];
      const width = Math.ceil(columns / BLOCK) * BLOCK;
      const padding: [number, number][] = [
        [0, 0],
        [0, width - columns],
      ];
      const padded = tf.pad(weights(x, temperature), padding);
      const inBlocks = tf.reshape(padded, [rows, -1, BLOCK]);
      const sums = tf.sum(inBlocks, -1); // (rows, blocks)
      const before = tf.expandDims(tf.cumsum(sums, 1, true), -1);
      const upTo = tf.reshape(tf.add(tf.cumsum(inBlocks, 2), before), [rows, width]);
      const target = tf.mul(tf.sum(sums, -1, true), tf.tensor2d([...uniforms], [rows, 1]));
      const possible = tf.greater(padded, 0);
      const passes = tf.logicalAnd(possible, tf.greater(upTo, target));
      const first = (flags: tf.Tensor) => tf.argMax(tf.cast(flags, 'int32'), -1);
      // Rounding may leave no column above the target. Then the last column with a positive weight is drawn.
      const last = tf.sub(tf.scalar(width - 1, 'int32'), first(tf.reverse(possible, 1)));
      return tf.where(tf.any(passes, -1), first(passes), last);
    }),
};

export function drawSoftmax(x: tf.Tensor2D, attrs: DrawAttrs): tf.Tensor1D {
  return runOp(drawOp, {x}, attrs) as tf.Tensor1D;
}
