/** `LayerNormalization` against Keras, with gradients. */
import * as tf from '@tensorflow/tfjs';
import {LayerNormalization} from '../../src/layers/layer_normalization';
import {layerNorm} from '../../src/ops/layer_norm';
import {expectSameGradients} from '../support/gradients';
import {CASES, stored} from '../support/vision_fixtures';

describe('LayerNormalization', () => {
  test.each(CASES.layerNormalization.map(c => [c.epsilon, c] as const))(
    'returns what Keras returns with epsilon %d',
    (epsilon, c) => {
      tf.tidy(() => {
        const layer = new LayerNormalization({epsilon});
        layer.build([null, null, 7]);
        layer.gamma.write(stored(c.gamma));
        layer.beta.write(stored(c.beta));
        expect(layer.call(stored(c.x))).toBeAllClose(stored(c.output), {atol: 1e-5});
      });
    },
  );

  test('has the gradients of its formula', () => {
    const epsilon = 1e-2;
    const plain = (x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) => {
      const {mean, variance} = tf.moments(x, -1, true);
      const normed = tf.div(tf.sub(x, mean), tf.sqrt(tf.add(variance, epsilon)));
      return tf.add(tf.mul(normed, gamma), beta);
    };
    const inputs = [
      tf.randomNormal([2, 3, 6], 1, 0.5, 'float32', 1),
      tf.randomNormal([6], 1, 1, 'float32', 2),
      tf.randomNormal([6], 0, 1, 'float32', 3),
    ];
    const op = (x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) => layerNorm(x, gamma, beta, epsilon);
    expectSameGradients(op, plain, inputs, {atol: 2e-5});
    const rows = [tf.randomNormal([4, 6], 0, 2, 'float32', 4), ...inputs.slice(1)];
    expectSameGradients(op, plain, rows, {atol: 2e-5});
  });

  test('has the initial weights of Keras and survives a config round trip', () => {
    const layer = new LayerNormalization();
    layer.build([null, 3]);
    expect(layer.epsilon).toBe(1e-3);
    expect(layer.weights.map(weight => weight.read().arraySync())).toEqual([
      [1, 1, 1],
      [0, 0, 0],
    ]);
    const config = new LayerNormalization({epsilon: 1e-6, name: 'norm'}).getConfig();
    expect(new LayerNormalization(config).getConfig()).toEqual(config);
    expect(config).toMatchObject({epsilon: 1e-6, name: 'norm'});
    expect(() => new LayerNormalization({eps: 1} as never)).toThrow('LayerNormalization has no argument "eps"');
    expect(tf.serialization.SerializationMap.getMap().classNameMap.LayerNormalization![0]).not.toBe(LayerNormalization);
  });
});
