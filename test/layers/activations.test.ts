/** Activations against Keras' formulas, and their names in configurations. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/base/errors';
import {activate, type ActivationName, activationName} from '../../src/layers/activations';
import {Dense} from '../../src/layers/dense';
import {EinsumDense} from '../../src/layers/einsum_dense';

const erf = (x: number): number => {
  // The series has enough terms for |x| <= 4.
  let [sum, term] = [x, x];
  for (let n = 1; n < 80; n++) {
    term *= (-x * x) / n;
    sum += term / (2 * n + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
};
const sigmoid = (x: number) => 1 / (1 + Math.exp(-x));
const softplus = (x: number) => Math.log1p(Math.exp(x));

/** Keras' definitions. */
const FORMULAS: Record<string, (x: number) => number> = {
  linear: x => x,
  relu: x => Math.max(0, x),
  relu6: x => Math.min(6, Math.max(0, x)),
  elu: x => (x > 0 ? x : Math.expm1(x)),
  selu: x => 1.0507009873554805 * (x > 0 ? x : 1.6732632423543772 * Math.expm1(x)),
  sigmoid,
  hard_sigmoid: x => Math.min(6, Math.max(0, x + 3)) / 6,
  silu: x => x * sigmoid(x),
  swish: x => x * sigmoid(x),
  softplus,
  softsign: x => x / (1 + Math.abs(x)),
  tanh: Math.tanh,
  mish: x => x * Math.tanh(softplus(x)),
  gelu: x => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_approximate: x => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};
const NAMES = [...Object.keys(FORMULAS), 'softmax'];
const X = [-4, -3.5, -2.2, -1, -0.3, 0, 0.4, 1, 2.5, 3.1, 4];

test.each(Object.entries(FORMULAS))('%s matches Keras', (name, formula) => {
  tf.tidy(() => {
    expect(activate(name as ActivationName, tf.tensor1d(X))).toBeAllClose(X.map(formula), {atol: 5e-6});
  });
});

test.each(NAMES)('%s is the same in Dense and EinsumDense, and survives a config round trip in either casing', name => {
  tf.tidy(() => {
    const layers = [
      new Dense({units: 3, activation: name}),
      new EinsumDense({equation: 'ab,bc->ac', outputShape: 3, activation: name}),
    ];
    const [kernel, x] = [tf.randomNormal([4, 3], 0, 1, 'float32', 1), tf.randomNormal([2, 4], 0, 1, 'float32', 2)];
    const [a, b] = layers.map(layer => {
      layer.build([null, 4]);
      layer.kernel.write(kernel);
      return layer.call(x).dataSync();
    });
    expect(a).toEqual(b);
    // tfjs may turn strings into camel case when it writes or reads JSON.
    const camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
    for (const layer of layers) {
      const config = layer.getConfig();
      expect(config.activation).toBe(name);
      const again = (layer.constructor as typeof EinsumDense).fromConfig(layer.constructor as typeof EinsumDense, {
        ...config,
        activation: camel,
      }) as EinsumDense;
      expect(again.getConfig()).toEqual(config);
      layer.dispose();
    }
  });
});

test('null and undefined mean no activation', () => {
  expect([activationName('X', null), activationName('X', undefined)]).toEqual([null, null]);
});

test.each(['nope', 'toString', 'gelu_new', '', 3, {}])('refuses %j', name => {
  const make = () => activationName('X', name as string);
  expect(make).toThrow(ValueError);
  expect(make).toThrow('X expected an activation, one of: linear, relu,');
  expect(() => new EinsumDense({equation: 'ab,bc->ac', outputShape: 3, activation: name as string})).toThrow(
    'EinsumDense expected an activation',
  );
});
