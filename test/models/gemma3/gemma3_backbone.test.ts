/** The backbone: arguments, predictions, configurations, and weights. */
import {readFileSync} from 'node:fs';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {snakeKeys} from '../../../src/base/casing';
import {ValueError} from '../../../src/base/errors';
import {Gemma3Backbone, type Gemma3BackboneArgs} from '../../../src/models/gemma3/gemma3_backbone';
import {type AnyWeight, PackedWeight} from '../../../src/weights/packed_weight';
import {onEachBackend} from '../../support/backends';
import {fixture} from '../../support/fixtures';
import {normal} from '../../support/random';

/** The sizes in KerasHub's tests. */
const TINY: Gemma3BackboneArgs = {
  vocabularySize: 256,
  imageSize: null,
  numLayers: 6,
  numQueryHeads: 2,
  numKeyValueHeads: 1,
  hiddenDim: 8,
  intermediateDim: 16,
  headDim: 4,
  usePostFfwNorm: true,
  usePostAttentionNorm: true,
  useSlidingWindowAttention: true,
  slidingWindowSize: 3,
};
const ids = () =>
  tf.tensor2d(
    [
      [2, 5, 7, 9, 11, 0],
      [2, 3, 4, 0, 0, 0],
    ],
    undefined,
    'int32',
  );
const mask = () =>
  tf.tensor2d(
    [
      [1, 1, 1, 1, 1, 0],
      [1, 1, 1, 0, 0, 0],
    ],
    undefined,
    'int32',
  );

/** A model with weights that are large enough to change the results. */
function filled(args: Partial<Gemma3BackboneArgs> = {}): Gemma3Backbone {
  const backbone = new Gemma3Backbone({...TINY, ...args});
  tf.tidy(() =>
    backbone.setWeights(backbone.weights.map((weight, i) => tf.mul(normal(weight.shape as number[], i), 0.3))),
  );
  return backbone;
}
const predict = (backbone: tf.LayersModel) =>
  tf.tidy(() => (backbone as Gemma3Backbone).predict({token_ids: ids(), padding_mask: mask()}) as tf.Tensor);

describe('arguments', () => {
  test.each<[object, string]>([
    [{hiddenDims: 8}, 'Gemma3Backbone has no argument "hiddenDims". Expected: vocabularySize, numLayers,'],
    [{foo: 1, bar: 2}, 'Gemma3Backbone has no arguments "foo", "bar".'],
    [{hidden_dim: 8}, 'Expected "hiddenDim" once, in one casing.'],
    [{vocabularySize: undefined}, '`vocabularySize` to be a positive integer. Received: vocabularySize=undefined.'],
    [{numLayers: 0}, '`numLayers` to be a positive integer. Received: numLayers=0.'],
    [{numLayers: 1.5}, 'Received: numLayers=1.5.'],
    [{hiddenDim: '8'}, 'Received: hiddenDim="8".'],
    [{numKeyValueHeads: 3}, 'Received: numQueryHeads=2, numKeyValueHeads=3.'],
    [{headDim: 5}, 'Gemma3Backbone expected an even headDim, for rotary positions. Received: headDim=5.'],
    [{dropout: 1}, 'Gemma3Backbone expected `dropout` in [0, 1). Received: dropout=1.'],
    [{dropout: -0.1}, 'Received: dropout=-0.1.'],
    [{slidingWindowSize: 0}, '`slidingWindowSize` to be a positive integer'],
    [{localRopeScalingFactor: 0}, '`localRopeScalingFactor` to be above 0. Received: localRopeScalingFactor=0.'],
    [{globalRopeScalingFactor: -1}, '`globalRopeScalingFactor` to be above 0'],
    [{layerNormEpsilon: 0}, '`layerNormEpsilon` to be above 0'],
    [{attentionLogitSoftCap: 0}, '`attentionLogitSoftCap` to be null or above 0'],
    [{finalLogitSoftCap: '30'}, '`finalLogitSoftCap` to be null or above 0. Received: finalLogitSoftCap="30".'],
    [{imageSize: 0}, '`imageSize` to be null or a positive integer. Received: imageSize=0.'],
    [{imageSize: '896'}, 'Received: imageSize="896".'],
    [{useQueryKeyNorm: 'no'}, 'Gemma3Backbone expected `useQueryKeyNorm` to be true or false. Received: useQueryKeyN'],
    [{useSlidingWindowAttention: 1}, 'Received: useSlidingWindowAttention=1.'],
    [{trainable: 'no'}, '`trainable` to be true or false'],
    [{name: 3}, 'Gemma3Backbone expected `name` to be a string. Received: name=3.'],
    [{visionEncoder: 'x'}, '`visionEncoder` to be a Gemma3VisionEncoder, its configuration, or null. Received: vision'],
    [{visionEncoder: 3}, 'Received: visionEncoder=3.'],
    [{visionEncoder: []}, 'Received: visionEncoder=[].'],
    [{visionEncoder: {config: 3}}, 'Received: visionEncoder={"config":3}.'],
    [{visionEncoder: {class_name: 'ViT', config: {}}}, 'Received: visionEncoder={"class_name":"ViT","config":{}}.'],
    [{visionEncoder: {}}, 'Gemma3VisionEncoder expected `imageSize` to be a positive integer'],
    [{dtype: 'int3'}, 'Expected dtype to be one of float32, bfloat16'],
    [{isEmbeddingModel: true}, 'Must specify embeddingDim and poolingIntermediateDim for an embedding model.'],
    [{isEmbeddingModel: true, embeddingDim: 4}, 'Received: embeddingDim=4, poolingIntermediateDim=null.'],
    [{isEmbeddingModel: true, embeddingDim: 0, poolingIntermediateDim: 4}, '`embeddingDim` to be null or a positive'],
    [{isEmbeddingModel: 'yes'}, '`isEmbeddingModel` to be true or false. Received: isEmbeddingModel="yes".'],
  ])('are refused: %j', (args, message) => {
    const before = tf.memory().numTensors;
    expect(() => new Gemma3Backbone({...TINY, ...args})).toThrow(ValueError);
    expect(() => new Gemma3Backbone({...TINY, ...args})).toThrow(message);
    expect(tf.memory().numTensors).toBe(before);
  });

  test.each([undefined, null, 3, 'x', []])('must be one object, not %j', args => {
    for (const make of [() => new Gemma3Backbone(args as never), () => Gemma3Backbone.fromConfig(args as never)]) {
      expect(make).toThrow(ValueError);
      expect(make).toThrow('Gemma3Backbone expected its arguments in one object: {name: value, …}. Received: ');
    }
  });

  test('may have an image size without a vision encoder, as some text presets do', () => {
    const backbone = new Gemma3Backbone({...TINY, imageSize: 896});
    expect([backbone.textOnlyModel, backbone.config.imageSize]).toEqual([true, 896]);
    backbone.dispose();
  });

  test('may have the casing of Keras', () => {
    const [camel, snake] = [TINY, snakeKeys(TINY)].map(args => new Gemma3Backbone({...args, name: 'b'} as never));
    expect(snake!.getConfig()).toEqual(camel!.getConfig());
    camel!.dispose();
    snake!.dispose();
  });

  test('have the defaults of KerasHub', () => {
    const {vocabularySize, imageSize, numLayers, numQueryHeads, numKeyValueHeads, hiddenDim, intermediateDim, headDim} =
      TINY;
    const sizes = {
      vocabularySize,
      imageSize,
      numLayers,
      numQueryHeads,
      numKeyValueHeads,
      hiddenDim,
      intermediateDim,
      headDim,
    };
    const backbone = new Gemma3Backbone(sizes);
    expect(backbone.config).toEqual({
      ...sizes,
      queryHeadDimNormalize: true,
      useQueryKeyNorm: true,
      usePostFfwNorm: false,
      usePostAttentionNorm: false,
      attentionLogitSoftCap: null,
      finalLogitSoftCap: null,
      useSlidingWindowAttention: false,
      slidingWindowSize: 1024,
      localRopeScalingFactor: 1,
      globalRopeScalingFactor: 1,
      layerNormEpsilon: 1e-6,
      useBidirectionalAttention: false,
      dropout: 0,
      isEmbeddingModel: false,
      poolingIntermediateDim: null,
      embeddingDim: null,
      dtype: 'float32',
      trainable: true,
    });
    backbone.dispose();
  });

  test.each([
    ['bfloat16', true],
    ['float16', false],
    ['mixed_bfloat16', false],
    [{module: 'keras', class_name: 'DTypePolicy', config: {name: 'bfloat16'}, registered_name: null}, true],
    [{className: 'DTypePolicy', config: {name: 'float32'}}, false],
    [null, false],
  ] as const)('may have the dtype %j', (dtype, packed) => {
    const backbone = new Gemma3Backbone({...TINY, dtype});
    expect(backbone.tokenEmbedding.embeddings instanceof PackedWeight).toBe(packed);
    expect(backbone.countParams()).toBe(5752);
    backbone.dispose();
  });

  test('with trainable: false freeze all weights', () => {
    const backbone = new Gemma3Backbone({...TINY, trainable: false});
    expect(backbone.trainableWeights).toHaveLength(0);
    expect(backbone.nonTrainableWeights).toHaveLength(backbone.weights.length);
    backbone.trainable = true;
    expect(backbone.nonTrainableWeights).toHaveLength(0);
    backbone.dispose();
  });

  test('of fromPreset: unknown options and dtypes are refused', async () => {
    await expect(Gemma3Backbone.fromPreset('gemma3_1b', {load_weights: false} as never)).rejects.toThrow(
      /^fromPreset has no argument "load_weights"\. Expected: loadWeights, weights, dtype,.* Did you mean "loadWeights"\?$/,
    );
    await expect(Gemma3Backbone.fromPreset('gemma3_1b', {loadWeights: false, dtype: 'int3' as never})).rejects.toThrow(
      'int3',
    );
  });
});

describe('predict', () => {
  const backbone = filled();

  test('takes tensors or numbers by name, or tensors in order', () => {
    const before = tf.memory().numTensors;
    const [a, b] = [ids(), mask()];
    const byName = backbone.predict({token_ids: a, padding_mask: b}) as tf.Tensor;
    const inOrder = backbone.predict([a, b]) as tf.Tensor;
    const numbers = backbone.predict({padding_mask: b.arraySync(), token_ids: a.arraySync()}) as tf.Tensor;
    expect(byName.shape).toEqual([2, 6, 8]);
    expect(inOrder).toBeAllClose(byName, 1e-12);
    expect(numbers).toBeAllClose(byName, 1e-12);
    expect(a.isDisposed).toBe(false);
    tf.dispose([a, b, byName, inOrder, numbers]);
    expect(tf.memory().numTensors).toBe(before);
  });

  test.each<[unknown, string]>([
    [{token_ids: [[1]]}, 'Expected inputs token_ids, padding_mask. Received: token_ids.'],
    [{}, 'Received: none.'],
    [{token_ids: [[1]], paddingMask: [[1]]}, 'Received: token_ids, paddingMask.'],
    [{token_ids: [[1]], padding_mask: [[1]], images: [[1]]}, 'Received: token_ids, padding_mask, images.'],
    [[], 'Expected 2 inputs: token_ids, padding_mask. Received: 0.'],
  ])('refuses %j', (inputs, message) => {
    const before = tf.memory().numTensors;
    expect(() => backbone.predict(inputs as never)).toThrow(message);
    expect(tf.memory().numTensors).toBe(before);
  });

  test('does not depend on the ids of padding', () => {
    tf.tidy(() => {
      const other = tf.add(ids(), tf.mul(tf.sub(1, mask()), 9)) as tf.Tensor2D;
      const y = backbone.predict({token_ids: other, padding_mask: mask()}) as tf.Tensor;
      const real = tf.expandDims(tf.cast(mask(), 'float32'), 2);
      expect(tf.mul(y, real)).toBeAllClose(tf.mul(predict(backbone), real), 1e-6);
    });
  });
});

describe('configuration', () => {
  const args: Partial<Gemma3BackboneArgs> = {
    attentionLogitSoftCap: 5,
    finalLogitSoftCap: 3,
    globalRopeScalingFactor: 8,
    queryHeadDimNormalize: false,
    dropout: 0.25,
    dtype: 'mixed_bfloat16',
    name: 'Some_Name',
  };

  test('is restored by fromConfig', () => {
    const backbone = filled(args);
    const copy = Gemma3Backbone.fromConfig(backbone.getConfig());
    expect(copy.getConfig()).toEqual(backbone.getConfig());
    expect(copy.getConfig()).toMatchObject(args);
    const fromKeras = Gemma3Backbone.fromConfig(snakeKeys(backbone.getConfig()));
    expect(fromKeras.getConfig()).toEqual(backbone.getConfig());
    for (const model of [backbone, copy, fromKeras]) model.dispose();
  });

  test('is restored from tfjs JSON', async () => {
    const backbone = filled(args);
    const json = JSON.parse(JSON.stringify(backbone.toJSON(null, false))) as tf.io.ModelJSON['modelTopology'];
    const copy = await tf.models.modelFromJSON(json);
    expect(copy).toBeInstanceOf(Gemma3Backbone);
    expect(copy.getConfig()).toEqual(backbone.getConfig());
    tf.tidy(() => copy.setWeights(backbone.getWeights()));
    expect(predict(copy)).toBeAllClose(predict(backbone), 1e-12);
    backbone.dispose();
    copy.dispose();
  });

  test.each(['float32', 'bfloat16'] as const)(
    'saves to tfjs files and loads from them with weights stored as %s',
    async dtype => {
      const backbone = filled({dtype});
      let saved: tf.io.ModelArtifacts | undefined;
      const handler = tf.io.withSaveHandler(async artifacts => {
        saved = artifacts;
        return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
      });
      await backbone.save(handler);
      const copy = await tf.loadLayersModel(tf.io.fromMemory(saved!));
      expect(copy).toBeInstanceOf(Gemma3Backbone);
      expect(predict(copy)).toBeAllClose(predict(backbone), 1e-12);
      expect(copy.weights.map(weight => weight.originalName)).toEqual(
        backbone.weights.map(weight => weight.originalName),
      );
      backbone.dispose();
      copy.dispose();
    },
  );

  test('can be read from a file of Keras', async () => {
    const folder = fixture('backbone/everything');
    const {config} = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as {config: object};
    const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
    const direct = new Gemma3Backbone(config as never);
    expect(direct.config).toEqual(backbone.config);
    const other = await Gemma3Backbone.fromPreset(folder, {loadWeights: false, dtype: 'bfloat16'});
    expect(other.config).toEqual({...backbone.config, dtype: 'bfloat16'});
    for (const model of [backbone, direct, other]) model.dispose();
  });
});

describe('weights', () => {
  test('keep their order when they are read and set', () => {
    const backbone = filled();
    const names = backbone.weights.map(weight => weight.originalName);
    expect(names[0]).toBe('token_embedding/embeddings');
    expect(names[1]).toBe('decoder_block_0/pre_attention_norm/scale');
    expect(names.at(-1)).toBe('final_normalization/scale');
    expect(new Set(names).size).toBe(names.length);
    backbone.transformerLayers[0]!.trainable = false;
    expect(backbone.weights.map(weight => weight.originalName)).toEqual(names);
    expect(backbone.trainableWeights).toHaveLength(names.length - 13);
    const copy = new Gemma3Backbone(TINY);
    tf.tidy(() => copy.setWeights(backbone.getWeights()));
    expect(predict(copy)).toBeAllClose(predict(backbone), 1e-12);
    backbone.dispose();
    copy.dispose();
  });

  test('are freed when the model is disposed', () => {
    const before = tf.memory().numTensors;
    const backbone = filled();
    const after = tf.memory().numTensors;
    expect(after).toBe(before + backbone.weights.length);
    predict(backbone).dispose();
    expect(tf.memory().numTensors).toBe(after);
    backbone.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test.each([true, false])('have the gradients of finite differences, with a sliding window: %j', sliding => {
    const backbone = filled({numLayers: 1, useSlidingWindowAttention: sliding, attentionLogitSoftCap: 2});
    const target = normal([2, 6, 8], 99);
    const inputs = [ids(), mask()];
    const loss = () => tf.mean(tf.mul(backbone.apply(inputs) as tf.Tensor, target)) as tf.Scalar;
    const variables = backbone.weights.map(weight => weight.read() as tf.Variable);
    const {value, grads} = tf.variableGrads(loss, variables);
    expect(Object.keys(grads)).toHaveLength(variables.length);
    let largest = 0;
    variables.forEach((variable, i) =>
      tf.tidy(() => {
        const original = variable.clone();
        const direction = normal(variable.shape, i + 100);
        const at = (step: number) => {
          variable.assign(tf.add(original, tf.mul(direction, step)));
          return tf.tidy(() => loss().arraySync());
        };
        const difference = (step: number) => (at(step) - at(-step)) / (2 * step);
        // Richardson extrapolation cancels the error that grows with the square of the step.
        const numeric = (4 * difference(1e-3) - difference(2e-3)) / 3;
        variable.assign(original);
        const analytic = tf.sum(tf.mul(grads[variable.name]!, direction)).arraySync() as number;
        expect(Math.abs(numeric - analytic)).toBeLessThan(1e-4);
        largest = Math.max(largest, Math.abs(analytic));
      }),
    );
    expect(largest).toBeGreaterThan(0.1);
    tf.dispose([target, inputs, value, grads]);
    backbone.dispose();
  });

  test('train', async () => {
    const backbone = filled({numLayers: 1});
    backbone.compile({optimizer: tf.train.adam(0.01), loss: 'meanSquaredError'});
    const [a, b, y] = [ids(), mask(), normal([2, 6, 8], 98)];
    const history = await backbone.fit([a, b], y, {epochs: 4, verbose: 0, shuffle: false});
    const losses = history.history.loss as number[];
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    tf.dispose([a, b, y]);
    backbone.dispose();
  });
});

onEachBackend(() =>
  test('a boolean padding mask gives the same results as one of 1 and 0', () => {
    const backbone = filled();
    tf.tidy(() => {
      const given = {token_ids: ids(), padding_mask: mask()};
      const expected = backbone.predict(given) as tf.Tensor;
      expect(backbone.predict({...given, padding_mask: tf.cast(mask(), 'bool')}) as tf.Tensor).toBeAllClose(
        expected,
        1e-7,
      );
    });
    backbone.dispose();
  }),
);

test('predict gives values to all weights before it runs a layer', () => {
  const backbone = new Gemma3Backbone({...TINY, dtype: 'bfloat16'});
  const filled = () => backbone.weights.filter(weight => (weight as AnyWeight).filled).length;
  expect(filled()).toBe(0);
  const {layerNorm, transformerLayers} = backbone;
  const call = jest.spyOn(transformerLayers[0]!, 'call');
  call.mockImplementation(() => {
    throw new Error(`${filled()} of ${backbone.weights.length}`);
  });
  expect(() => predict(backbone)).toThrow(`${backbone.weights.length} of ${backbone.weights.length}`);
  expect(layerNorm.scale.filled).toBe(true);
  backbone.dispose();
});
