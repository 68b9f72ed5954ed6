/** The loss of an output head with LoRA, in chunks of tokens, against the loss of all logits, with gradients. */
import * as tf from '@tensorflow/tfjs';
import {loraHeadLoss} from '../../src/ops/lora_head_loss';
import {softCap} from '../../src/ops/soft_cap';
import {PackedWeight} from '../../src/weights/packed_weight';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

const [TOKENS, WIDTH, VOCABULARY, RANK, SCALE] = [7, 37, 50, 3, 0.5];

/** The loss computed from all logits of the merged head at once. */
function plainLoss(cap: number | null, targets: tf.Tensor1D, ...[hidden, table, a, b]: tf.Tensor[]): tf.Tensor {
  const merged = tf.add(table!, tf.mul(tf.matMul(a as tf.Tensor2D, b as tf.Tensor2D), SCALE));
  const logits = softCap(tf.matMul(hidden as tf.Tensor2D, merged as tf.Tensor2D, false, true), cap);
  const logProbabilities = tf.sub(logits, tf.log(tf.sum(tf.exp(logits), -1, true)));
  return tf.neg(tf.sum(tf.mul(logProbabilities, tf.oneHot(targets, VOCABULARY)), -1));
}

onEachBackend(({formats}) => {
  disposeAfterEach();

  const inputs = () => {
    const shapes = [
      [TOKENS, WIDTH],
      [VOCABULARY, WIDTH],
      [VOCABULARY, RANK],
      [RANK, WIDTH],
    ];
    const [hidden, table, a, b] = shapes.map((shape, i) => tf.mul(normal(shape, i + 1), 0.5)) as [
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
      tf.Tensor2D,
    ];
    return {hidden, table, a, b, targets: tf.tensor1d([49, 0, 3, 3, 17, 8, 30], 'int32')};
  };

  // Chunks of all tokens, of two tokens (the last one has one), and of one token.
  describe.each([1 << 20, 2 * VOCABULARY, 1])('at most %i logits at once', logitsAtOnce => {
    test.each([null, 2])('cap %p', cap => {
      const {hidden, table, a, b, targets} = inputs();
      expectSameGradients(
        (h, a, b) => {
          const lora = {a: a!, b: b!, scale: SCALE};
          return loraHeadLoss(h as tf.Tensor2D, table, lora, targets, {softCap: cap, logitsAtOnce});
        },
        (h, a, b) => plainLoss(cap, targets, h!, table, a!, b!),
        [hidden, a, b],
      );
    });

    test.each(formats)('a table of %s', format => {
      const {hidden, table, a, b, targets} = inputs();
      const packed = new PackedWeight(table.shape, {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
      packed.write(table);
      const rounded = packed.read();
      expectSameGradients(
        (h, a, b) => loraHeadLoss(h as tf.Tensor2D, packed, {a: a!, b: b!, scale: SCALE}, targets, {logitsAtOnce}),
        (h, a, b) => plainLoss(null, targets, h!, rounded, a!, b!),
        [hidden, a, b],
        // Integer products of few rows also round the rows.
        format === 'bfloat16' ? 1e-5 : 2e-2,
      );
      packed.dispose();
    });
  });

  test('of no tokens', () => {
    const {table, a, b} = inputs();
    const none = loraHeadLoss(tf.zeros([0, WIDTH]), table, {a, b, scale: 1}, tf.zeros([0], 'int32'));
    expect(none.shape).toEqual([0]);
  });
});
