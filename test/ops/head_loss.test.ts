/** The fused loss of the output head against the loss of all logits, with gradients. */
import * as tf from '@tensorflow/tfjs';
import {headLoss, headLossOp} from '../../src/ops/head_loss';
import {softCap} from '../../src/ops/soft_cap';
import {PackedWeight} from '../../src/weights/packed_weight';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

type Case = [tokens: number, width: number, vocabulary: number, cap: number | null];
const CASES: Case[] = [
  [1, 1, 2, null],
  [3, 5, 7, null],
  [6, 8, 33, 3],
  [13, 37, 300, 2],
  [70, 33, 517, null],
];

const someTargets = (tokens: number, vocabulary: number) =>
  tf.tensor1d(
    Array.from({length: tokens}, (_, i) => (i === 0 ? vocabulary - 1 : (i * 7919) % vocabulary)),
    'int32',
  );

/** The loss computed from all logits at once. */
function plainLoss(hidden: tf.Tensor, table: tf.Tensor, targets: tf.Tensor1D, cap: number | null): tf.Tensor {
  const logits = softCap(tf.matMul(hidden as tf.Tensor2D, table as tf.Tensor2D, false, true), cap);
  const logProbabilities = tf.sub(logits, tf.log(tf.sum(tf.exp(logits), -1, true)));
  return tf.neg(tf.sum(tf.mul(logProbabilities, tf.oneHot(targets, table.shape[0]!)), -1));
}

onEachBackend(({formats}) => {
  disposeAfterEach();

  test.each(CASES)('%i tokens of %i numbers, vocabulary of %i, cap %p', (tokens, width, vocabulary, cap) => {
    const hidden = normal([tokens, width], 1);
    const table = tf.mul(normal([vocabulary, width], 2), 0.5);
    const targets = someTargets(tokens, vocabulary);
    expectSameGradients(
      (...[h, w]) => headLoss(h as tf.Tensor2D, w as tf.Tensor2D, targets, {softCap: cap}),
      (...[h, w]) => plainLoss(h!, w!, targets, cap),
      [hidden, table],
    );
  });

  test.each(formats.flatMap(format => CASES.map(sizes => [format, ...sizes] as const)))(
    'a table of %s: %i tokens of %i numbers, vocabulary of %i, cap %p',
    (format, tokens, width, vocabulary, cap) => {
      const shape = [vocabulary, width];
      const packed = new PackedWeight(shape, {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
      packed.write(tf.mul(normal(shape, 2), 0.5));
      const table = packed.read();
      const targets = someTargets(tokens, vocabulary);
      // Integer products of few rows also round the rows.
      const tolerance = format === 'bfloat16' ? 1e-5 : 2e-2;
      expectSameGradients(
        h => headLoss(h as tf.Tensor2D, packed, targets, {softCap: cap}),
        h => plainLoss(h, table, targets, cap),
        [normal([tokens, width], 1)],
        tolerance,
      );
      packed.dispose();
    },
  );

  test('the reference in chunks', () => {
    const inputs = {hidden: normal([7, 4], 1), table: normal([23, 4], 2), targets: someTargets(7, 23)};
    const attrs = {vocabulary: 23, packing: null, softCap: 2, gradients: true};
    const dy = normal([7], 3);
    const all = [46, 1000].map(logitsAtOnce => {
      const [losses, gradients] = headLossOp.reference(inputs, {...attrs, logitsAtOnce});
      const table = headLossOp.gradient(dy, inputs, gradients!, {...attrs, logitsAtOnce}).table!();
      return [losses, gradients!, table];
    });
    all[0]!.forEach((tensor, i) => expect(tensor).toBeAllClose(all[1]![i]!, 1e-6));
  });

  test('without a gradient, and of no tokens', () => {
    const [hidden, table] = [normal([5, 4], 1) as tf.Tensor2D, normal([9, 4], 2) as tf.Tensor2D];
    const targets = someTargets(5, 9);
    const before = tf.memory().numTensors;
    const losses = headLoss(hidden, table, targets);
    expect(tf.memory().numTensors).toBe(before + 1);
    expect(losses).toBeAllClose(plainLoss(hidden, table, targets, null));
    expect(headLoss(tf.zeros([0, 4]), table, tf.zeros([0], 'int32')).shape).toEqual([0]);
  });

  test('gradients of gradients', () => {
    const [hidden, table] = [normal([2, 3], 1), normal([5, 3], 2)];
    const targets = someTargets(2, 5);
    const slope = (h: tf.Tensor) =>
      tf.sum(tf.square(tf.grad(h => headLoss(h as tf.Tensor2D, table as tf.Tensor2D, targets))(h)));
    const step = normal([2, 3], 3);
    const [ahead, behind] = [1, -1].map(sign => slope(tf.add(hidden, tf.mul(step, sign * 1e-2))).dataSync()[0]!);
    const expected = tf.sum(tf.mul(tf.grad(slope)(hidden), step)).dataSync()[0]!;
    expect(Math.abs((ahead! - behind!) / 2e-2 - expected)).toBeLessThan(0.02 * Math.abs(expected) + 0.02);
  });
});

test('shapes that do not fit', () => {
  expect(() => headLoss(tf.zeros([2, 3]), tf.zeros([5, 4]), tf.zeros([2], 'int32'))).toThrow('Received: [2,3], [5,4]');
  expect(() => headLoss(tf.zeros([2, 3]), tf.zeros([5, 3]), tf.zeros([3], 'int32'))).toThrow('targets (tokens)');
});
