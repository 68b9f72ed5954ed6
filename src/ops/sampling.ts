/** What samplers need from a softmax over the vocabulary, without reading back all probabilities. No gradients. */
import * as tf from '@tensorflow/tfjs';
import {type Op, runOp} from './op';

type SoftmaxSumsAttrs = {temperature: number};

/**
 * (rows, columns) → (rows, 2): the largest value of each row, and Σ exp((x − largest) / temperature). If a row has a
 * NaN, the first number is NaN; if it has no value above −Infinity, the first number is −Infinity. In both cases the
 * second number has no meaning.
 */
export const softmaxSumsOp: Op<{x: tf.Tensor}, SoftmaxSumsAttrs> = {
  name: 'Gemma3SoftmaxSums',
  reference: ({x}, {temperature}) =>
    tf.tidy(() => {
      const largest = largestOrNaN(x);
      return tf.concat([largest, tf.sum(softmaxWeights(x, temperature), -1, true)], -1);
    }),
};

export function softmaxSums(x: tf.Tensor2D, temperature: number): tf.Tensor2D {
  return runOp(softmaxSumsOp, {x}, {temperature}) as tf.Tensor2D;
}

const LARGE = 2 ** 64;

/**
 * A power of two for logits and temperature, so that (x · scale − largest · scale) / (temperature · scale) does not
 * leave the range of float32, and only differences without influence are lost.
 */
export function softmaxScale(temperature: number): number {
  return temperature > LARGE ? 1 / LARGE : temperature < 1 / LARGE ? LARGE : 0.5;
}

/** (rows, 1). The minimum and maximum of some backends skip NaN. */
const largestOrNaN = (x: tf.Tensor) =>
  tf.where(
    tf.any(tf.isNaN(x), -1, true),
    tf.scalar(NaN),
    tf.max(tf.where(tf.isNaN(x), tf.scalar(-Infinity), x), -1, true),
  );

/** exp((x − largest) / temperature): 1 for the largest values even if they are infinite, 0 for NaN. */
export function softmaxWeights(x: tf.Tensor, temperature: number): tf.Tensor {
  const largest = tf.max(x, -1, true);
  const scale = softmaxScale(temperature);
  const power = tf.div(tf.sub(tf.mul(x, scale), tf.mul(largest, scale)), temperature * scale);
  const finite = tf.exp(tf.where(tf.isNaN(power), tf.scalar(-Infinity), power));
  return tf.where(tf.equal(x, largest), tf.scalar(1), finite);
}

/** int32 (rows): −1 for rows that have a NaN or no value above −Infinity, otherwise the given columns. */
const unlessInvalid = (x: tf.Tensor, columns: tf.Tensor) =>
  tf.where(tf.greater(tf.squeeze(largestOrNaN(x), [-1]), -Infinity), columns, tf.scalar(-1, 'int32'));

/**
 * (rows, columns) → int32 (rows): the column of the largest value, the first of equals. −1 for a row that has a NaN or
 * no value above −Infinity.
 */
export const bestColumnOp: Op<{x: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3BestColumn',
  reference: ({x}) => tf.tidy(() => unlessInvalid(x, tf.argMax(x, -1))),
};

export function bestColumn(x: tf.Tensor2D): tf.Tensor1D {
  return runOp(bestColumnOp, {x}, {}) as tf.Tensor1D;
}

type DrawAttrs = {
  temperature: number;
  /** One number in [0, 1) per row. */
  uniforms: readonly number[];
};

/** Weights are summed within blocks of this size first, then over blocks, so that rounding errors do not accumulate. */
const BLOCK = 512;

/**
 * Draws one column per row from the softmax of the row, (rows, columns) → int32 (rows): the first column where the
 * cumulative weight exceeds uniform · sum. −1 for a row that has a NaN or no value above −Infinity.
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
      const padded = tf.pad(softmaxWeights(x, temperature), padding);
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
      return unlessInvalid(x, tf.where(tf.any(passes, -1), first(passes), last));
    }),
};

export function drawSoftmax(x: tf.Tensor2D, attrs: DrawAttrs): tf.Tensor1D {
  return runOp(drawOp, {x}, attrs) as tf.Tensor1D;
}
