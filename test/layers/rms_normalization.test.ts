/** `RMSNormalization` against its formula. */
import * as tf from '@tensorflow/tfjs';
import {RMSNormalization, type RMSNormalizationArgs} from '../../src/layers/rms_normalization';
import {normal} from '../support/random';

describe('RMSNormalization', () => {
  test('divides by the root mean square and multiplies by 1 + scale', () => {
    tf.tidy(() => {
      const layer = new RMSNormalization({epsilon: 0.5});
      const x = normal([2, 3, 4], 1);
      const plain = tf.div(x, tf.sqrt(tf.add(tf.mean(tf.square(x), -1, true), 0.5)));
      expect(layer.apply(x) as tf.Tensor).toBeAllClose(plain);
      expect(
        layer.scale
          .read()
          .dataSync()
          .every(value => value === 0),
      ).toBe(true);
      const scale = normal([4], 2);
      layer.setWeights([scale]);
      expect(layer.call(x)).toBeAllClose(tf.mul(plain, tf.add(scale, 1)));
      expect(layer.computeOutputShape([null, 3, 4])).toEqual([null, 3, 4]);
      layer.dispose();
    });
  });

  test('keeps its weights in float32 for any dtype, and survives a config round trip', () => {
    const layer = new RMSNormalization({epsilon: 1e-3, dtype: 'bfloat16', name: 'norm'});
    layer.build([null, 4]);
    const scale = normal([4], 1);
    layer.setWeights([scale]);
    expect(layer.getWeights()[0]!).toBeAllClose(scale, 1e-12);
    const config = layer.getConfig();
    expect(config).toMatchObject({epsilon: 1e-3, dtype: 'bfloat16', name: 'norm'});
    expect(new RMSNormalization(config as unknown as RMSNormalizationArgs).getConfig()).toEqual(config);
    expect(new RMSNormalization().epsilon).toBe(1e-6);
    layer.dispose();
  });

  test('refuses arguments that it does not have', () => {
    expect(() => new RMSNormalization({layerNormEpsilon: 1} as never)).toThrow(
      'RMSNormalization has no argument "layerNormEpsilon". Expected: epsilon, name,',
    );
  });
});
