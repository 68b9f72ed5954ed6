/**
 * RMS norm, rotary embedding, gated GELU and others: kernel against reference, forward and backward, on random shapes.
 */
import * as tf from '@tensorflow/tfjs';
import fc from 'fast-check';
import '../../src/backends/cpu';
import {adamStep, adamStepOp} from '../../src/ops/adam_step';
import {gatedGeluOp} from '../../src/ops/gated_gelu';
import {interleaveOp} from '../../src/ops/interleave';
import {type Inputs, type Op, runOp} from '../../src/ops/op';
import {rmsNormOp} from '../../src/ops/rms_norm';
import {rotaryOp, rotaryTables} from '../../src/ops/rotary';
import {expectNoLeak} from '../support/numbers';

/** Gradients of a weighted sum of the operation's result with respect to all inputs, through the tape. */
function gradients(run: (inputs: tf.Tensor[]) => tf.Tensor, inputs: tf.Tensor[]): tf.Tensor[] {
  return tf.grads((...xs: tf.Tensor[]) => {
    const y = run(xs);
    return tf.sum(tf.mul(y, tf.cos(tf.range(0, y.size).reshape(y.shape))));
  })(inputs);
}

function expectKernelEqualsReference<I extends Inputs, A extends Record<string, unknown>>(
  op: Op<I, A>,
  inputs: I,
  attrs: A,
  differentiable: (keyof I & string)[],
): void {
  tf.tidy(() => {
    const [fast, plain] = [runOp(op, inputs, attrs), op.reference(inputs, attrs)];
    expect(fast.shape).toEqual(plain.shape);
    expect(fast.dataSync()).toBeAllClose(plain.dataSync(), {atol: 1e-5});
    const with_ = (xs: tf.Tensor[]) => ({...inputs, ...Object.fromEntries(differentiable.map((n, i) => [n, xs[i]!]))});
    const values = differentiable.map(name => inputs[name]!);
    const written = gradients(xs => runOp(op, with_(xs), attrs), values);
    const taped = gradients(xs => op.reference(with_(xs), attrs), values);
    written.forEach((gradient, i) => {
      expect(gradient.dataSync()).toBeAllClose(taped[i]!.dataSync(), {atol: 1e-4});
    });
  });
}

const size = (max: number) => fc.integer({min: 1, max});
const shape = fc.tuple(size(3), size(5), size(4), size(6), fc.nat(1000));

test('rmsNorm', async () => {
  await expectNoLeak(() => {
    fc.assert(
      fc.property(shape, ([b, t, n, d, seed]) => {
        tf.tidy(() => {
          const x = tf.randomNormal([b, t, n, d], 0, 2, 'float32', seed);
          const scale = tf.randomNormal([d], 0, 1, 'float32', seed + 1);
          expectKernelEqualsReference(rmsNormOp, {x, scale}, {epsilon: 1e-3}, ['x', 'scale']);
        });
      }),
      {numRuns: 25},
    );
  });
});

test('rotary, with one table for all rows or one per row', async () => {
  await expectNoLeak(() => {
    fc.assert(
      fc.property(shape, fc.boolean(), ([b, t, n, half, seed], each) => {
        tf.tidy(() => {
          const x = tf.randomNormal([b, t, n, 2 * half], 0, 1, 'float32', seed);
          const starts = each ? Array.from({length: b}, (_, row) => row * 7) : [seed];
          const {cos, sin} = rotaryTables(starts, t, 2 * half, 10_000, 2);
          expectKernelEqualsReference(rotaryOp, {x, cos, sin}, {}, ['x']);
        });
      }),
      {numRuns: 25},
    );
  });
});

test('gatedGelu, also for large values', async () => {
  await expectNoLeak(() => {
    fc.assert(
      fc.property(shape, ([b, t, n, d, seed]) => {
        tf.tidy(() => {
          const gate = tf.randomNormal([b, t, n * d], 0, 3, 'float32', seed);
          const value = tf.randomNormal([b, t, n * d], 0, 1, 'float32', seed + 1);
          expectKernelEqualsReference(gatedGeluOp, {gate, value}, {}, ['gate', 'value']);
        });
      }),
      {numRuns: 25},
    );
    tf.tidy(() => {
      const gate = tf.tensor1d([-100, -10, 0, 10, 100]);
      const y = runOp(gatedGeluOp, {gate, value: tf.onesLike(gate)}, {});
      expect(y.dataSync()).toBeAllClose([0, 0, 0, 10, 100], {atol: 1e-6});
    });
  });
});

test('interleaving images and text', () => {
  const indices = tf.tensor2d(
    [
      [3, 1, 0],
      [0, 0, 0],
    ],
    undefined,
    'int32',
  );
  const [text, images] = [tf.randomNormal([2, 4, 5]), tf.randomNormal([6, 5])];
  expectKernelEqualsReference(interleaveOp, {text, images, indices}, {}, ['text', 'images']);
  tf.dispose([indices, text, images]);
});

test('an Adam step', async () => {
  await expectNoLeak(() =>
    fc.assert(
      fc.property(size(5), size(40), fc.integer({min: 1, max: 1000}), (rows, columns, seed) => {
        tf.tidy(() => {
          const numbers = (index: number) => tf.randomNormal([rows, columns], 0, 1, 'float32', seed + index);
          const velocity = tf.square(numbers(3));
          const inputs = {variable: numbers(0), gradient: numbers(1), momentum: numbers(2), velocity};
          const attrs = {beta1: 0.9, beta2: 0.99, epsilon: 1e-7, alpha: 0.01};
          const plain = adamStepOp.reference(inputs, attrs);
          adamStep(inputs, attrs).forEach((result, i) => {
            expect(result.shape).toEqual([rows, columns]);
            expect(result.dataSync()).toBeAllClose(plain[i]!.dataSync(), {atol: 1e-5});
          });
        });
      }),
    ),
  );
});
