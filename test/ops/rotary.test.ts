/** Rotary position embedding and its tables. */
import * as tf from '@tensorflow/tfjs';
import {inverseFrequencies, rotary, rotaryOp, rotaryTables} from '../../src/ops/rotary';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

onEachBackend(() => {
  disposeAfterEach();

  describe('rotary', () => {
    test.each([
      [[1, 1, 1, 2], [0]],
      [[2, 5, 3, 4], [0]],
      [
        [3, 4, 2, 6],
        [0, 7, 30000],
      ],
    ])('rotates %j from positions %j on', (shape, starts) => {
      const x = normal(shape, 1) as tf.Tensor4D;
      const [batch, length, heads, width] = x.shape;
      const {cos, sin} = rotaryTables(starts, length, width, 10_000, 8);
      expect(cos.shape).toEqual([starts.length, length, 1, width / 2]);
      const values = x.arraySync();
      const expected: number[] = [];
      for (let b = 0; b < batch; b++) {
        for (let t = 0; t < length; t++) {
          for (let n = 0; n < heads; n++) {
            const row = values[b]![t]![n]!;
            for (let h = 0; h < width; h++) {
              const i = h % (width / 2);
              const angle = ((starts[b] ?? starts[0]!) + t) / 8 / 10_000 ** ((2 * i) / width);
              const other = h < width / 2 ? -row[h + width / 2]! : row[h - width / 2]!;
              expected.push(row[h]! * Math.cos(angle) + other * Math.sin(angle));
            }
          }
        }
      }
      expect(rotaryOp.reference({x, cos, sin}, {})).toBeAllClose(expected);
      const plain = (y: tf.Tensor) => {
        const [a, b] = tf.split(y, 2, -1) as [tf.Tensor, tf.Tensor];
        const turned = tf.concat([tf.neg(b), a], -1);
        return tf.add(tf.mul(y, tf.concat([cos, cos], -1)), tf.mul(turned, tf.concat([sin, sin], -1)));
      };
      expectSameGradients(y => rotary(y as tf.Tensor4D, cos, sin), plain, [x]);
    });

    test('has frequencies that fall from one to nearly the inverse wavelength', () => {
      expect(Array.from(inverseFrequencies(4, 10_000, 1))).toEqual([1, 0.01]);
      expect(Array.from(inverseFrequencies(2, 1_000_000, 8))).toEqual([0.125]);
    });

    test.each([0, 29, 2.5, 1_000_001])('has the same tables for pieces of any size, from position %s on', start => {
      const tables = rotaryTables([start, 3], 70, 8, 10_000, 1);
      const values = (['cos', 'sin'] as const).map(name => tables[name].dataSync());
      for (const [row, first] of [start, 3].entries()) {
        for (let t = 0; t < 70; t++) {
          for (let h = 0; h < 4; h++) {
            const angle = (first + t) * inverseFrequencies(8, 10_000, 1)[h]!;
            const at = (row * 70 + t) * 4 + h;
            expect([values[0]![at], values[1]![at]]).toEqual([Math.cos(angle), Math.sin(angle)].map(Math.fround));
          }
        }
      }
      tf.dispose(tables);
    });

    test('returns tables that callers cannot corrupt, and forgets old ones', () => {
      const first = rotaryTables([0], 3, 4, 10_000, 1);
      const values = Array.from(first.cos.dataSync());
      (first.cos.dataSync() as Float32Array).fill(9);
      tf.dispose(first);
      for (let start = 0; start < 40; start++) tf.dispose(rotaryTables([start, 1], 3, 4, 10_000, 1));
      const again = rotaryTables([0], 3, 4, 10_000, 1);
      expect(Array.from(again.cos.dataSync())).toEqual(values);
      // The same starts in a different order are a different table.
      const [a, b] = [rotaryTables([1, 2], 3, 4, 10, 1), rotaryTables([2, 1], 3, 4, 10, 1)];
      expect(Array.from(a.sin.dataSync())).not.toEqual(Array.from(b.sin.dataSync()));
    });
  });
});
