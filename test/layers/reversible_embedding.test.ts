/** `ReversibleEmbedding`, with tied and separate weights: lookup, projection, gradients, storage, loading. */
import * as tf from '@tensorflow/tfjs';
import {ReversibleEmbedding, type ReversibleEmbeddingArgs} from '../../src/layers/reversible_embedding';
import {PackedWeight} from '../../src/weights/packed_weight';
import {normal} from '../support/random';

const [V, D] = [5, 3];
const IDS = tf.tensor2d([4, 1, 1, 0, 4, 4], [2, 3], 'int32');

/** A built layer with random weights, the embeddings first. */
function filled(args: Partial<ReversibleEmbeddingArgs> = {}): ReversibleEmbedding {
  const layer = new ReversibleEmbedding({inputDim: V, outputDim: D, ...args});
  layer.build();
  tf.tidy(() => layer.setWeights(layer.weights.map((weight, i) => normal(weight.shape as number[], i + 1))));
  return layer;
}

const oneHot = (ids: tf.Tensor) => tf.oneHot(tf.reshape(ids, [-1]), V) as tf.Tensor2D;

describe.each([
  ['tied', {}],
  ['tied, with a cap', {logitSoftCap: 0.5}],
  ['untied', {tieWeights: false}],
  ['untied, with a cap', {tieWeights: false, logitSoftCap: 2}],
])('ReversibleEmbedding, %s', (_, args) => {
  const layer = filled(args);
  const cap = layer.logitSoftCap;
  const capped = (x: tf.Tensor) => (cap === null ? x : tf.mul(tf.tanh(tf.div(x, cap)), cap));
  const [embeddings, reverse] = layer.weights.map(weight => weight.read() as tf.Variable);
  const lookUp = () => tf.reshape(tf.matMul(oneHot(IDS), embeddings as tf.Tensor as tf.Tensor2D), [2, 3, D]);
  const project = (x: tf.Tensor) => {
    const matrix = (reverse ?? tf.transpose(embeddings!)) as tf.Tensor2D;
    return capped(tf.reshape(tf.matMul(tf.reshape(x, [-1, D]) as tf.Tensor2D, matrix), [...x.shape.slice(0, -1), V]));
  };

  test('has the weights of Keras', () => {
    expect(layer.weights.map(weight => [weight.originalName.split('/').at(-1), weight.shape])).toEqual([
      ['embeddings', [V, D]],
      ...(reverse ? [['reverse_embeddings', [D, V]]] : []),
    ]);
    expect(layer.countParams()).toBe(V * D * (reverse ? 2 : 1));
  });

  test('looks up and projects back', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      expect(layer.call(IDS)).toBeAllClose(lookUp());
      for (const shape of [[D], [2, D], [2, 4, D], [1, 1, 2, D]]) {
        const x = normal(shape, 5);
        expect(layer.call(x, {reverse: true})).toBeAllClose(project(x));
        expect(layer.apply(x, {reverse: true}) as tf.Tensor).toBeAllClose(project(x));
      }
    });
    expect(tf.memory().numTensors).toBe(before);
    expect(layer.computeOutputShape([null, 7])).toEqual([null, 7, D]);
  });

  test('passes gradients to its weights through both uses, with repeated ids', () => {
    tf.tidy(() => {
      const dy = normal([2, 3, V], 6);
      const loss = (y: tf.Tensor) => tf.sum(tf.mul(y, dy)) as tf.Scalar;
      // A nonlinearity in between makes the two uses depend on each other.
      const actual = tf.variableGrads(
        () => loss(layer.call(tf.tanh(layer.call(IDS)), {reverse: true})),
        layer.weights.map(weight => weight.read() as tf.Variable),
      );
      const expected = tf.variableGrads(
        () => loss(project(tf.tanh(lookUp()))),
        reverse ? [embeddings!, reverse] : [embeddings!],
      );
      expect(Object.keys(actual.grads).sort()).toEqual(Object.keys(expected.grads).sort());
      for (const [name, gradient] of Object.entries(expected.grads)) expect(actual.grads[name]!).toBeAllClose(gradient);
    });
  });

  test('is stored as bfloat16', () => {
    tf.tidy(() => {
      const packed = filled({...args, dtype: 'bfloat16'});
      const rounded = filled(args);
      for (const [i, weight] of packed.weights.entries()) {
        expect(weight).toBeInstanceOf(PackedWeight);
        rounded.weights[i]!.write(weight.read());
      }
      expect(packed.call(IDS)).toBeAllClose(rounded.call(IDS), 1e-12);
      const x = normal([2, 3, D], 5);
      const project = (which: ReversibleEmbedding) => (y: tf.Tensor) => which.call(y, {reverse: true});
      expect(project(packed)(x)).toBeAllClose(project(rounded)(x));
      expect(tf.grad(project(packed))(x)).toBeAllClose(tf.grad(project(rounded))(x));
      packed.dispose();
      rounded.dispose();
    });
  });

  test('survives a config round trip', () => {
    const config = filled({...args, name: 'e', dtype: 'bfloat16'}).getConfig();
    expect(config).toMatchObject({inputDim: V, outputDim: D, logitSoftCap: cap, tieWeights: !reverse});
    expect(new ReversibleEmbedding(config as unknown as ReversibleEmbeddingArgs).getConfig()).toEqual(config);
  });
});

describe('ReversibleEmbedding', () => {
  test('is found by tfjs when a model is loaded', async () => {
    const layer = filled({name: 'embedding', inputShape: [3]});
    const model = tf.sequential({layers: [layer]});
    const json = JSON.parse(JSON.stringify(model.toJSON(null, false))) as tf.io.ModelJSON['modelTopology'];
    const copy = await tf.models.modelFromJSON(json);
    copy.setWeights(model.getWeights());
    tf.tidy(() => expect(copy.predict(IDS) as tf.Tensor).toBeAllClose(model.predict(IDS) as tf.Tensor, 1e-12));
  });

  test('refuses invalid arguments and inputs', () => {
    expect(() => new ReversibleEmbedding({inputDim: 0, outputDim: 3})).toThrow(
      'ReversibleEmbedding expected `inputDim` to be a positive integer. Received: inputDim=0.',
    );
    expect(() => new ReversibleEmbedding({inputDim: 4, outputDim: 3, reverseDtype: 'float32'} as never)).toThrow(
      'ReversibleEmbedding has no argument "reverseDtype". Expected: inputDim, outputDim, tieWeights,',
    );
    const layer = filled();
    expect(() => layer.call(tf.zeros([2, 4]), {reverse: true})).toThrow(
      'expected hidden states (…, 3). Received: [2,4].',
    );
    layer.dispose();
  });
});
