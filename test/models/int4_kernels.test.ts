/** Models of dtype "int4" store some kernels as int8, and still read files in which all kernels have four bits. */
import * as tf from '@tensorflow/tfjs';
import {convertPreset, Gemma3Backbone, Gemma3CausalLM, useBackend} from '../../src';
import {folderHandler} from '../../src/checkpoints/tfjs/folder_handler';
import {presets} from '../../src/hub/registry';
import {completeConfig} from '../../src/models/gemma3/parts/backbone_config';
import {int8Kernels} from '../../src/models/gemma3/parts/int8_kernels';
import {Gemma3DecoderBlock} from '../../src/models/gemma3/gemma3_decoder_block';
import {MemoryPreset} from '../../src/public/files';
import {PackedWeight} from '../../src/weights/packed_weight';
import {TINY_PRESET} from '../support/fixtures';

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

afterEach(() => void jest.restoreAllMocks());

const packedOf = (backbone: Gemma3Backbone) =>
  (backbone.weights as unknown[]).filter((weight): weight is PackedWeight => weight instanceof PackedWeight);

/** Names, formats and bits of all packed weights. */
const storedIn = (backbone: Gemma3Backbone) =>
  packedOf(backbone).map(({originalName, format, bits}) => [originalName, format, Array.from(bits.dataSync())]);

const plainInt4 = () => jest.spyOn(Gemma3DecoderBlock.prototype, 'storeAsInt8').mockImplementation(() => {});

/** The tiny preset as versions before this rule wrote it: every kernel has four bits. */
async function oldFiles(): Promise<{files: MemoryPreset; stored: unknown[]}> {
  const spy = plainInt4();
  const files = new MemoryPreset();
  await convertPreset(TINY_PRESET, files, {to: 'tfjs', dtype: 'int4'});
  const backbone = await Gemma3Backbone.fromPreset(files);
  const stored = storedIn(backbone);
  backbone.dispose();
  spy.mockRestore();
  return {files, stored};
}

describe('which kernels are int8', () => {
  test('of the 270M: values, keys, all of one kind, and the outer blocks of another', () => {
    const kernels = int8Kernels({
      ...{vocabularySize: 262144, numLayers: 18, numQueryHeads: 4, numKeyValueHeads: 1},
      ...{hiddenDim: 640, intermediateDim: 2048, headDim: 256},
    });
    const outer = ['value', 'key', 'down', 'up'];
    expect(kernels).toEqual(
      Array.from({length: 18}, (_, i) => ([0, 1, 16, 17].includes(i) ? outer : ['value', 'key', 'up'])),
    );
  });

  test.each(Object.entries(presets))('%s takes at most 5.5 bits a weight', async (_, {config}) => {
    const backbone = Gemma3Backbone.fromConfig({...config, vision_encoder: null, dtype: 'int4'});
    const all = packedOf(backbone);
    const sum = (size: (weight: PackedWeight) => number) => all.reduce((total, weight) => total + size(weight), 0);
    const bits = (8 * sum(({byteLength}) => byteLength)) / sum(({rows, columns}) => rows * columns);
    expect(bits).toBeGreaterThan(5.4);
    expect(bits).toBeLessThan(5.505);
    backbone.dispose();
  });

  test('the backbone and its packed kernels agree', async () => {
    const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'int4'});
    const expected = int8Kernels(completeConfig(backbone.config));
    for (const [i, {attention, gatingFfw, gatingFfw2, ffwLinear}] of backbone.transformerLayers.entries()) {
      const kernels = {
        ...{value: attention.valueDense, key: attention.keyDense, up: gatingFfw2, down: ffwLinear},
        ...{query: attention.queryDense, output: attention.outputDense, gate: gatingFfw},
      };
      for (const [name, {kernel}] of Object.entries(kernels)) {
        const wanted = (expected[i] as string[]).includes(name) ? 'int8' : 'int4';
        expect([i, name, (kernel as PackedWeight).format]).toEqual([i, name, wanted]);
      }
    }
    expect(packedOf(backbone)[0]!.format).toBe('int4');
    expect(expected.flat().length).toBeGreaterThan(0);
    backbone.dispose();
  });
});

describe('files in which all kernels have four bits', () => {
  test('fromPreset keeps their bits, and generates', async () => {
    const {files, stored} = await oldFiles();
    const before = tf.memory().numTensors;
    const lm = await Gemma3CausalLM.fromPreset(files);
    expect(storedIn(lm.backbone)).toEqual(stored);
    expect(stored.every(one => (one as unknown[])[1] === 'int4')).toBe(true);
    const text = await lm.generate('What is the capital of France?', {maxLength: 30});
    expect(lm.backbone.quantizationMode).toBe('int4');
    lm.dispose();
    expect(tf.memory().numTensors).toBe(before);
    plainInt4();
    const old = await Gemma3CausalLM.fromPreset(files);
    expect(await old.generate('What is the capital of France?', {maxLength: 30})).toBe(text);
    old.dispose();
  });

  test('tf.loadLayersModel and write keep their bits; newer bits go into the same model', async () => {
    const {files, stored} = await oldFiles();
    const old = (await tf.loadLayersModel(folderHandler(files as never))) as Gemma3Backbone;
    expect(storedIn(old)).toEqual(stored);
    const fresh = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'int4'});
    const mixed = storedIn(fresh);
    expect(new Set(mixed.map(([, format]) => format))).toEqual(new Set(['int4', 'int8']));
    const before = tf.memory().numTensors;
    const bitsOf = (model: Gemma3Backbone) => packedOf(model).map(({bits}) => bits.clone());
    const [oldBits, newBits] = [bitsOf(old), bitsOf(fresh)];
    for (const [bits, expected] of [
      [oldBits, stored],
      [newBits, mixed],
    ] as const) {
      for (const [i, weight] of packedOf(fresh).entries()) weight.write(bits[i]!);
      expect(storedIn(fresh)).toEqual(expected);
    }
    tf.dispose([oldBits, newBits]);
    expect(tf.memory().numTensors).toBe(before);
    old.dispose();
    fresh.dispose();
  });

  test('a model of int8 takes neither', async () => {
    const {files} = await oldFiles();
    const loading = Gemma3Backbone.fromPreset(files, {dtype: 'int8'});
    await expect(loading).rejects.toThrow(/is stored as int4: load it with dtype "int4"/);
  });
});

test('a model of int4 with kernels of int8 is not quantized again', async () => {
  const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'int4'});
  await expect(backbone.quantize('int4')).rejects.toThrow(/already quantized: its weights are stored as int4/);
  const all = packedOf(backbone).length;
  await expect(backbone.quantize('int8')).rejects.toThrow(new RegExp(`already quantized: ${all} of its weights`));
  backbone.dispose();
});
