/** `UnitNormalization`: lengths, gradients, configurations, errors. */
import * as tf from '@tensorflow/tfjs';
import {UnitNormalization, type UnitNormalizationArgs} from '../../src/layers/unit_normalization';
import {normal} from '../support/random';

describe('UnitNormalization', () => {
  test.each([-1, 1, [1, 2], [0, -1]])('scales vectors along axis %j to length 1', axis => {
    tf.tidy(() => {
      const layer = new UnitNormalization({axis});
      const x = normal([2, 3, 4], 1);
      const y = layer.apply(x) as tf.Tensor;
      expect(y).toBeAllClose(tf.div(x, tf.norm(x, 'euclidean', axis, true)));
      expect(layer.computeOutputShape([null, 3, 4])).toEqual([null, 3, 4]);
    });
  });

  test('keeps zeros, with a finite gradient', () => {
    tf.tidy(() => {
      const layer = new UnitNormalization();
      expect(layer.call(tf.zeros([2, 3]))).toBeAllClose(tf.zeros([2, 3]), 1e-12);
      const gradient = tf.grad(x => layer.call(x))(tf.zeros([2, 3]));
      expect(gradient.dataSync().every(Number.isFinite)).toBe(true);
      expect(layer.call(tf.tensor2d([[3e-9, 4e-9]]))).toBeAllClose([0.6, 0.8]);
    });
  });

  test('survives a config round trip', () => {
    const config = new UnitNormalization({axis: [1, 2], name: 'unit'}).getConfig();
    expect(config).toMatchObject({axis: [1, 2], name: 'unit'});
    expect(new UnitNormalization(config as unknown as UnitNormalizationArgs).getConfig()).toEqual(config);
    expect(new UnitNormalization().axis).toBe(-1);
  });

  test('works in a tfjs model, and can be saved and loaded with it', async () => {
    const model = tf.sequential({layers: [new UnitNormalization({inputShape: [3], name: 'unit'})]});
    const copy = await tf.models.modelFromJSON(model.toJSON(null, false) as tf.io.ModelJSON['modelTopology']);
    const y = tf.tidy(() => (copy.predict(tf.tensor2d([[2, 3, 6]])) as tf.Tensor).mul(7).dataSync());
    expect(tf.tensor1d(y)).toBeAllClose([2, 3, 6]);
    expect(copy.layers[0]).toBeInstanceOf(UnitNormalization);
  });

  test.each<[object, string]>([
    [{axis: 1.5}, '`axis` to be a whole number or an array of them. Received: 1.5.'],
    [{axis: 'last'}, 'Received: "last".'],
    [{epsilon: 1}, 'UnitNormalization has no argument "epsilon". Expected: axis, name,'],
  ])('refuses %j', (args, message) => {
    expect(() => new UnitNormalization(args as never)).toThrow(message);
  });

  test('refuses an input without the axis', () => {
    const layer = new UnitNormalization({axis: 2, name: 'unit'});
    expect(() => layer.computeOutputShape([null, 3])).toThrow(
      'UnitNormalization "unit" expected an input with an axis 2. Received: shape [,3].',
    );
  });
});
