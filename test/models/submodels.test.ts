/** Models that end inside a backbone, and heads on top of one, trained together with LoRA below: against Keras. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, type layers, ValueError} from '../../src';
import {fixture, fixtureJson} from '../support/fixtures';
import {onEachBackend} from '../support/backends';
import {smallModel} from '../support/small_model';

interface Expected {
  preset: string;
  block: string;
  rank: number;
  rate: number;
  inputs: {token_ids: number[][]; padding_mask: number[][]};
  targets: number[][];
  hidden: number[][][];
  losses: number[];
  predictions: number[][];
  trained: number;
}
const expected = fixtureJson<Expected>('head.json');

const feed = () => Object.values(expected.inputs).map(rows => tf.tensor2d(rows, undefined, 'int32'));
const wave = (shape: number[], start: number) =>
  tf.tensor(
    Array.from({length: tf.util.sizeFromShape(shape)}, (_, i) => Math.sin(start + i) / 4),
    shape,
  );
const outputOf = (backbone: Gemma3Backbone) => backbone.getLayer(expected.block).output as tf.SymbolicTensor;

async function reloaded(model: tf.LayersModel): Promise<tf.LayersModel> {
  let artifacts: tf.io.ModelArtifacts;
  await model.save(
    tf.io.withSaveHandler(async saved => {
      artifacts = saved;
      return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
    }),
  );
  return tf.loadLayersModel(tf.io.fromMemory(artifacts!));
}

onEachBackend(
  () => {
    test('a model that ends at a block gives its hidden states, and is saved and loaded', async () => {
      const backbone = await Gemma3Backbone.fromPreset(fixture(expected.preset));
      const model = tf.model({inputs: backbone.inputs, outputs: outputOf(backbone)});
      const x = feed();
      const y = model.predict(x) as tf.Tensor;
      expect(y).toBeAllClose(expected.hidden, {atol: 1e-5});
      const copy = await reloaded(model);
      // It has the layers below the block only, the factor after the embedding included.
      expect(copy.layers.map(layer => layer.name)).toEqual(model.layers.map(layer => layer.name));
      expect(copy.layers.some(layer => layer.name === 'decoder_block_4')).toBe(false);
      const again = copy.predict(x) as tf.Tensor;
      expect(again).toBeAllClose(expected.hidden, {atol: 1e-5});
      tf.dispose([x, y, again]);
      for (const each of [copy, backbone]) each.dispose();
    });

    test('a head is trained with LoRA below it, as in Keras', async () => {
      const backbone = await Gemma3Backbone.fromPreset(fixture(expected.preset));
      backbone.enableLora(expected.rank);
      const adapted = backbone.transformerLayers.flatMap(({attention}) => [attention.queryDense, attention.valueDense]);
      tf.tidy(() => {
        adapted.forEach((layer, i) => {
          layer.loraKernelA!.write(wave(layer.loraKernelA!.shape, i));
          layer.loraKernelB!.write(wave(layer.loraKernelB!.shape, 10 + i));
        });
      });
      const head = tf.layers.dense({units: 2, name: 'head'});
      const pooled = tf.layers.globalAveragePooling1d().apply(outputOf(backbone));
      const model = tf.model({inputs: backbone.inputs, outputs: head.apply(pooled) as tf.SymbolicTensor});
      tf.tidy(() => head.setWeights([wave([8, 2], 20), tf.zeros([2])]));
      expect(model.trainableWeights).toHaveLength(expected.trained);
      const frozen = model.weights.filter(weight => !weight.trainable);
      const values = () => tf.tidy(() => frozen.map(weight => Array.from(weight.read().dataSync())));
      const before = values();

      const optimizer = tf.train.sgd(expected.rate);
      model.compile({optimizer, loss: 'meanSquaredError'});
      const x = feed();
      const y = tf.tensor2d(expected.targets);
      const losses: number[] = [];
      for (const _ of expected.losses) losses.push((await model.trainOnBatch(x, y)) as number);
      expect(losses).toBeAllClose(expected.losses, {atol: 1e-4});
      expect(values()).toEqual(before);
      const predictions = model.predict(x) as tf.Tensor;
      expect(predictions).toBeAllClose(expected.predictions, {atol: 1e-4});

      // LoRA is part of what is saved.
      const copy = await reloaded(model);
      const again = copy.predict(x) as tf.Tensor;
      expect(again).toBeAllClose(expected.predictions, {atol: 1e-4});
      const block = copy.getLayer(expected.block) as (typeof backbone.transformerLayers)[number];
      expect((block.attention.queryDense as layers.LoraLayer).loraEnabled).toBe(true);
      tf.dispose([x, y, predictions, again]);
      optimizer.dispose();
      for (const each of [copy, backbone]) each.dispose();
      head.dispose();
    });
  },
  {small: true},
);

test('a backbone is a layer of another model, with its vision encoder and LoRA', async () => {
  const lm = smallModel({vision: true});
  const {backbone} = lm;
  backbone.enableLora(2);
  const inputs = backbone.inputs.map(({shape, dtype}, i) =>
    tf.input({batchShape: shape, dtype, name: `my_${backbone.inputNames[i]}`}),
  );
  const outputs = tf.layers.dense({units: 3}).apply(backbone.apply(inputs) as tf.SymbolicTensor) as tf.SymbolicTensor;
  const model = tf.model({inputs, outputs});
  const sizes: Record<string, number> = {token_ids: 6, padding_mask: 6, vision_mask: 6, images: 1, vision_indices: 4};
  const x = backbone.inputs.map(({shape: [, , ...rest], dtype}, i) =>
    tf.ones([2, sizes[backbone.inputNames[i]!]!, ...(rest as number[])], dtype),
  );
  const copy = await reloaded(model);
  expect(copy.predict(x) as tf.Tensor).toBeAllClose(model.predict(x) as tf.Tensor, {atol: 1e-6});
  expect(copy.layers.at(-2)).toBeInstanceOf(Gemma3Backbone);
  expect(copy.layers.at(-2)!.getConfig()).toEqual(backbone.getConfig());
  expect((copy.layers.at(-2) as Gemma3Backbone).loraEnabled).toBe(true);

  // The head of a language model shares the matrix of the embedding.
  const logits = tf.model({inputs: lm.inputs, outputs: lm.outputs});
  expect(lm).toBeInstanceOf(Gemma3CausalLM);
  await expect(reloaded(logits)).rejects.toThrow(ValueError);
  await expect(reloaded(logits)).rejects.toThrow('Save the Gemma3CausalLM itself');
});
