/** Saving to tfjs files, and training: backbones and tasks with weights stored as float32 and bfloat16. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, ValueError, type weights} from '../../src';
import {PackedWeight} from '../../src/public/weights';
import {expectNoLeak} from '../support/numbers';

const makeBackbone = (dtype: weights.DtypeName) =>
  new Gemma3Backbone({
    vocabularySize: 32,
    imageSize: null,
    numLayers: 2,
    numQueryHeads: 2,
    numKeyValueHeads: 1,
    hiddenDim: 8,
    intermediateDim: 12,
    headDim: 4,
    dtype,
  });
const MAKERS: [string, (dtype: weights.DtypeName) => Gemma3Backbone | Gemma3CausalLM][] = [
  ['Gemma3Backbone', makeBackbone],
  [
    'Gemma3CausalLM',
    dtype => {
      const backbone = makeBackbone(dtype);
      const lm = new Gemma3CausalLM({backbone});
      backbone.dispose();
      return lm;
    },
  ],
];
const saver = (artifacts: tf.io.ModelArtifacts[], wait = 0) =>
  tf.io.withSaveHandler(async saved => {
    artifacts.push(saved);
    await new Promise(resolve => setTimeout(resolve, wait));
    return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
  });

describe.each(MAKERS)('%s', (_, make) => {
  test.each(['float32', 'bfloat16'] as const)(
    'saves without leaving a tensor behind, with weights stored as %s',
    async dtype => {
      const model = make(dtype);
      tf.dispose(model.predict({token_ids: [[2, 3]], padding_mask: [[1, 1]]}));
      const artifacts: tf.io.ModelArtifacts[] = [];
      await expectNoLeak(async () => {
        // Two calls at once: neither must dispose the tensors of the other.
        await Promise.all([model.save(saver(artifacts, 5)), model.save(saver(artifacts))]);
        await model.save(saver(artifacts), {trainableOnly: true});
      });
      expect(artifacts).toHaveLength(3);
      // Packed weights are saved as they are stored, two values per int32 word.
      const packed = model.weights.map(weight => weight instanceof PackedWeight);
      const bytes = model.weights.map(({shape}, i) => (packed[i] ? 2 : 4) * tf.util.sizeFromShape(shape as number[]));
      expect(packed.some(Boolean)).toBe(dtype === 'bfloat16');
      for (const {weightSpecs, weightData} of artifacts) {
        expect(weightSpecs!.map(({dtype: saved}) => saved === 'int32')).toEqual(packed);
        expect((weightData as ArrayBuffer).byteLength).toBe(bytes.reduce((a, b) => a + b));
      }
      // The model's own tensors were not disposed.
      tf.dispose(model.predict({token_ids: [[2, 3]], padding_mask: [[1, 1]]}));
      model.dispose();
    },
  );

  test('leaves no tensors behind when saving fails', async () => {
    const model = make('bfloat16');
    tf.dispose(model.getWeights().filter(tensor => !(tensor instanceof tf.Variable)));
    await expectNoLeak(async () => {
      const broken = tf.io.withSaveHandler(() => Promise.reject(new Error('disk full')));
      await expect(model.save(broken)).rejects.toThrow('disk full');
      await expect(model.save('nowhere://x')).rejects.toThrow('Cannot find any save handlers');
    });
    model.dispose();
  });
});

describe('training of a Gemma3Backbone', () => {
  const make = makeBackbone;
  const data = (model: tf.LayersModel) => ({
    x: [tf.tensor2d([[2, 3, 4]], undefined, 'int32'), tf.ones([1, 3], 'int32')],
    y: tf.zeros([1, 3, model.outputs[0]!.shape[2]!]),
  });

  test('throws an error for trainable weights stored as bfloat16', async () => {
    const model = make('bfloat16');
    const {x, y} = data(model);
    const dataset = tf.data.array([]) as never;
    const message =
      /stored as float32 for training. Received: 15 stored as bfloat16.*Load the model with dtype: "float/;
    // Before `compile` and after it.
    for (let i = 0; i < 2; i++) {
      await expectNoLeak(async () => {
        await expect(model.fit(x, y)).rejects.toThrow(ValueError);
        await expect(model.fit(x, y)).rejects.toThrow(message);
        await expect(model.trainOnBatch(x, y)).rejects.toThrow(message);
        await expect(model.fitDataset(dataset, {epochs: 1})).rejects.toThrow(message);
      });
      model.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    }
    tf.dispose([x, y]);
    model.dispose();
  });

  test('trains the other weights when the packed ones are frozen', async () => {
    const model = make('bfloat16');
    const weights = model.weights;
    model.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    for (const weight of weights) if (weight instanceof PackedWeight) weight.trainable = false;
    const {x, y} = data(model);
    const losses = (await model.fit(x, y, {epochs: 3, verbose: 0})).history.loss as number[];
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    tf.dispose([x, y]);
    model.dispose();
  });

  test('trains weights stored as float32', async () => {
    const model = make('float32');
    model.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    const {x, y} = data(model);
    expect(await model.trainOnBatch(x, y)).toEqual(expect.any(Number));
    const losses = (await model.fit(x, y, {epochs: 3, verbose: 0})).history.loss as number[];
    expect(losses.at(-1)).toBeLessThan(losses[0]!);
    tf.dispose([x, y]);
    model.dispose();
  });
});
