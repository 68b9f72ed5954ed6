/** Gradients through a chain of stages, and the memory they use. */
import * as tf from '@tensorflow/tfjs';
import {matMul} from '../../src/ops/mat_mul';
import {lossAndGradients, runStages, type Stage} from '../../src/training/stages';
import {Weight} from '../../src/weights/weight';
import {normal} from '../support/random';

let names = 0;
function weightOf(value: tf.Tensor, trainable = true): Weight {
  const weight = new Weight(value.shape, `stages_${names++}`, {apply: () => value} as never, trainable);
  tf.tidy(() => void weight.write(value));
  return weight;
}

/** x · kernel + bias */
const dense = (kernel: Weight, bias: Weight): Stage => ({
  weights: [kernel, bias],
  call: x => tf.add(matMul(x as tf.Tensor2D, tf.expandDims(kernel.read(), 0) as tf.Tensor3D), bias.read()),
});
const start = (value: tf.Tensor): Stage => ({weights: [], call: () => value.clone()});
const squares: Stage = {weights: [], call: x => tf.sum(tf.square(x!))};

describe.each([true, false])('with recompute: %s', recompute => {
  const [x, values] = [normal([5, 3], 1), normal([3, 3], 2)];

  test('gradients equal those of tfjs, also for shared and unused weights', () => {
    const [kernel, other, frozen] = [weightOf(values), weightOf(normal([3, 3], 3)), weightOf(normal([3, 3], 4), false)];
    const biases = [5, 6, 7, 8].map(seed => weightOf(normal([3], seed)));
    const unused = weightOf(normal([2], 9));
    const stages = [
      start(x),
      dense(kernel, biases[0]!),
      dense(frozen, biases[1]!),
      dense(kernel, biases[2]!),
      {weights: [...dense(other, biases[3]!).weights, unused], call: dense(other, biases[3]!).call},
      squares,
    ];
    const before = tf.memory().numTensors;
    const {loss, gradients} = lossAndGradients(stages, recompute);
    expect(tf.memory().numTensors).toBe(before + 1 + gradients.size);
    tf.tidy(() => {
      const weights = [kernel, ...biases, other, unused];
      const plain = tf.variableGrads(
        () => runStages(stages, null) as tf.Scalar,
        weights.filter(weight => weight !== unused).map(weight => weight.read() as tf.Variable),
      );
      expect(loss).toBeAllClose(plain.value);
      expect(new Set(gradients.keys())).toEqual(new Set(weights));
      for (const weight of weights) {
        const name = (weight.read() as tf.Variable).name;
        expect(gradients.get(weight)!).toBeAllClose(plain.grads[name] ?? tf.zerosLike(weight.read()));
      }
    });
    tf.dispose([loss, ...gradients.values()]);
    for (const weight of [kernel, other, frozen, unused, ...biases]) weight.dispose();
  });

  test('keeps only tensors that are needed for gradients', () => {
    const [kernel, bias] = [weightOf(values, false), weightOf(normal([3], 5))];
    const buffers: number[] = [];
    const seen = (stage: Stage): Stage => ({
      ...stage,
      call: y => {
        buffers.push(tf.memory().numDataBuffers);
        return stage.call(y);
      },
    });
    const chain = [start(x), ...Array.from({length: 6}, () => seen(dense(kernel, bias))), squares];
    const {loss, gradients} = lossAndGradients(chain, recompute);
    // The gradient of an addition needs no inputs, and the kernel is frozen: inputs are kept only for recompute.
    const growth = buffers.slice(2, 6).map((count, i) => count - buffers[i + 1]!);
    expect(growth).toEqual(growth.map(() => (recompute ? 1 : 0)));
    tf.dispose([loss, ...gradients.values()]);
    kernel.dispose();
    bias.dispose();
  });

  test('a stage that throws leaves no tensors behind', () => {
    const [kernel, bias] = [weightOf(values), weightOf(normal([3], 5))];
    const before = tf.memory().numTensors;
    for (const at of [0, 1, 2]) {
      const stages = [dense(kernel, bias), dense(kernel, bias), squares];
      stages.splice(at, 0, {
        weights: [bias],
        call: y => {
          if (y) tf.mul(matMul(y as tf.Tensor2D, tf.expandDims(kernel.read(), 0) as tf.Tensor3D), bias.read());
          throw new Error('no');
        },
      });
      expect(() => lossAndGradients([start(x), ...stages], recompute)).toThrow('no');
      expect(tf.memory().numTensors).toBe(before);
    }
    expect(tf.grad(y => tf.sum(y))(x)).toBeAllClose(tf.ones([5, 3]));
    kernel.dispose();
    bias.dispose();
  });
});
