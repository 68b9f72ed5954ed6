/** LoRA of backbones and of the tasks around them: targets, counts, merging, training, generation, copies. */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, useBackend} from '../../src';
import {loraLayers, numberedLayers} from '../../src/adapters/model_lora';
import {MemoryPreset} from '../../src/public/files';
import {PackedWeight} from '../../src/public/weights';
import {fixture} from '../support/fixtures';
import {take} from '../support/numbers';
import {IMAGE_SIZE, smallModel} from '../support/small_model';

interface Case {
  vision: boolean;
  targets: string[] | null;
  defaults: string[];
  layers: number[];
  trainable: number[][];
  nonTrainable: number;
}
const {models} = JSON.parse(readFileSync(fixture('lora/models.json'), 'utf8')) as {models: Case[]};

/** The models of make_lora_fixtures.py. */
const TEXT = {
  ...{vocabularySize: 32, imageSize: 16, numLayers: 6, numQueryHeads: 2, numKeyValueHeads: 1, hiddenDim: 8},
  ...{intermediateDim: 16, headDim: 4, usePostFfwNorm: true, usePostAttentionNorm: true, dropout: 0.1},
};
const VISION = {
  ...{imageSize: 16, patchSize: 4, numHeads: 2, hiddenDim: 8, numLayers: 2, intermediateDim: 16, outputDim: 8},
  poolSize: 2,
};
const make = (vision = false, more: object = {}) =>
  new Gemma3Backbone({...TEXT, visionEncoder: vision ? VISION : null, ...more});

/** Random LoRA matrices, since fresh ones change nothing. */
function randomize(backbone: {trainableWeights: tf.LayerVariable[]}, seed = 1): void {
  tf.tidy(() => {
    backbone.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.3, 'float32', seed + i)),
    );
  });
}

const INPUTS = {
  token_ids: [
    [2, 5, 9, 30, 7],
    [2, 11, 4, 0, 0],
  ],
  padding_mask: [
    [1, 1, 1, 1, 1],
    [1, 1, 1, 0, 0],
  ],
};
const hidden = (backbone: Gemma3Backbone) => take(backbone.predict(INPUTS) as tf.Tensor);

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

test.each(models.map(c => [`${c.vision ? 'vision' : 'text'}, ${c.targets?.join(', ') ?? 'defaults'}`, c] as const))(
  'the layers and weights of KerasHub: %s',
  (_, c) => {
    const backbone = make(c.vision);
    const names = backbone.weights.length;
    expect(backbone.defaultLoraLayerNames()).toEqual(c.defaults);
    backbone.enableLora(3, c.targets ? {targetLayerNames: c.targets} : {});
    expect([...loraLayers(backbone).keys()]).toEqual(c.layers);
    expect(backbone.trainableWeights.map(({shape}) => shape)).toEqual(c.trainable);
    expect(backbone.nonTrainableWeights).toHaveLength(c.nonTrainable);
    expect(backbone.weights).toHaveLength(names + 2 * c.layers.length);
    expect(backbone.trainable).toBe(true);
    backbone.dispose();
  },
);

test('patterns match layers by their full names', () => {
  const backbone = make();
  backbone.enableLora(2, {targetLayerNames: [/block_[01]\/attention\/(query|key)$/g, 'ffw_gating'], alpha: 8});
  const paths = [...loraLayers(backbone).values()].map(({path}) => path);
  expect(paths.filter(path => /query|key/.test(path))).toHaveLength(4);
  expect(paths.filter(path => path.endsWith('ffw_gating'))).toHaveLength(6);
  expect([...loraLayers(backbone).values()].every(({loraAlpha, loraScale}) => loraAlpha === 8 && loraScale === 4)).toBe(
    true,
  );
  backbone.dispose();
});

test('refuses meaningless arguments, and then changes nothing', () => {
  const backbone = make(true);
  const trainable = backbone.trainableWeights.length;
  const tensors = tf.memory().numTensors;
  const refuse = (rank: number, options: object, message: RegExp) =>
    expect(() => backbone.enableLora(rank, options)).toThrow(message);
  refuse(0, {}, /`rank` to be a positive integer. Received: rank=0/);
  refuse(2, {alpha: 0}, /`alpha` to be above 0/);
  refuse(2, {target_layer_names: ['query']}, /no argument "target_layer_names"/);
  refuse(2, {targetLayerNames: []}, /at least one. Received: \[\]/);
  refuse(2, {targetLayerNames: ['query', 'q_proj']}, /Received: "q_proj", which selects no layer that can have LoRA/);
  refuse(2, {targetLayerNames: [/^nothing/]}, /Received: \/\^nothing\/, which selects no layer/);
  refuse(
    2,
    {targetLayerNames: ['query_norm']},
    /"query_norm", a layer of class RMSNormalization, which cannot have LoRA/,
  );
  refuse(2, {targetLayerNames: ['embedding_conv']}, /a layer of class PatchConv2D/);
  expect(backbone.trainableWeights).toHaveLength(trainable);
  expect(tf.memory().numTensors).toBe(tensors);
  backbone.enableLora(2);
  refuse(3, {}, /lora is already enabled, with rank 2. .* Received: rank=3/);
  expect(loraLayers(backbone).size).toBeGreaterThan(0);
  backbone.dispose();
});

describe.each(['float32', 'bfloat16', 'int8', 'int4'])('over weights stored as %s', dtype => {
  test('computes the same before and after merging, up to rounding, and packed weights stay packed', async () => {
    const backbone = make(false, {dtype: dtype === 'float32' ? 'float32' : 'bfloat16', dropout: 0});
    randomize({trainableWeights: backbone.weights}, 100);
    if (dtype.startsWith('int')) await backbone.quantize(dtype as 'int8');
    const plain = await hidden(backbone);
    const weights = backbone.weights.length;
    backbone.enableLora(2, {targetLayerNames: ['query', 'value', 'attention_output', 'ffw_linear', 'token_embedding']});
    expect(await hidden(backbone)).toBeAllClose(plain, {atol: 1e-6});
    randomize(backbone);
    const packed = backbone.weights.filter(weight => weight instanceof PackedWeight).length;
    const before = tf.memory().numTensors;
    const unmerged = await hidden(backbone);
    expect(tf.memory().numTensors).toBe(before);
    expect(unmerged).not.toBeAllClose(plain, {atol: 0.1});
    await backbone.mergeLora();
    expect(backbone.loraEnabled).toBe(false);
    expect(backbone.weights).toHaveLength(weights);
    expect(tf.memory().numTensors).toBe(before - 2 * (4 * 6 + 1));
    expect(backbone.weights.filter(weight => weight instanceof PackedWeight)).toHaveLength(packed);
    const tolerance = {float32: 1e-4, bfloat16: 0.2, int8: 0.3, int4: 2.5}[dtype]!;
    expect(await hidden(backbone)).toBeAllClose(unmerged, {atol: tolerance});
    await expect(backbone.mergeLora()).rejects.toThrow(/no lora-enabled layers/);
    backbone.dispose();
  });
});

test('only the first of two calls merges', async () => {
  const backbone = make(false, {dropout: 0});
  backbone.enableLora(2);
  randomize(backbone);
  const unmerged = await hidden(backbone);
  const first = backbone.mergeLora();
  await expect(backbone.mergeLora()).rejects.toThrow(/being merged/);
  await first;
  expect(await hidden(backbone)).toBeAllClose(unmerged, {atol: 1e-4});
  backbone.dispose();
});

test('quantizes kernels that have LoRA, and keeps LoRA', async () => {
  const backbone = make(false, {dropout: 0});
  randomize({trainableWeights: backbone.weights}, 100);
  backbone.enableLora(2);
  randomize(backbone);
  const matrices = backbone.trainableWeights;
  const before = await hidden(backbone);
  await backbone.quantize('int8');
  expect(backbone.trainableWeights).toEqual(matrices);
  expect(backbone.transformerLayers[0]!.attention.queryDense.kernel).toBeInstanceOf(PackedWeight);
  expect(await hidden(backbone)).toBeAllClose(before, {atol: 0.3});
  backbone.dispose();
});

test('saves merged weights and stays unmerged', async () => {
  const backbone = make(false, {dropout: 0});
  const parameters = backbone.countParams();
  backbone.enableLora(2, {alpha: 3});
  randomize(backbone);
  const unmerged = await hidden(backbone);
  const preset = new MemoryPreset();
  const before = tf.memory().numTensors;
  await backbone.saveToPreset(preset);
  expect(tf.memory().numTensors).toBe(before);
  expect(backbone.loraEnabled).toBe(true);
  expect(await hidden(backbone)).toEqual(unmerged);
  const metadata = JSON.parse(new TextDecoder().decode(preset.files.get('metadata.json'))) as object;
  expect(metadata).toMatchObject({parameter_count: parameters});
  const loaded = await Gemma3Backbone.fromPreset(preset);
  expect(loaded.loraEnabled).toBe(false);
  expect(await hidden(loaded)).toBeAllClose(unmerged, {atol: 1e-4});
  backbone.dispose();
  loaded.dispose();
});

test('copies and tfjs files keep LoRA separate from the weights', async () => {
  const backbone = make(true);
  backbone.enableLora(2, {alpha: 3});
  randomize(backbone);
  const values = (model: tf.LayersModel) =>
    model.weights.map(weight => {
      const {shape, trainable} = weight;
      return {shape, trainable, values: Array.from(weight.read().dataSync())};
    });
  const expected = values(backbone);
  const copy = backbone.clone();
  expect(values(copy)).toEqual(expected);
  let artifacts: tf.io.ModelArtifacts | undefined;
  await backbone.save(
    tf.io.withSaveHandler(async given => {
      artifacts = JSON.parse(JSON.stringify({...given, weightData: null})) as tf.io.ModelArtifacts;
      artifacts.weightData = given.weightData;
      return {modelArtifactsInfo: {dateSaved: new Date(), modelTopologyType: 'JSON'}};
    }),
  );
  const loaded = (await tf.loadLayersModel(tf.io.fromMemory(artifacts!))) as Gemma3Backbone;
  expect(loaded).toBeInstanceOf(Gemma3Backbone);
  expect([...loraLayers(loaded).values()].map(({loraRank, loraAlpha}) => [loraRank, loraAlpha])).toEqual(
    [...loraLayers(backbone).values()].map(() => [2, 3]),
  );
  expect(values(loaded)).toEqual(expected);
  for (const model of [backbone, copy, loaded]) model.dispose();
});

describe('a task around it', () => {
  test.each(['before', 'after'])('trains only its matrices, with `compile` %s `enableLora`', async when => {
    const lm = smallModel();
    const {backbone} = lm;
    const compile = () => lm.compile({optimizer: tf.train.adam(0.01)});
    if (when === 'before') compile();
    backbone.enableLora(2);
    if (when === 'after') compile();
    expect(lm.trainableWeights).toHaveLength(4 * 7);
    const before = tf.tidy(() => backbone.nonTrainableWeights.map(weight => Array.from(weight.read().dataSync())));
    const x = [tf.tensor2d([[2, 5, 9]], [1, 3], 'int32'), tf.ones([1, 3], 'int32')];
    const y = tf.zeros([1, 3], 'int32');
    const history = await lm.fit(x, y, {epochs: 3, verbose: 0});
    const loss = history.history.loss as number[];
    expect(loss[2]).toBeLessThan(loss[0]!);
    const after = tf.tidy(() => backbone.nonTrainableWeights.map(weight => Array.from(weight.read().dataSync())));
    expect(after).toEqual(before);
    tf.tidy(() => {
      for (const layer of loraLayers(backbone).values()) {
        expect(tf.max(tf.abs(layer.loraMatrices!.b.read())).dataSync()[0]).toBeGreaterThan(0);
      }
    });
    await lm.mergeLora();
    await expect(lm.fit(x, y)).rejects.toThrow('Received a model whose weights are all frozen');
    tf.dispose([x, y]);
    lm.dispose();
  });

  test('an optimizer that has trained other weights is detected', async () => {
    const lm = smallModel();
    lm.compile({optimizer: tf.train.adam(0.01)});
    const x = [tf.tensor2d([[2, 5, 9]], [1, 3], 'int32'), tf.ones([1, 3], 'int32')];
    const y = tf.zeros([1, 3], 'int32');
    await lm.fit(x, y, {verbose: 0});
    lm.backbone.enableLora(2);
    await expect(lm.fit(x, y, {verbose: 0})).rejects.toThrow(/28 weights, not the same ones. Call `compile` again/);
    lm.compile({optimizer: tf.train.adam(0.01)});
    await lm.fit(x, y, {verbose: 0});
    tf.dispose([x, y]);
    lm.dispose();
  });

  test('generates the same before and after it is merged, and uses the fused block again', async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    const prompt = 'What is the capital of France?';
    const options = {maxLength: 40};
    const plain = await lm.generate(prompt, options);
    lm.backbone.enableLora(4, {alpha: 8});
    expect(await lm.generate(prompt, options)).toBe(plain);
    randomize(lm.backbone);
    const runs = jest.spyOn(tf.engine(), 'runKernel');
    const fused = () => runs.mock.calls.some(([name]) => name === 'Gemma3DecoderBlocks');
    const before = tf.memory().numTensors;
    const unmerged = await lm.generate(prompt, options);
    expect(tf.memory().numTensors).toBe(before);
    expect(unmerged).not.toBe(plain);
    expect(fused()).toBe(false);
    // In float32, where merging rounds nothing.
    const preset = new MemoryPreset();
    await lm.saveToPreset(preset, {dtype: 'float32'});
    const merged = await Gemma3CausalLM.fromPreset(preset);
    expect(await merged.generate(prompt, options)).toBe(unmerged);
    expect(fused()).toBe(true);
    runs.mockRestore();
    lm.dispose();
    merged.dispose();
  });

  test('with images, where the vision encoder also has LoRA', async () => {
    const lm = smallModel({vision: true});
    lm.backbone.enableLora(2, {
      targetLayerNames: [...lm.backbone.defaultLoraLayerNames().slice(2), 'position_embedding'],
    });
    randomize(lm.backbone);
    const image = tf.randomUniform([1, 1, IMAGE_SIZE, IMAGE_SIZE, 3], -1, 1, 'float32', 3);
    const encode = () => take(lm.backbone.visionEncoder!.call(image) as tf.Tensor);
    const unmerged = await encode();
    await lm.mergeLora();
    expect(await encode()).toBeAllClose(unmerged, {atol: 1e-4});
    image.dispose();
    lm.dispose();
  });
});

test('layers without weights are not numbered', () => {
  const backbone = make(true);
  expect(numberedLayers(backbone)).toHaveLength(121);
  backbone.dispose();
});
