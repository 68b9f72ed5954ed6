/** The base layer: names, order and storage of weights, freezing, disposal, configurations. */
import * as tf from '@tensorflow/tfjs';
import {EinsumDense} from '../../src/layers/einsum_dense';
import {type Kwargs, Layer, type LayerArgs, type ShapeOrShapes, type TensorOrTensors} from '../../src/layers/layer';
import {RMSNormalization} from '../../src/layers/rms_normalization';
import {Gemma3DecoderBlock} from '../../src/models/gemma3/gemma3_decoder_block';
import {normal} from '../support/random';

/** A layer with a weight, two dense layers in a list, and a norm. */
class Inner extends Layer {
  static className = 'TestInner';
  readonly dense: EinsumDense[];
  readonly norm: RMSNormalization;
  constructor(args: LayerArgs = {}) {
    super(args);
    const dtype = this.dtypePolicy.name;
    const dense = (name: string) =>
      new EinsumDense({equation: 'ab,bc->ac', outputShape: 4, biasAxes: 'c', dtype, name});
    this.dense = this.addSublayer('dense', [dense('first'), dense('second')]);
    this.norm = this.addSublayer('norm', new RMSNormalization({dtype, name: 'norm'}));
  }
  override build(shape: ShapeOrShapes): void {
    this.addFloatWeight('factor', [4], tf.initializers.ones());
    for (const layer of this.children) layer.build(shape);
    this.built = true;
  }
  override call(x: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const y = this.dense.reduce((value, layer) => layer.call(value), x as tf.Tensor);
      return tf.mul(this.norm.call(y), this.ownWeights[0]!.read());
    });
  }
}

class Outer extends Layer {
  static className = 'TestOuter';
  readonly inner: Inner;
  constructor(args: LayerArgs = {}) {
    super(args);
    this.inner = this.addSublayer('inner', new Inner({dtype: this.dtypePolicy.name, name: 'inner'}));
  }
  override build(shape: ShapeOrShapes): void {
    this.inner.build(shape);
    this.built = true;
  }
  override call(x: TensorOrTensors): tf.Tensor {
    return this.inner.call(x);
  }
}

const NAMES = [
  'outer/inner/factor',
  'outer/inner/first/kernel',
  'outer/inner/first/bias',
  'outer/inner/second/kernel',
  'outer/inner/second/bias',
  'outer/inner/norm/scale',
];

function built(args: LayerArgs = {}): Outer {
  const layer = new Outer({name: 'outer', ...args});
  layer.build([null, 4]);
  return layer;
}

describe('Layer', () => {
  test('names weights and layers by their position in the tree', () => {
    const layer = built();
    expect(layer.weights.map(weight => weight.originalName)).toEqual(NAMES);
    expect(layer.inner.norm.path).toBe('outer/inner/norm');
    expect(layer.inner.children.map(child => child.name)).toEqual(['first', 'second', 'norm']);
    expect(layer.countParams()).toBe(4 + 16 + 4 + 16 + 4 + 4);
    layer.dispose();
  });

  test('gives the same names when it is applied', () => {
    const layer = new Outer({name: 'outer'});
    tf.tidy(() => layer.apply(tf.zeros([1, 4])) as tf.Tensor).dispose();
    expect(layer.weights.map(weight => weight.originalName)).toEqual(NAMES);
    layer.dispose();
    const inModel = new Outer({name: 'outer'});
    const input = tf.input({shape: [4]});
    const model = tf.model({inputs: input, outputs: inModel.apply(input) as tf.SymbolicTensor});
    expect(model.weights.map(weight => weight.originalName)).toEqual(NAMES);
    model.dispose();
  });

  test('keeps the order of its weights, regardless of which are trainable', () => {
    const layer = built();
    layer.inner.dense[0]!.trainable = false;
    expect(layer.weights.map(weight => weight.originalName)).toEqual(NAMES);
    expect(layer.trainableWeights.map(weight => weight.originalName)).toEqual([NAMES[0], ...NAMES.slice(3)]);
    expect(layer.nonTrainableWeights.map(weight => weight.originalName)).toEqual(NAMES.slice(1, 3));
    layer.trainable = false;
    expect(layer.trainableWeights).toEqual([]);
    expect(layer.inner.norm.trainable).toBe(false);
    layer.trainable = true;
    expect(layer.trainableWeights).toHaveLength(NAMES.length);
    layer.dispose();
  });

  test('can be frozen before its weights exist', () => {
    const layer = built({trainable: false});
    expect(layer.inner.dense[0]!.trainable).toBe(false);
    expect(layer.trainableWeights).toEqual([]);
    expect(layer.weights.every(weight => !weight.trainable)).toBe(true);
    layer.dispose();
  });

  test('is frozen and unfrozen with a model that contains it', () => {
    const input = tf.input({shape: [4]});
    const layer = new Outer();
    const model = tf.model({inputs: input, outputs: layer.apply(input) as tf.SymbolicTensor});
    expect(model.trainableWeights).toHaveLength(NAMES.length);
    model.trainable = false;
    expect(model.trainableWeights).toHaveLength(0);
    expect(model.nonTrainableWeights).toHaveLength(NAMES.length);
    model.trainable = true;
    expect(model.trainableWeights).toHaveLength(NAMES.length);
    model.dispose();
  });

  test.each(['float32', 'bfloat16'] as const)('sets and gets its weights stored as %s', dtype => {
    const layer = built({dtype});
    const values = layer.weights.map((weight, i) =>
      tf.div(tf.round(tf.mul(normal(weight.shape as number[], i), 8)), 8),
    );
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      layer.setWeights(values);
      layer.getWeights().forEach((value, i) => {
        expect(value.dtype).toBe('float32');
        expect(value).toBeAllClose(values[i]!, 1e-12);
      });
    });
    expect(tf.memory().numTensors).toBe(before);
    expect(() => layer.setWeights(values.slice(1))).toThrow('5');
    expect(() => layer.setWeights([tf.zeros([5]), ...values.slice(1)])).toThrow('not compatible');
    layer.dispose();
  });

  test.each(['float32', 'bfloat16'] as const)('leaves no tensors behind, stored as %s', dtype => {
    const before = tf.memory().numTensors;
    const x = tf.ones([2, 4]);
    const layer = new Outer({dtype});
    tf.dispose(layer.apply(x) as tf.Tensor);
    const after = tf.memory().numTensors;
    expect(after).toBe(before + 1 + NAMES.length);
    tf.dispose(layer.apply(x) as tf.Tensor);
    tf.dispose(layer.call(x));
    tf.dispose(tf.grad(y => layer.call(y))(x));
    expect(tf.memory().numTensors).toBe(after);
    expect(layer.dispose()).toEqual({refCountAfterDispose: 0, numDisposedVariables: NAMES.length});
    expect(tf.memory().numTensors).toBe(before + 1);
    expect(() => layer.dispose()).toThrow('already disposed');
    x.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('can be disposed when it was only built, and not before', () => {
    const before = tf.memory().numTensors;
    expect(() => new Outer().dispose()).toThrow('not been built');
    const layer = built();
    expect(tf.memory().numTensors).toBe(before + NAMES.length);
    layer.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('works in a model: predicts, computes gradients and is freed', () => {
    const before = tf.memory().numTensors;
    const input = tf.input({shape: [4]});
    const layer = new Outer();
    const model = tf.model({inputs: input, outputs: layer.apply(input) as tf.SymbolicTensor});
    const x = tf.ones([2, 4]);
    tf.dispose(model.predict(x));
    const after = tf.memory().numTensors;
    tf.dispose(model.predict(x));
    const {value, grads} = tf.variableGrads(
      () => tf.sum(model.apply(x) as tf.Tensor) as tf.Scalar,
      model.trainableWeights.map(weight => weight.read() as tf.Variable),
    );
    expect(Object.keys(grads)).toHaveLength(NAMES.length);
    tf.dispose([value, ...Object.values(grads)]);
    expect(tf.memory().numTensors).toBe(after);
    model.dispose();
    x.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('reports its arguments, and the dtypes that exist', () => {
    expect(built({trainable: false, dtype: 'bfloat16'}).getConfig()).toEqual({
      name: 'outer',
      trainable: false,
      dtype: 'bfloat16',
    });
    for (const dtype of ['int3', 'toString', '', {className: 'QuantizedDTypePolicy', config: {name: 'float32'}}]) {
      expect(() => new Outer({dtype: dtype as 'int8'})).toThrow(
        'Expected dtype to be one of float32, bfloat16, int8, int4, float16,',
      );
    }
    expect(new Outer({dtype: null}).dtypePolicy).toMatchObject({name: 'float32', format: 'float32'});
    // This is how tfjs reads the name from its JSON.
    expect(new Outer({dtype: 'mixedBfloat16' as never}).dtypePolicy).toMatchObject({
      name: 'mixed_bfloat16',
      format: 'float32',
    });
    const policy = {module: 'keras', class_name: 'DTypePolicy', config: {name: 'bfloat16'}};
    expect(new Outer({dtype: policy}).dtypePolicy.format).toBe('bfloat16');
  });
});

test('a configuration written by Keras creates a layer', () => {
  const config = {
    name: 'norm',
    trainable: true,
    dtype: {class_name: 'DTypePolicy', config: {name: 'bfloat16'}},
    epsilon: 0.5,
  };
  const norm = RMSNormalization.fromConfig(RMSNormalization as never, config as never) as unknown as RMSNormalization;
  expect(norm).toMatchObject({name: 'norm', epsilon: 0.5});
  const block = {hidden_dim: 8, intermediate_dim: 16, head_dim: 4, num_query_heads: 2, num_key_value_heads: 1};
  const made = Gemma3DecoderBlock.fromConfig(
    Gemma3DecoderBlock as never,
    block as never,
  ) as unknown as Gemma3DecoderBlock;
  expect(made.config).toMatchObject({hiddenDim: 8, numKeyValueHeads: 1, gateDimReduction: 2});
});
