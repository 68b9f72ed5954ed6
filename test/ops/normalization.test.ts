/** RMS and layer normalization against their formulas, with gradients. */
import * as tf from '@tensorflow/tfjs';
import {layerNorm, layerNormOp} from '../../src/ops/layer_norm';
import {rmsNorm, rmsNormOp} from '../../src/ops/rms_norm';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

const SHAPES = [[1], [7], [3, 1], [3, 5], [1, 1, 8], [2, 3, 4, 5]];

/** Applies a function to each row along the last axis. */
const byRow = (x: tf.Tensor, f: (row: number[]) => number[]): number[] => {
  const width = x.shape.at(-1)!;
  const values = Array.from(x.dataSync());
  return Array.from({length: values.length / width}, (_, i) => f(values.slice(i * width, (i + 1) * width))).flat();
};
const mean = (row: number[]) => row.reduce((a, b) => a + b, 0) / row.length;

onEachBackend(() => {
  disposeAfterEach();

  describe.each([1e-6, 0.3])('with epsilon %d', epsilon => {
    test.each(SHAPES.map(shape => [shape]))('rmsNorm of %j', shape => {
      const [x, scale] = [normal(shape, 1), normal([shape.at(-1)!], 2)];
      const scales = scale.dataSync();
      const expected = byRow(x, row => {
        const inverse = 1 / Math.sqrt(mean(row.map(v => v * v)) + epsilon);
        return row.map((v, i) => v * inverse * (1 + scales[i]!));
      });
      expect(rmsNormOp.reference({x, scale}, {epsilon})).toBeAllClose(expected);
      expectSameGradients(
        (...[a, s]) => rmsNorm(a!, s!, epsilon),
        (...[a, s]) =>
          tf.mul(tf.div(a!, tf.sqrt(tf.add(tf.mean(tf.mul(a!, a!), -1, true), epsilon))), tf.add(s!, tf.onesLike(s!))),
        [x, scale],
        // A single value is divided by itself: its gradient is a difference of equal numbers.
        shape.at(-1) === 1 ? 1e-4 : 1e-5,
      );
    });

    test.each(SHAPES.filter(shape => shape.at(-1)! > 1).map(shape => [shape]))('layerNorm of %j', shape => {
      const width = [shape.at(-1)!];
      const [x, gamma, beta] = [normal(shape, 1), normal(width, 2), normal(width, 3)];
      const [gammas, betas] = [gamma.dataSync(), beta.dataSync()];
      const expected = byRow(x, row => {
        const m = mean(row);
        const inverse = 1 / Math.sqrt(mean(row.map(v => (v - m) ** 2)) + epsilon);
        return row.map((v, i) => (v - m) * inverse * gammas[i]! + betas[i]!);
      });
      expect(layerNormOp.reference({x, gamma, beta}, {epsilon})).toBeAllClose(expected);
      expectSameGradients(
        (...[a, g, b]) => layerNorm(a!, g!, b!, epsilon),
        (...[a, g, b]) => {
          const centred = tf.sub(a!, tf.mean(a!, -1, true));
          const deviation = tf.sqrt(tf.add(tf.mean(tf.mul(centred, centred), -1, true), epsilon));
          return tf.add(tf.mul(tf.div(centred, deviation), g!), b!);
        },
        [x, gamma, beta],
      );
    });
  });
});
