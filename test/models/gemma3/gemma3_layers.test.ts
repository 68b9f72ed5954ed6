/** Mean pooling. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3MeanPooling} from '../../../src/models/gemma3/gemma3_layers';
import {onEachBackend} from '../../support/backends';
import {normal} from '../../support/random';

onEachBackend(() => {
  test.each(['int32', 'bool', 'float32'] as const)('averages the tokens of a mask of type %s', dtype => {
    tf.tidy(() => {
      const rows = [
        [1, 1, 1, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 0],
      ];
      const x = normal([3, 4, 5], 1) as tf.Tensor3D;
      const layer = new Gemma3MeanPooling();
      const expected = rows.map((row, b) => {
        const picked = row.flatMap((kept, t) => (kept ? [tf.reshape(tf.slice(x, [b, t, 0], [1, 1, 5]), [5])] : []));
        return picked.length ? tf.mean(tf.stack(picked), 0) : tf.zeros([5]);
      });
      expect(layer.call([x, tf.tensor2d(rows, [3, 4], dtype)])).toBeAllClose(tf.stack(expected));
      expect(
        layer.computeOutputShape([
          [null, 4, 5],
          [null, 4],
        ]),
      ).toEqual([null, 5]);
    });
  });

  test('passes no gradient to padding', () => {
    tf.tidy(() => {
      const layer = new Gemma3MeanPooling();
      const mask = tf.tensor2d([[1, 0, 1]], [1, 3], 'int32');
      const gradient = tf.grad(x => layer.call([x, mask]))(normal([1, 3, 2], 1));
      expect(gradient).toBeAllClose([0.5, 0.5, 0, 0, 0.5, 0.5]);
    });
  });

  test('refuses inputs that do not match each other', () => {
    const layer = new Gemma3MeanPooling({name: 'pool'});
    const [x, mask] = [tf.zeros([2, 3, 4]), tf.zeros([2, 4])];
    const message =
      'Gemma3MeanPooling "pool" expected [hidden states (batch, length, width), paddingMask (batch, length)]. Received: shapes ';
    expect(() => layer.call([x, mask])).toThrow(`${message}[2,3,4], [2,4].`);
    expect(() => layer.call(x)).toThrow(`${message}[2,3,4].`);
    expect(() => new Gemma3MeanPooling({axis: 1} as never)).toThrow('Gemma3MeanPooling has no argument "axis".');
    tf.dispose([x, mask]);
  });
});
