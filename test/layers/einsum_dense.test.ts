/** `EinsumDense` against Keras: outputs, gradients, storage, configurations, errors. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/base/errors';
import {EinsumDense, type EinsumDenseArgs} from '../../src/layers/einsum_dense';
import {PackedWeight} from '../../src/weights/packed_weight';
import {fixtureJson} from '../support/fixtures';
import {expectSameGradients} from '../support/gradients';
import {normal} from '../support/random';

interface Stored {
  shape: number[];
  values: number[];
}

/** Results of Keras, from make_einsum_fixtures.py. */
interface Case {
  equation: string;
  outputShape: number | (number | null)[];
  biasAxes: string | null;
  activation: string | null;
  x: Stored;
  kernel: Stored;
  bias: Stored | null;
  y: Stored;
}
const CASES = fixtureJson<Case[]>('einsum.json');
const NAMED = CASES.map(c => [`${c.equation} of [${c.x.shape}], bias ${c.biasAxes}, ${c.activation}`, c] as const);

const stored = ({shape, values}: Stored) => tf.tensor(values, shape);
const argsOf = ({equation, outputShape, biasAxes, activation}: Case): EinsumDenseArgs => ({
  equation,
  outputShape,
  biasAxes,
  activation,
});

function layerOf(c: Case, more: Partial<EinsumDenseArgs> = {}): EinsumDense {
  const layer = new EinsumDense({...argsOf(c), ...more});
  layer.build(c.x.shape);
  layer.setWeights([stored(c.kernel), ...(c.bias ? [stored(c.bias)] : [])]);
  return layer;
}

/** Writes JSON as tfjs does, in Python's casing, and reads it back. */
const throughJson = (model: tf.LayersModel) =>
  tf.models.modelFromJSON(JSON.parse(JSON.stringify(model.toJSON(null, false))) as tf.io.ModelJSON['modelTopology']);

describe.each(NAMED)('%s', (_, c) => {
  test('matches Keras', () => {
    tf.tidy(() => {
      const layer = layerOf(c);
      expect(layer.kernel.shape).toEqual(c.kernel.shape);
      expect(layer.bias?.shape).toEqual(c.bias?.shape);
      const [x, y] = [stored(c.x), stored(c.y)];
      const before = tf.memory().numTensors;
      const actual = layer.call(x);
      expect(tf.memory().numTensors).toBe(before + 1);
      expect(actual).toBeAllClose(y);
      expect(layer.computeOutputShape(c.x.shape)).toEqual(c.y.shape);
      expect(layer.computeOutputShape([null, ...c.x.shape.slice(1)])).toEqual([null, ...c.y.shape.slice(1)]);
      layer.dispose();
    });
  });

  test('has gradients for its input, kernel and bias', () => {
    tf.tidy(() => {
      const layer = layerOf(c, {activation: null});
      const [kernel, bias] = layer.weights.map(weight => weight.read() as tf.Variable);
      const x = stored(c.x);
      const dy = normal(c.y.shape, 1);
      const f = () => tf.sum(tf.mul(layer.call(x), dy)) as tf.Scalar;
      const {grads, value} = tf.variableGrads(f, bias ? [kernel!, bias] : [kernel!]);
      const dx = tf.grad(a => layer.call(a))(x, dy);
      const dot = (a: tf.Tensor, b: tf.Tensor) => tf.sum(tf.mul(a, b)).arraySync() as number;
      // Linear in x and in the kernel: the sum without the bias equals the product of either with its gradient.
      const total = value.arraySync();
      const ofBias = bias ? dot(grads[bias.name]!, bias) : 0;
      expect(Math.abs(dot(grads[kernel!.name]!, kernel!) + ofBias - total)).toBeLessThan(1e-5 * Math.max(10, total));
      expect(Math.abs(dot(dx, x) + ofBias - total)).toBeLessThan(1e-5 * Math.max(10, total));
      if (bias) {
        const plain = tf.grad(b => tf.mul(tf.add(tf.zeros(c.y.shape), b), dy))(bias as tf.Tensor);
        expect(grads[bias.name]!).toBeAllClose(plain);
      }
      layer.dispose();
    });
  });

  test('rounds its kernel when it is stored as bfloat16', () => {
    tf.tidy(() => {
      const packed = layerOf(c, {dtype: 'bfloat16'});
      expect(packed.kernel).toBeInstanceOf(PackedWeight);
      const rounded = packed.kernel.read();
      expect(rounded).toBeAllClose(stored(c.kernel), 1 / 256);
      const float = layerOf(c);
      float.kernel.write(rounded);
      const x = stored(c.x);
      expectSameGradients(
        a => packed.call(a),
        a => float.call(a),
        [x],
      );
      packed.dispose();
      float.dispose();
    });
  });

  test('survives round trips of its config and of a model as JSON', async () => {
    const config = layerOf(c, {name: 'dense', kernelInitializer: 'he_normal'}).getConfig();
    expect(new EinsumDense(config as unknown as EinsumDenseArgs).getConfig()).toEqual(config);
    const first = layerOf(c, {name: 'dense', batchInputShape: [null, ...c.x.shape.slice(1)]});
    const model = tf.sequential({layers: [first]});
    const copy = await throughJson(model);
    copy.setWeights(model.getWeights());
    expect(copy.outputs[0]!.shape).toEqual(model.outputs[0]!.shape);
    tf.tidy(() => expect(copy.predict(stored(c.x)) as tf.Tensor).toBeAllClose(stored(c.y)));
  });
});

describe('EinsumDense', () => {
  test.each<[string, number[], EinsumDenseArgs]>([
    ['Expected an einsum equation of the form', [null!, 3], {equation: 'ab;bc->ac', outputShape: 4}],
    ['expects an input of rank 2. Received: rank 3.', [null!, 2, 3], {equation: 'ab,bc->ac', outputShape: 4}],
    ['expected outputShape with 1 sizes, for axes c', [null!, 3], {equation: 'ab,bc->ac', outputShape: [2, 4]}],
    [
      'do not match at shared dimension \'b\' of "abc,cd->abd". Received: input 3, output 5.',
      [null!, 3, 4],
      {equation: 'abc,cd->abd', outputShape: [5, 6]},
    ],
    [
      "cannot infer the size of axis 'd' of its kernel",
      [null!, 3, 4],
      {equation: 'abc,cd->abd', outputShape: [null, null]},
    ],
    ["cannot infer the size of axis 'c'", [null!, 3, null!], {equation: 'abc,cd->abd', outputShape: [null, 5]}],
    [
      "Bias dimension 'b' was requested, but is not part of the output spec",
      [null!, 3],
      {equation: 'ab,bc->ac', outputShape: 4, biasAxes: 'b'},
    ],
    ["Bias dimension '' was requested", [null!, 3], {equation: 'ab,bc->ac', outputShape: 4, biasAxes: ''}],
  ])('refuses: %s', (message, shape, args) => {
    const before = tf.memory().numTensors;
    expect(() => new EinsumDense(args).build(shape)).toThrow(ValueError);
    expect(() => new EinsumDense(args).build(shape)).toThrow(message);
    if (!message.startsWith('Bias')) expect(tf.memory().numTensors).toBe(before);
  });

  test('refuses arguments that it does not have', () => {
    expect(() => new EinsumDense({equation: 'ab,bc->ac', outputShape: 4, bias_axes: 'c'} as never)).toThrow(
      'EinsumDense has no argument "bias_axes". Expected: equation, outputShape, activation, biasAxes, ' +
        'kernelInitializer, biasInitializer, loraRank, loraAlpha, name, trainable, dtype, inputShape, batchInputShape.',
    );
    expect(() => new EinsumDense({equation: 'ab,bc->ac', outputShape: 4, activation: 'nope'})).toThrow('nope');
    expect(() => new EinsumDense({equation: 'ab,bc->ac', outputShape: 4, kernelInitializer: 'nope'})).toThrow(
      'Expected an initializer name',
    );
  });

  test('refuses an input that does not fit its kernel', () => {
    const layer = new EinsumDense({equation: 'abc,cd->abd', outputShape: [null, 4]});
    layer.build([null, null, 3]);
    expect(() => layer.call(tf.zeros([1, 2, 5]))).toThrow('axis "c" has size 3 in the kernel. Received: 5');
    layer.dispose();
  });

  test('trains inside a model', async () => {
    const layer = new EinsumDense({equation: 'abc,cd->abd', outputShape: [null, 2], biasAxes: 'd', inputShape: [3, 4]});
    const model = tf.sequential({layers: [layer]});
    model.compile({optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError'});
    const [x, y] = [normal([8, 3, 4], 1), normal([8, 3, 2], 2)];
    const history = await model.fit(x, y, {epochs: 5, verbose: 0});
    const losses = history.history.loss as number[];
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    tf.dispose([x, y]);
    model.dispose();
  });
});
