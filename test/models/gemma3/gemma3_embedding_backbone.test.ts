/** Embedding models with two outputs by name. gemma3_backbone_parity.test.ts compares their numbers with KerasHub. */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  type Gemma3BackboneArgs,
  Gemma3CausalLM,
  type Gemma3EmbeddingOutputs,
  useBackend,
} from '../../../src';
import {snakeKeys} from '../../../src/base/casing';
import {PackedWeight} from '../../../src/public/weights';
import {onEveryBackend} from '../../support/backends';
import {fixture} from '../../support/fixtures';
import {expectNoLeak} from '../../support/numbers';
import {normal} from '../../support/random';

const ARGS: Gemma3BackboneArgs = {
  vocabularySize: 40,
  imageSize: null,
  numLayers: 2,
  numQueryHeads: 2,
  numKeyValueHeads: 1,
  hiddenDim: 8,
  intermediateDim: 16,
  headDim: 4,
  useBidirectionalAttention: true,
  useSlidingWindowAttention: true,
  slidingWindowSize: 4,
  isEmbeddingModel: true,
  poolingIntermediateDim: 12,
  embeddingDim: 5,
};
const FIXTURE = fixture('backbone/embedding');
const INPUTS = {
  token_ids: [
    [2, 3, 4, 5, 6, 7],
    [2, 8, 9, 0, 0, 0],
  ],
  padding_mask: [
    [1, 1, 1, 1, 1, 1],
    [1, 1, 1, 0, 0, 0],
  ],
};
const predict = (model: tf.LayersModel) => (model as Gemma3Backbone).predict<Gemma3EmbeddingOutputs>(INPUTS);

async function savedArtifacts(model: tf.LayersModel): Promise<tf.io.ModelArtifacts> {
  let saved: tf.io.ModelArtifacts | undefined;
  const handler = tf.io.withSaveHandler(async artifacts => {
    saved = artifacts;
    return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
  });
  await model.save(handler);
  return saved!;
}

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

test('returns hidden states, and embeddings of length 1, by name', async () => {
  await expectNoLeak(() => {
    const backbone = new Gemma3Backbone(ARGS);
    const outputs = predict(backbone);
    expect(Object.keys(outputs)).toEqual(['sequence_output', 'pooled_output']);
    expect(outputs.sequence_output.shape).toEqual([2, 6, 8]);
    expect(outputs.pooled_output.shape).toEqual([2, 5]);
    tf.tidy(() => expect(tf.norm(outputs.pooled_output, 'euclidean', 1)).toBeAllClose([1, 1]));
    tf.dispose(outputs);
    backbone.dispose();
  });
});

test('has the layers of KerasHub, with their weights after all others', () => {
  const backbone = new Gemma3Backbone(ARGS);
  expect(backbone.layers.slice(-4).map(layer => [layer.name, layer.getClassName()])).toEqual([
    ['mean_pooling', 'Gemma3MeanPooling'],
    ['pooling_dense_1', 'Dense'],
    ['embedding_projection', 'Dense'],
    ['unit_normalization', 'UnitNormalization'],
  ]);
  expect(backbone.weights.slice(-2).map(({originalName, shape}) => [originalName, shape])).toEqual([
    ['pooling_dense_1/kernel', [8, 12]],
    ['embedding_projection/kernel', [12, 5]],
  ]);
  backbone.dispose();
});

test('is restored by fromConfig in either casing, from JSON and from tfjs files', async () => {
  const backbone = await Gemma3Backbone.fromPreset(FIXTURE);
  const expected = predict(backbone);
  const json = JSON.parse(JSON.stringify(backbone.toJSON(null, false))) as tf.io.ModelJSON['modelTopology'];
  const copies: tf.LayersModel[] = [
    Gemma3Backbone.fromConfig(backbone.getConfig()),
    Gemma3Backbone.fromConfig(snakeKeys(backbone.getConfig())),
    await tf.models.modelFromJSON(json),
    await tf.loadLayersModel(tf.io.fromMemory(await savedArtifacts(backbone))),
  ];
  copies.forEach((copy, i) => {
    expect(copy).toBeInstanceOf(Gemma3Backbone);
    expect(copy.getConfig()).toEqual(backbone.getConfig());
    // The last copy was loaded with its weights.
    if (i < copies.length - 1) tf.tidy(() => copy.setWeights(backbone.getWeights()));
    const outputs = predict(copy);
    expect(outputs.pooled_output).toBeAllClose(expected.pooled_output, 1e-12);
    expect(outputs.sequence_output).toBeAllClose(expected.sequence_output, 1e-12);
    tf.dispose(outputs);
    copy.dispose();
  });
  tf.dispose(expected);
  backbone.dispose();
});

test.each([
  ['bfloat16', 0.02],
  ['int8', 0.03],
  ['int4', 0.3],
] as const)('packs its projections as %s', async (dtype, tolerance) => {
  const exact = await Gemma3Backbone.fromPreset(FIXTURE);
  const packed = await Gemma3Backbone.fromPreset(FIXTURE, {dtype});
  const kernels = packed.embeddingHead.flatMap(layer => [...layer.kernels.keys()]);
  expect(kernels.map(kernel => kernel instanceof PackedWeight && kernel.format)).toEqual([dtype, dtype]);
  const [a, b] = [predict(exact), predict(packed)];
  expect(b.pooled_output).toBeAllClose(a.pooled_output, {atol: tolerance});
  expect(b.pooled_output).not.toBeAllClose(a.pooled_output, {atol: 0});
  tf.dispose([a, b]);
  exact.dispose();
  packed.dispose();
});

test('computes the same embedding for a text with and without padding', () => {
  const backbone = new Gemma3Backbone(ARGS);
  const together = predict(backbone);
  const single = backbone.predict<Gemma3EmbeddingOutputs>({token_ids: [[2, 8, 9]], padding_mask: [[1, 1, 1]]});
  tf.tidy(() => expect(single.pooled_output).toBeAllClose(tf.slice(together.pooled_output, [1, 0], [1, 5]), 1e-6));
  tf.dispose([together, single]);
  backbone.dispose();
});

onEveryBackend(() =>
  test('trains on labels by name', async () => {
    await expectNoLeak(async () => {
      const backbone = new Gemma3Backbone({...ARGS, useSlidingWindowAttention: false});
      const [ids, mask] = [tf.tensor2d(INPUTS.token_ids, [2, 6], 'int32'), tf.tensor2d(INPUTS.padding_mask, [2, 6])];
      const x = {token_ids: ids, padding_mask: mask};
      const y = {sequence_output: normal([2, 6, 8], 1), pooled_output: normal([2, 5], 2)};
      const optimizer = tf.train.adam(0.02);
      // tfjs adds the losses of both outputs, so these must have the same shape; tfjs' own loss keeps the token axis.
      const over = (axes: number[]) => (a: tf.Tensor, b: tf.Tensor) => tf.mean(tf.squaredDifference(a, b), axes);
      backbone.compile({optimizer, loss: {sequence_output: over([1, 2]), pooled_output: over([1])}});
      const {history} = await backbone.fit(x, y, {epochs: 4, shuffle: false, verbose: 0});
      expect(Object.keys(history)).toEqual(['loss', 'sequence_output_loss', 'pooled_output_loss']);
      for (const losses of Object.values(history)) expect(losses.at(-1)).toBeLessThan(losses[0] as number);
      tf.dispose([x, y]);
      backbone.dispose();
      optimizer.dispose();
    });
  }),
);

test('is refused as the backbone of a language model', () => {
  const backbone = new Gemma3Backbone(ARGS);
  expect(() => new Gemma3CausalLM({backbone})).toThrow(
    'Gemma3CausalLM expected a backbone whose only output is hidden states. Received: a backbone with isEmbeddingModel: true.',
  );
  backbone.dispose();
});
