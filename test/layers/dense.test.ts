/** `Dense` and `Embedding` against Keras: outputs, gradients, storage, configurations, errors. */
import * as tf from '@tensorflow/tfjs';
import {Dense} from '../../src/layers/dense';
import {Embedding} from '../../src/layers/embedding';
import {PackedWeight} from '../../src/weights/packed_weight';
import {expectSameGradients} from '../support/gradients';
import {CASES, stored} from '../support/vision_fixtures';

/** A built layer with bias and kernel of the given values. */
function filled(layer: Dense, kernel: tf.Tensor, bias?: tf.Tensor): Dense {
  layer.build([null, kernel.shape[0]!]);
  layer.kernel.write(kernel);
  if (bias) layer.bias!.write(bias);
  return layer;
}

describe('Dense', () => {
  test.each(CASES.dense.map(c => [c.activation, c] as const))('matches Keras with activation %s', (activation, c) => {
    tf.tidy(() => {
      const layer = filled(new Dense({units: 5, activation}), stored(c.kernel), stored(c.bias));
      expect(layer.call(stored(c.x))).toBeAllClose(stored(c.output), {atol: 1e-5});
    });
  });

  test('takes any number of leading axes and needs no bias', () => {
    const kernel = tf.randomNormal([4, 3], 0, 1, 'float32', 1);
    const layer = filled(new Dense({units: 3, useBias: false}), kernel);
    expect(layer.weights).toHaveLength(1);
    for (const shape of [
      [2, 4],
      [2, 1, 4],
      [2, 3, 2, 4],
    ]) {
      const x = tf.randomNormal(shape, 0, 1, 'float32', 2);
      const y = layer.call(x);
      const expected = tf.reshape(tf.matMul(tf.reshape(x, [-1, 4]), kernel as tf.Tensor2D), [...shape.slice(0, -1), 3]);
      expect(y).toBeAllClose(expected, {atol: 1e-6});
      expect(layer.computeOutputShape([null, ...shape.slice(1)])).toEqual([null, ...shape.slice(1, -1), 3]);
    }
  });

  test('has the gradients of a matrix product', () => {
    const layer = filled(
      new Dense({units: 3, activation: 'gelu_approximate'}),
      tf.randomNormal([4, 3], 0, 1, 'float32', 1),
      tf.randomNormal([3], 0, 1, 'float32', 2),
    );
    const [kernel, bias] = [layer.kernel.read() as tf.Variable, layer.bias!.read() as tf.Variable];
    const x = tf.randomNormal([2, 5, 4], 0, 1, 'float32', 3);
    const plain = (input: tf.Tensor) => {
      const y = tf.add(tf.matMul(tf.reshape(input, [-1, 4]) as tf.Tensor2D, kernel as tf.Tensor as tf.Tensor2D), bias);
      const inner = tf.tanh(tf.mul(tf.add(y, tf.mul(tf.pow(y, 3), 0.044715)), Math.sqrt(2 / Math.PI)));
      return tf.reshape(tf.mul(tf.mul(y, 0.5), tf.add(inner, 1)), [2, 5, 3]);
    };
    expectSameGradients(input => layer.call(input), plain, [x], {atol: 2e-5});
    const gradientsOf = (f: (input: tf.Tensor) => tf.Tensor) =>
      tf.variableGrads(() => tf.sum(tf.square(f(x))) as tf.Scalar, [kernel, bias]).grads;
    const [actual, expected] = [gradientsOf(input => layer.call(input)), gradientsOf(plain)];
    for (const name of Object.keys(expected)) {
      expect(actual[name]!).toBeAllClose(expected[name]!, {atol: 1e-4});
    }
  });

  test('is stored as bfloat16 and computes in float32', () => {
    // Small multiples of 1/8 are exact in bfloat16, so nothing is rounded.
    const kernel = tf.div(tf.round(tf.randomUniform([7, 3], -16, 16, 'float32', 1)), 8);
    const bias = tf.tensor1d([0.1, 0.2, 0.3]);
    const packed = filled(new Dense({units: 3, dtype: 'bfloat16'}), kernel, bias);
    const float = filled(new Dense({units: 3}), kernel, bias);
    expect(packed.kernel).toBeInstanceOf(PackedWeight);
    const x = tf.randomNormal([2, 4, 7], 0, 1, 'float32', 2);
    expectSameGradients(
      input => packed.call(input),
      input => float.call(input),
      [x],
      {atol: 2e-5},
    );
    expect(packed.kernel.read()).toBeAllClose(kernel, {atol: 0});
  });

  test('survives a config round trip, in either casing of the activation', () => {
    const layer = new Dense({units: 3, activation: 'gelu_approximate', useBias: false, dtype: 'bfloat16', name: 'd'});
    const config = layer.getConfig();
    // The policy as Keras writes it, which tells the layer from tfjs' own in a saved model.
    const dtype = {className: 'DTypePolicy', config: {name: 'bfloat16'}};
    expect(config).toMatchObject({units: 3, activation: 'gelu_approximate', useBias: false, dtype});
    const copy = new Dense(config as unknown as ConstructorParameters<typeof Dense>[0]);
    expect(copy.getConfig()).toEqual(config);
    expect(new Dense({units: 1, activation: 'geluApproximate'}).activation).toBe('gelu_approximate');
  });

  test('does not replace the tfjs layer of the same name', () => {
    const {classNameMap} = tf.serialization.SerializationMap.getMap();
    expect(classNameMap.Dense![0]).not.toBe(Dense);
    expect(classNameMap.Dense![0]).toBe(tf.layers.dense({units: 1}).constructor);
  });

  test('refuses invalid arguments and inputs', () => {
    expect(() => new Dense({units: 0})).toThrow('Dense expected `units` to be a positive integer. Received: units=0.');
    expect(() => new Dense({units: 1, activation: 'gelu_new'})).toThrow('Received: "gelu_new"');
    expect(() => new Dense({units: 1, activation: 'toString'})).toThrow('Dense expected an activation, one of: linear');
    expect(() => new Dense({units: 1, unit: 2} as never)).toThrow('Dense has no argument "unit"');
    expect(() => new Dense({units: 1}).build([null, null])).toThrow('whose last axis has a known size');
  });
});

describe('Embedding', () => {
  test.each(['float32', 'bfloat16'] as const)('looks up rows, stored as %s', dtype => {
    const table = tf.div(tf.range(0, 12), 4).reshape([4, 3]);
    const layer = new Embedding({inputDim: 4, outputDim: 3, dtype, name: 'e'});
    layer.build();
    layer.embeddings.write(table);
    const y = layer.call(tf.tensor2d([[3, 0]], [1, 2], 'int32'));
    expect(y.arraySync()).toEqual([
      [
        [2.25, 2.5, 2.75],
        [0, 0.25, 0.5],
      ],
    ]);
    expect(layer.computeOutputShape([null, 2])).toEqual([null, 2, 3]);
    const copy = new Embedding(layer.getConfig() as unknown as ConstructorParameters<typeof Embedding>[0]);
    expect(copy.getConfig()).toEqual(layer.getConfig());
  });
});
