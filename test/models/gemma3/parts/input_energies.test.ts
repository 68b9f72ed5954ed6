/** The size of kernels' inputs, estimated from norms, and the resulting bits. */
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, useBackend} from '../../../../src';
import {type Weight} from '../../../../src/weights/weight';
import {MemorySource} from '../../../../src/base/byte_source';
import {MemoryPreset} from '../../../../src/public/files';
import {PackedWeight} from '../../../../src/weights/packed_weight';
import {TINY_PRESET} from '../../../support/fixtures';

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

const packedOf = (backbone: Gemma3Backbone) =>
  (backbone.weights as unknown[]).filter((weight): weight is PackedWeight => weight instanceof PackedWeight);

const bitsOf = (backbone: Gemma3Backbone) => packedOf(backbone).map(({bits}) => Array.from(bits.dataSync()));

/** Products of squares, column by column, as float64 numbers. */
function expectedEnergies({tokenEmbedding, transformerLayers, layerNorm}: Gemma3Backbone): Map<unknown, number[]> {
  const table = tokenEmbedding.embeddings.read().arraySync() as number[][];
  const width = table[0]!.length;
  const columns = Array.from({length: width}, (_, c) => {
    return table.slice(0, 2048).reduce((sum, row) => sum + row[c]! ** 2, 0) / Math.min(2048, table.length);
  });
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const hidden = columns.map(value => value * width);
  const square = (scale: Weight) => Array.from(scale.read().dataSync(), value => (1 + value) ** 2);
  const energies = new Map<unknown, number[]>();
  const set = (kernels: unknown[], scale: Weight, power: number) => {
    const scales = square(scale);
    const products = hidden.map((value, c) => value * scales[c]! * columns[c]! ** power).map(value => value ** 1.25);
    for (const kernel of kernels)
      energies.set(
        kernel,
        products.map(value => value / mean(products) + 0.02),
      );
  };
  for (const block of transformerLayers) {
    const {queryDense, keyDense, valueDense} = block.attention;
    set([queryDense.kernel, keyDense.kernel, valueDense.kernel], block.preAttentionNorm.scale, 0.5);
    square(block.postAttentionNorm!.scale).forEach((value, c) => (hidden[c]! += value));
    set([block.gatingFfw.kernel, block.gatingFfw2.kernel], block.preFfwNorm.scale, 0.5);
    square(block.postFfwNorm!.scale).forEach((value, c) => (hidden[c]! += value));
  }
  set([tokenEmbedding.embeddings], layerNorm.scale, 1);
  return energies;
}

/** The tiny preset, whose norms are all alike, with norms of many sizes. */
async function unevenPreset(): Promise<MemoryPreset> {
  const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'float32'});
  let seed = 0;
  for (const weight of backbone.weights as Weight[]) {
    if (/scale$/.test(weight.originalName)) {
      tf.tidy(() => void weight.write(tf.randomUniform(weight.shape, -0.9, 4, 'float32', seed++)));
    }
  }
  const files = new MemoryPreset();
  await backbone.saveToPreset(files);
  backbone.dispose();
  return files;
}

test('energies follow from norms and the embedding', async () => {
  const files = await unevenPreset();
  const plain = await Gemma3Backbone.fromPreset(files, {dtype: 'bfloat16'});
  await plain.quantize('int4');
  const model = await Gemma3Backbone.fromPreset(files, {dtype: 'int4'});
  const names = new Map(packedOf(model).map(weight => [weight.originalName, weight]));
  const original = await Gemma3Backbone.fromPreset(files, {dtype: 'bfloat16'});
  const expected = expectedEnergies(original);
  for (const [kernel, values] of expected) {
    const {energies} = names.get((kernel as PackedWeight).originalName)!;
    expect(energies).toBeAllClose(Float32Array.from(values), {rtol: 1e-5});
  }
  expect(packedOf(model).filter(({energies}) => energies)).toHaveLength(expected.size);
  for (const one of [plain, model, original]) one.dispose();
});

test('loading, packing a loaded model and converting give the same bits, and copies keep energies', async () => {
  const files = await unevenPreset();
  const loaded = await Gemma3Backbone.fromPreset(files, {dtype: 'int4'});
  const bits = bitsOf(loaded);
  for (const dtype of ['float32', 'bfloat16'] as const) {
    const packed = await Gemma3Backbone.fromPreset(files, {dtype});
    await packed.quantize('int4');
    expect(bitsOf(packed)).toEqual(bits);
    packed.dispose();
  }
  const unread = await Gemma3Backbone.fromPreset(files, {dtype: 'int4', loadWeights: false});
  await unread.loadWeights(new MemorySource('model.weights.h5', files.files.get('model.weights.h5')!));
  expect(bitsOf(unread)).toEqual(bits);
  unread.dispose();
  const converted = new MemoryPreset();
  await convertPreset(files, converted, {to: 'tfjs', dtype: 'int4'});
  const fromFiles = await Gemma3Backbone.fromPreset(converted);
  expect(bitsOf(fromFiles)).toEqual(bits);
  const copy = loaded.clone();
  expect(packedOf(copy).map(({energies}) => energies)).toEqual(packedOf(loaded).map(({energies}) => energies));
  for (const one of [loaded, fromFiles, copy]) one.dispose();
});

test('energies change int4 only, and only with norms after each half of a block', async () => {
  const files = await unevenPreset();
  const without = jest.spyOn(Gemma3Backbone.prototype, 'setEnergies');
  const eight = await Gemma3Backbone.fromPreset(files, {dtype: 'int8'});
  expect(without).not.toHaveBeenCalled();
  eight.dispose();
  const guessed = await Gemma3Backbone.fromPreset(files, {dtype: 'int4'});
  expect(without).toHaveBeenCalledTimes(1);
  without.mockResolvedValue();
  const plain = await Gemma3Backbone.fromPreset(files, {dtype: 'int4'});
  without.mockRestore();
  const [weighted, unweighted] = [bitsOf(guessed), bitsOf(plain)];
  for (const [i, {energies, format}] of packedOf(guessed).entries()) {
    const changed = energies !== undefined && format === 'int4';
    expect(weighted[i]!.join() === unweighted[i]!.join()).toBe(!changed);
  }
  guessed.dispose();
  plain.dispose();
});
