/** Embedding lookup and interleaving of images, with gradients. */
import * as tf from '@tensorflow/tfjs';
import {embedding, embeddingOp} from '../../src/ops/embedding';
import {interleave, interleaveOp} from '../../src/ops/interleave';
import {PackedWeight} from '../../src/weights/packed_weight';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

onEachBackend(() => {
  disposeAfterEach();

  describe('embedding', () => {
    const ids = tf.tensor2d([2, 0, 2, 4, 2, 0], [2, 3], 'int32');
    const plain = (table: tf.Tensor) =>
      tf.reshape(tf.matMul(tf.oneHot(tf.reshape(ids, [-1]), 5) as tf.Tensor2D, table as tf.Tensor2D), [2, 3, 3]);

    test('looks up rows, and adds the gradients of rows that are used several times', () => {
      const table = normal([5, 3], 1);
      const rows = table.arraySync() as number[][];
      const expected = ids
        .arraySync()
        .flat()
        .flatMap(id => rows[id]!);
      expect(embeddingOp.reference({table, ids: tf.reshape(ids, [-1])}, {})).toBeAllClose(expected, 1e-12);
      expectSameGradients(t => embedding(ids, t), plain, [table]);
    });

    test('takes ids of any shape and of type float32', () => {
      const table = normal([5, 3], 1);
      for (const shape of [[1], [6], [1, 1, 2], [3, 2, 1]]) {
        const some = tf.cast(tf.randomUniform(shape, 0, 5, 'int32', 3), 'float32');
        const y = embedding(some, table);
        expect(y.shape).toEqual([...shape, 3]);
        expect(y).toBeAllClose(tf.gather(table, tf.cast(some, 'int32')), 1e-12);
      }
      expect(embedding(tf.zeros([2, 0], 'int32'), table).shape).toEqual([2, 0, 3]);
    });

    test('reads packed rows', () => {
      const table = tf.div(tf.round(tf.mul(normal([5, 3], 1), 16)), 16);
      const packed = new PackedWeight([5, 3], {out: [0], in: [1]}, 'table', tf.initializers.zeros());
      packed.write(table);
      expect(embedding(ids, packed)).toBeAllClose(embedding(ids, table), 1e-12);
      packed.dispose();
    });
  });

  describe('interleave', () => {
    // The second sample has one of two images, and the third has none: index 0 is padding.
    const indices = tf.tensor2d(
      [
        [1, 2, 4],
        [3, 0, 0],
        [0, 0, 0],
      ],
      undefined,
      'int32',
    );
    const [text, images] = [normal([3, 5, 2], 1) as tf.Tensor3D, normal([9, 2], 2) as tf.Tensor2D];

    test('replaces rows, and passes gradients to the rows that were used', () => {
      const [rows, news] = [text.arraySync(), images.arraySync()];
      const chosen = Array.from({length: 15}, () => new Array<number>(9).fill(0));
      indices.arraySync().forEach((places, sample) =>
        places.forEach((place, m) => {
          if (place === 0) return;
          rows[sample]![place] = news[sample * 3 + m]!;
          chosen[sample * 5 + place]![sample * 3 + m] = 1;
        }),
      );
      expect(interleaveOp.reference({text, images, indices}, {})).toBeAllClose(rows.flat(2), 1e-12);
      const stays = tf.sub(1, tf.sum(tf.tensor2d(chosen), 1, true));
      expectSameGradients(
        (...[t, i]) => interleave(t as tf.Tensor3D, i as tf.Tensor2D, indices),
        (...[t, i]) =>
          tf.reshape(
            tf.add(tf.mul(tf.reshape(t!, [15, 2]), stays), tf.matMul(tf.tensor2d(chosen), i as tf.Tensor2D)),
            [3, 5, 2],
          ),
        [text, images],
      );
    });

    test('returns the text unchanged without images', () => {
      const none = interleave(text, tf.zeros([0, 2]), tf.zeros([3, 0], 'int32'));
      expect(none).toBeAllClose(text, 1e-12);
      expect(none).not.toBe(text);
    });
  });
});
