/** A model that is quantized in memory equals, bit for bit, one that was loaded with this dtype. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, useBackend, type weights} from '../../src';
import {nothing} from '../../src/backends/simd/engine/command';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {type QuantizationMode} from '../../src/layers/quantize';
import {EinsumDense, RMSNormalization} from '../../src/public/layers';
import {PackedWeight} from '../../src/public/weights';
import {PIECE} from '../../src/weights/value_stream';
import {fixture, TINY_PRESET} from '../support/fixtures';

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

const heapBytes = () => (tf.memory() as unknown as {heapBytes: number}).heapBytes;

/** Names, flags, shapes, formats and stored bits of all weights. */
const storedWeights = (backbone: Gemma3Backbone) =>
  backbone.weights.map(weight => {
    const packed = weight instanceof PackedWeight;
    const values = (packed ? weight.bits : weight.read()).dataSync();
    const {originalName: name, trainable, shape} = weight;
    return {name, trainable, shape, format: packed ? weight.format : 'float32', values: Array.from(values)};
  });

const summaryOf = (backbone: Gemma3Backbone) => {
  const lines: unknown[] = [];
  backbone.summary(80, undefined, line => lines.push(line));
  return lines;
};

const SOURCES = [
  [fixture('backbone/bfloat16'), undefined],
  [fixture('backbone/everything'), undefined], // a float32 file, stored as float32
  [fixture('backbone/everything'), 'bfloat16'],
  [fixture('backbone/float16'), undefined],
  [fixture('backbone/embedding'), undefined],
  [fixture('backbone/embedding_bfloat16'), undefined],
  [TINY_PRESET, undefined],
] as const;
const MODES: QuantizationMode[] = ['int8', 'int4', 'bfloat16'];
const CASES_OF_MODELS = SOURCES.flatMap(([preset, dtype]) => MODES.map(mode => [preset, dtype, mode] as const));

test.each(CASES_OF_MODELS)('%s as %s, then as %s', async (preset, dtype, mode) => {
  const name = 'backbone';
  const load = (given?: weights.DtypeName) =>
    Gemma3Backbone.fromPreset(preset, given === undefined ? {} : {dtype: given});
  const backbone = await load(dtype);
  if (backbone.getConfig().dtype === mode) {
    await expect(backbone.quantize(mode)).rejects.toThrow(/already quantized: its weights are stored as bfloat16/);
    backbone.dispose();
    return;
  }
  const expected = await load(mode);
  const before = tf.memory().numTensors;
  await backbone.quantize(mode);
  expect(tf.memory().numTensors).toBe(before);
  expect(storedWeights(backbone)).toEqual(storedWeights(expected));
  expect({...backbone.getConfig(), name}).toEqual({...expected.getConfig(), name});
  expect(backbone.transformerLayers[0]!.getConfig().dtype).toBe(mode);
  expect(summaryOf(backbone).slice(1)).toEqual(summaryOf(expected).slice(1));
  expect(backbone.transformerLayers[0]!.gatingFfw.kernel).toBeInstanceOf(PackedWeight);
  backbone.dispose();
  expected.dispose();
});

test('a model that has generated before uses the new kernels, in the fused block as well', async () => {
  const options = {maxLength: 40};
  const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
  await lm.generate('What is the capital of France?', options);
  await lm.quantize('int4');
  const loaded = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype: 'int4'});
  const runs = jest.spyOn(tf.engine(), 'runKernel');
  const text = await lm.generate('What is the capital of France?', options);
  expect(runs.mock.calls.some(([name]) => name === 'Gemma3DecoderBlocks')).toBe(true);
  runs.mockRestore();
  expect(text).toBe(await loaded.generate('What is the capital of France?', options));
  expect(lm.backbone.getConfig().dtype).toBe('int4');
  lm.dispose();
  loaded.dispose();
});

test('weights without values get none', async () => {
  const backbone = await Gemma3Backbone.fromPreset('gemma3_1b', {loadWeights: false});
  const used = heapBytes();
  await backbone.quantize('int8');
  expect(heapBytes()).toBe(used);
  const kernels = backbone.weights.filter(weight => weight instanceof PackedWeight);
  expect(kernels.length).toBe(1 + 26 * 7);
  expect(kernels.every(({format, filled}) => format === 'int8' && !filled)).toBe(true);
  backbone.dispose();
});

test('the vision encoder is quantized separately', async () => {
  const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET);
  const encoder = backbone.visionEncoder!;
  expect(encoder.weights.some(weight => weight instanceof PackedWeight)).toBe(false);
  const size = encoder.config.imageSize;
  const images = tf.randomUniform([1, 1, size, size, 3], -1, 1, 'float32', 3);
  const before = encoder.call(images);
  await encoder.quantize('int8');
  expect(encoder.weights.filter(weight => weight instanceof PackedWeight).length).toBeGreaterThan(6);
  expect(encoder.getConfig().dtype).toBe('int8');
  const after = encoder.call(images);
  // The error of the norm, because single values may differ by more.
  const error = tf.tidy(() => tf.div(tf.norm(tf.sub(after, before)), tf.norm(before)).dataSync()[0]!);
  expect(error).toBeGreaterThan(0);
  expect(error).toBeLessThan(0.05);
  tf.dispose([before, after, images]);
  backbone.dispose();
});

describe('a large matrix', () => {
  const make = async (dtype: weights.DtypeName, shape: [number, number]) => {
    const layer = new EinsumDense({equation: 'ab,bc->ac', outputShape: shape[1], dtype, biasAxes: 'c'});
    layer.build([null, shape[0]]);
    const values = tf.tensor(
      Float32Array.from({length: shape[0] * shape[1]}, (_, i) => Math.sin(i * 1.7)),
      shape,
    );
    layer.kernel.write(values);
    values.dispose();
    return layer;
  };

  test.each([
    ['float32', 'int8', [1024, 2048]],
    ['bfloat16', 'int8', [1024, 2048]],
    ['bfloat16', 'int4', [1500, 1377]],
    ['float32', 'bfloat16', [2048, 1024]],
  ] as const)('%s to %s adds memory only for the new bytes and one piece', async (dtype, mode, shape) => {
    const layer = await make(dtype, [...shape]);
    const old = layer.kernel;
    const backend = tf.backend() as unknown as SimdBackend;
    if (!(old instanceof PackedWeight)) {
      // Moves the kernel into the counted heap.
      backend.disposeData(backend.call({old: old.read()}, {shape: [1]}).run(nothing()).dataId);
    }
    const used = heapBytes();
    let peak = 0;
    const runs = jest.spyOn(backend.engine, 'run').mockImplementation(function (this: never, ...args) {
      peak = Math.max(peak, heapBytes());
      return Object.getPrototypeOf(backend.engine).run.apply(backend.engine, args);
    });
    await layer.quantize(mode);
    runs.mockRestore();
    expect(old).not.toBe(layer.kernel);
    expect(() => old.read()).toThrow(/disposed/);
    expect(peak - used).toBeLessThan(layer.kernel.byteLength + 1.25 * PIECE);
    expect(Math.abs(heapBytes() - used - layer.kernel.byteLength + old.byteLength)).toBeLessThan(64); // cache lines
    // The bits are the same as if the values had been written to a packed kernel.
    const direct = await make(mode, [...shape]);
    const bits = (kernel: typeof direct.kernel) => Buffer.from((kernel as PackedWeight).bits.dataSync().buffer);
    expect(bits(layer.kernel).equals(bits(direct.kernel))).toBe(true);
    layer.dispose();
    direct.dispose();
  });
});

describe('errors', () => {
  const load = () => Gemma3Backbone.fromPreset(fixture('backbone/everything'));

  test('for unknown modes, and for models that are already quantized', async () => {
    const backbone = await load();
    await expect(backbone.quantize('float8' as never)).rejects.toThrow(
      'Expected a quantization mode: "int8", "int4", "bfloat16". Received: "float8".',
    );
    await backbone.quantize('bfloat16');
    await backbone.quantize('int8');
    await expect(backbone.quantize('int8')).rejects.toThrow(/already quantized: its weights are stored as int8/);
    await expect(backbone.quantize('int4')).rejects.toThrow(
      /50 of its weights are stored as int8, the first is "token_embedding\/embeddings"\. .*Load the preset again, with dtype: "int4"/,
    );
    backbone.dispose();
  });

  test('for two calls at once, and for layers without kernels', async () => {
    const backbone = await load();
    const first = backbone.quantize('int8');
    await expect(backbone.quantize('int4')).rejects.toThrow(/is being quantized\. Wait/);
    await first;
    expect(backbone.getConfig().dtype).toBe('int8');
    backbone.dispose();
    const norm = new RMSNormalization();
    norm.build([null, 4]);
    await expect(norm.quantize('int8')).rejects.toThrow(/has no kernels to quantize\. Quantize a layer that has/);
    const dense = new EinsumDense({equation: 'ab,bc->ac', outputShape: 4});
    await expect(dense.quantize('int8')).rejects.toThrow(/has no kernels to quantize\. Build it first/);
  });

  test('leave a working model if packing fails, and the next call packs the rest', async () => {
    const backbone = await load();
    const expected = await Gemma3Backbone.fromPreset(fixture('backbone/everything'), {dtype: 'int8'});
    const real = PackedWeight.prototype.fillFromMemory;
    const fill = jest.spyOn(PackedWeight.prototype, 'fillFromMemory').mockImplementation(async function (
      this: PackedWeight,
      ...args
    ) {
      if (fill.mock.calls.length === 5) throw new Error('no memory');
      return real.apply(this, args);
    });
    const before = tf.memory().numTensors;
    await expect(backbone.quantize('int8')).rejects.toThrow('no memory');
    fill.mockRestore();
    expect(tf.memory().numTensors).toBe(before);
    expect(backbone.getConfig().dtype).toBe('float32');
    const ids = tf.tensor2d([[1, 2, 3]], [1, 3], 'int32');
    tf.dispose(backbone.predict({token_ids: ids, padding_mask: ids}));
    ids.dispose();
    await backbone.quantize('int8');
    expect(storedWeights(backbone)).toEqual(storedWeights(expected));
    backbone.dispose();
    expected.dispose();
  });

  test('for training with weights that `compile` found before', async () => {
    const backbone = await load();
    backbone.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    await backbone.quantize('int8');
    const x = tf.ones([1, 3], 'int32');
    await expect(backbone.fit([x, x], x)).rejects.toThrow(
      /LoRA was merged or the model was quantized after `compile`\. Call `compile` again/,
    );
    backbone.compile({optimizer: 'sgd', loss: 'meanSquaredError'});
    await expect(backbone.fit([x, x], x)).rejects.toThrow(/Received: 50 stored as int8/);
    x.dispose();
    backbone.dispose();
  });

  test('for backends that cannot pack', async () => {
    await useBackend('cpu');
    try {
      const backbone = await load();
      await expect(backbone.quantize('int8')).rejects.toThrow(/The backend "cpu" cannot pack weights as int8/);
      expect(backbone.weights.some(weight => weight instanceof PackedWeight)).toBe(false);
      await backbone.quantize('bfloat16');
      const expected = await Gemma3Backbone.fromPreset(fixture('backbone/everything'), {dtype: 'bfloat16'});
      expect(storedWeights(backbone)).toEqual(storedWeights(expected));
      backbone.dispose();
      expected.dispose();
    } finally {
      await useBackend('simd');
    }
  });
});
