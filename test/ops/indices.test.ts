/** Indices that do not exist are refused before a kernel follows them, the same way on every backend. */
import * as tf from '@tensorflow/tfjs';
import {embedding} from '../../src/ops/embedding';
import {headLoss} from '../../src/ops/head_loss';
import {interleave} from '../../src/ops/interleave';
import {tokenLoss} from '../../src/ops/token_loss';
import {PackedWeight} from '../../src/weights/packed_weight';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {normal} from '../support/random';
import {smallModel} from '../support/small_model';

/** The error of a call, which must leave no tensor. */
function refusal(call: () => tf.Tensor): {name: string; message: string} {
  const before = tf.memory().numTensors;
  let error: unknown;
  try {
    call().dispose();
  } catch (thrown) {
    error = thrown;
  }
  expect(tf.memory().numTensors).toBe(before);
  expect(error).toBeInstanceOf(Error);
  const {name, message} = error as Error;
  return {name, message};
}

const valueError = (text: string) => ({name: 'ValueError', message: expect.stringContaining(text)});

/** Ids that 23 rows do not have. A packed table has 24: its rows are in groups of eight. */
const INVALID = [23, 24, 999_999, 2 ** 31 - 1, -1, -(2 ** 31)];

onEachBackend(({formats}) => {
  disposeAfterEach();

  describe('ids of an embedding', () => {
    test.each(INVALID)('%i in a float32 table', id => {
      const table = normal([23, 4], 1);
      const ids = tf.tensor2d([[0, 22, 1, id]], undefined, 'int32');
      expect(refusal(() => embedding(ids, table))).toEqual(
        valueError(`Expected token ids from 0 to 22, since the embedding has 23 rows. Received: ${id} at [0,3]. Use`),
      );
      expect(refusal(() => tf.grad(t => embedding(ids, t))(table))).toEqual(valueError(`Received: ${id}`));
      expect(embedding(tf.tensor1d([22], 'int32'), table)).toBeAllClose(tf.slice(table, [22, 0], [1, 4]), 1e-12);
    });

    test.each(formats)('in a table of %s', format => {
      const packed = new PackedWeight([23, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
      packed.write(normal([23, 32], 1));
      for (const id of INVALID) {
        const ids = tf.tensor1d([0, id], 'int32');
        expect(refusal(() => embedding(ids, packed))).toEqual(valueError(`from 0 to 22, since`));
        expect(refusal(() => packed.gatherRows(ids))).toEqual(valueError(`Received: ${id} at [1]`));
      }
      expect(embedding(tf.tensor1d([22], 'int32'), packed)).toBeAllClose(tf.slice(packed.read(), [22, 0], [1, 32]), 0);
      packed.dispose();
    });

    test('of type float32, also those that int32 would wrap around', () => {
      const table = normal([23, 4], 1);
      for (const id of [2 ** 32, 1e12, -1, NaN, Infinity]) {
        const ids = tf.tensor1d([id], 'float32');
        expect(refusal(() => embedding(ids, table))).toEqual(valueError('Expected token ids from 0 to 22'));
      }
    });
  });

  test.each([7, 8, 999_999, -1, -100])('the target %i', id => {
    const [hidden, table] = [normal([2, 4], 1) as tf.Tensor2D, normal([7, 4], 2) as tf.Tensor2D];
    const targets = tf.tensor1d([6, id], 'int32');
    const expected = valueError(
      `Expected target ids from 0 to 6, since the vocabulary has 7 tokens. Received: ${id} at [1]. Take`,
    );
    expect(refusal(() => headLoss(hidden, table, targets))).toEqual(expected);
    expect(refusal(() => tf.grad(h => headLoss(h as tf.Tensor2D, table, targets))(hidden))).toEqual(expected);
    const logits = normal([2, 7], 3);
    expect(refusal(() => tokenLoss(logits, targets))).toEqual(expected);
  });

  test.each([5, 6, 999_999, -1])('the vision index %i', index => {
    const text = normal([2, 5, 2], 1) as tf.Tensor3D;
    const images = normal([4, 2], 2) as tf.Tensor2D;
    const indices = tf.tensor2d([1, 2, 4, index], [2, 2], 'int32');
    expect(refusal(() => interleave(text, images, indices))).toEqual(
      valueError(
        `Expected vision indices from 0 to 4, the positions of a text of 5 tokens. Received: ${index} at [1,1].`,
      ),
    );
  });

  test('a model refuses ids that it lacks, and works afterwards', async () => {
    const model = smallModel();
    const {vocabularySize} = model.backbone.config;
    const mask = tf.tensor2d([[1, 1, 0]], undefined, 'bool');
    const of = (ids: number[]) => tf.tensor2d([ids], undefined, 'int32');
    model.preprocessor = null;
    const before = tf.memory().numTensors;
    const generate = async (id: number) => {
      const ids = of([5, id, 0]);
      try {
        const y = await model.generate({token_ids: ids, padding_mask: mask}, {stopTokenIds: null});
        const values = Array.from(y.token_ids.dataSync());
        tf.dispose(y as object as tf.TensorContainer);
        return values;
      } finally {
        ids.dispose();
      }
    };
    const right = await generate(vocabularySize - 1);
    const text = `from 0 to ${vocabularySize - 1}`;
    for (const id of [vocabularySize, 262_144, 999_999, -1]) {
      await expect(generate(id)).rejects.toMatchObject(valueError(text));
      const tokenIds = of([5, id]);
      expect(refusal(() => model.score({tokenIds}))).toEqual(valueError(text));
      const targetIds = tokenIds;
      const valid = of([5, 6]);
      expect(refusal(() => model.score({tokenIds: valid, targetIds, scoringMode: 'loss'}))).toEqual(valueError(text));
      tf.dispose([tokenIds, valid]);
    }
    expect(tf.memory().numTensors).toBe(before);
    expect(await generate(vocabularySize - 1)).toEqual(right);
    const wrapped = () => model.backbone.predict({token_ids: [[5, 2 ** 32 + 5]], padding_mask: [[1, 1]]});
    expect(wrapped).toThrow('Received: 4294967301 at token_ids[0][1]. Pass only numbers of 32 bits.');
    model.dispose();
  });
});
