/** Errors on the backend `webgpu`: memory, limits, programs, lost devices, missing adapters, switches. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, losses, optimizers, OutOfMemoryError, useBackend} from '../../src';
import {KvCache} from '../../src/generation/kv_cache';
import {Gemma3VisionEncoderLayer} from '../../src/models/gemma3/parts/vision_layers';
import {beginFloat32} from '../../src/weights/float32_target';
import {packingFor} from '../../src/weights/packing';
import {normal} from '../support/random';
import {smallModel} from '../support/small_model';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';

const QUESTION = 'What is the capital of France?';
const ANSWER = `${QUESTION} The capital of France is Paris.`;

/** Gives the backend's device smaller limits. → a function that restores them */
function limit(names: Partial<Record<'maxBufferSize' | 'maxStorageBufferBindingSize', number>>): () => void {
  const {device} = gpuBackend();
  const {limits} = device;
  const smaller = new Proxy(limits, {
    get: (_, name) => names[name as 'maxBufferSize'] ?? limits[name as 'maxBufferSize'],
  });
  Object.defineProperty(device, 'limits', {value: smaller, configurable: true});
  return () => void Object.defineProperty(device, 'limits', {value: limits, configurable: true});
}

/** A number that can be read only if the backend computes. */
async function five(): Promise<number[]> {
  const y = tf.tidy(() => tf.add(tf.tensor1d([2]), 3));
  const values = Array.from(await y.data());
  y.dispose();
  return values;
}

describeWebGpu('when things go wrong on webgpu', () => {
  beforeEach(async () => {
    await useWebGpu();
  });
  afterEach(() => {
    jest.restoreAllMocks();
  });

  // === Memory and limits ===

  test('a tensor that no buffer can hold is refused, and the backend goes on', async () => {
    const {maxBufferSize} = gpuBackend().device.limits;
    expect(() => tf.tidy(() => void tf.fill([maxBufferSize / 4 + 256], 1))).toThrow(OutOfMemoryError);
    expect(await five()).toEqual([5]);
    await throwGpuErrors();
  });

  test('a weight that fits only in another dtype is refused with the dtypes that fit', async () => {
    const restore = limit({maxBufferSize: 16_000, maxStorageBufferBindingSize: 16_000});
    expect(() => beginFloat32([100, 64])).toThrow(
      'Expected memory for 25.6 kB. Received: one memory holds at most 16.0 kB. A weight of shape [100,64] fits with ' +
        'dtype "bfloat16" or "int8" or "int4": load the model with it.',
    );
    const layout = {out: [0], in: [1]};
    expect(() => packingFor('bfloat16').begin([160, 64], layout)).toThrow(/fits with dtype "int8" or "int4"/);
    expect(() => packingFor('int8').beginBits!(1000, 64)).toThrow(/fits with no dtype: use a smaller model/);
    expect(() => packingFor('int4').beginIntegers!(1000, 64)).toThrow(OutOfMemoryError);
    restore();
    expect(await five()).toEqual([5]);
  });

  test('a model that does not fit names a dtype that does, and leaves nothing behind', async () => {
    const before = tf.memory().numTensors;
    const restore = limit({maxBufferSize: 300_000, maxStorageBufferBindingSize: 300_000});
    const loading = Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32'});
    await expect(loading).rejects.toThrow(OutOfMemoryError);
    await expect(loading).rejects.toThrow(/one memory holds at most 300 kB. .* as int4: load it with dtype: "int8"/);
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int8'});
    lm.dispose();
    restore();
    expect(tf.memory().numTensors).toBe(before);
    expect(await five()).toEqual([5]);
  });

  test('images whose activations do not fit together are encoded one after another', async () => {
    const layer = new Gemma3VisionEncoderLayer({numHeads: 2, intermediateDim: 32});
    layer.build([null, 16, 8]);
    const x = normal([3, 16, 8], 1);
    const whole = layer.call(x);
    // One image has 2,048 bytes of them, and all three have 1,536 bytes without them.
    const restore = limit({maxStorageBufferBindingSize: 2100});
    const parts = layer.call(x);
    restore();
    expect(await parts.data()).toBeAllClose(await whole.data(), 1e-6);
    tf.dispose([x, whole, parts]);
    layer.dispose();
    await throwGpuErrors();
  });

  test('keys and values that do not fit are refused with the number of tokens that do', async () => {
    const args = {batch: 1, maxLength: 4096, numKeyValueHeads: 1, headDim: 8, window: null};
    const restore = limit({maxStorageBufferBindingSize: 2 ** 15});
    const cache = new KvCache(args);
    const tokens = tf.zeros<tf.Rank.R4>([1, 900, 1, 8]);
    const append = () => void tf.tidy(() => void cache.append(tokens, tokens, [900]));
    append();
    expect(append).toThrow(/for 2048 tokens in each row, and of 1024 they fit. Pass a smaller `maxLength`/);
    expect(cache.lengths).toEqual([900]);
    restore();
    cache.dispose();
    tokens.dispose();
    await throwGpuErrors();
  });

  test('memory that the GPU does not have is an error that says how much was wanted, before any number is read', async () => {
    const backend = gpuBackend();
    const {device} = backend;
    const {popErrorScope} = device;
    // The GPU reports the error after the values have arrived.
    const answer = new Promise<GPUError>(resolve => {
      setTimeout(() => resolve(new GPUOutOfMemoryError('no memory')), 50);
    });
    const pop = jest.spyOn(device, 'popErrorScope').mockImplementation(() => {
      void popErrorScope.call(device);
      return answer;
    });
    const y = tf.fill([12_345], 1);
    expect(pop).toHaveBeenCalled();
    await expect(y.data()).rejects.toThrow(
      /^Expected memory for 49.4 kB. Received: .* are in use.*useBackend\('webgpu'\)/,
    );
    expect(() => tf.add(y, 1)).toThrow(OutOfMemoryError);
    await useWebGpu();
    expect(await five()).toEqual([5]);
  });

  test('a buffer that cannot be mapped is out of memory at once', async () => {
    jest.spyOn(gpuBackend().device, 'createBuffer').mockImplementation(() => {
      throw new RangeError('createBuffer failed');
    });
    expect(() => tf.tidy(() => void tf.add(tf.tensor1d([1, 2, 3, 4, 5]), 1))).toThrow(OutOfMemoryError);
    jest.restoreAllMocks();
    expect(await five()).toEqual([5]);
  });

  // === Errors of the GPU ===

  test('after an error of the GPU nothing is computed, until the backend is selected again', async () => {
    const backend = gpuBackend();
    const y = tf.add(tf.tensor1d([1, 2]), 1);
    backend.device.createShaderModule({code: 'fn main( {'});
    await expect(y.data()).rejects.toThrow(/^The GPU reported an error: .*Call await useBackend\('webgpu'\)/);
    expect(() => tf.add(tf.tensor1d([1, 2]), 1)).toThrow('The GPU reported an error');
    await useBackend('webgpu');
    expect(gpuBackend()).not.toBe(backend);
    expect(await five()).toEqual([5]);
  });

  test('a program that the device refuses is named', async () => {
    const backend = gpuBackend();
    const program = {name: 'broken', size: 64, reads: {}, writes: {y: 'array<f32>'}, numbers: {}, body: 'y[0] = 1u;'};
    const y = backend.empty([4]);
    backend.run(program, {tensors: [y], numbers: {}, groups: 1});
    await expect(backend.read(y.dataId)).rejects.toThrow(/^The GPU refused the program "broken": .*Call await/);
  });

  // === Lost devices ===

  const lost = /^The GPU device was lost: destroyed.*then load the model again/;

  test('a device that is lost during a generation, and a new one', async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int4'});
    const generating = lm.generate(QUESTION, {maxLength: 24});
    gpuBackend().device.destroy();
    await expect(generating).rejects.toThrow(lost);
    await expect(lm.generate(QUESTION)).rejects.toThrow(lost);
    lm.dispose();
    await useBackend('webgpu');
    const again = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int4'});
    expect(await again.generate(QUESTION, {maxLength: 24})).toBe(ANSWER);
    again.dispose();
    await throwGpuErrors();
  });

  test('between two tokens of a stream', async () => {
    const lm = smallModel({numLayers: 1});
    const stream = lm.stream('Hi', {stopTokenIds: null, maxNewTokens: 40});
    const read = (async () => {
      for await (const _ of stream) gpuBackend().device.destroy();
    })();
    await expect(read).rejects.toThrow(lost);
    lm.dispose();
  });

  test('while a model is loaded', async () => {
    const loading = Gemma3CausalLM.fromPreset('gemma3_tiny', {
      dtype: 'bfloat16',
      onProgress: () => gpuBackend().device.destroy(),
    });
    // Whether loading or the first text fails depends on when the GPU reports the error.
    const text = loading.then(lm => lm.generate(QUESTION));
    await expect(text).rejects.toThrow(lost);
  });

  test('during training', async () => {
    const lm = smallModel({numLayers: 1});
    lm.backbone.enableLora(2);
    lm.compile({
      optimizer: new optimizers.SGD({learningRate: 0.1}),
      loss: new losses.SparseCategoricalCrossentropy(),
    });
    const rows = [[5, 6, 7, 8]];
    const batch = [{token_ids: rows, padding_mask: [[1, 1, 1, 1]]}, rows] as const;
    await lm.trainOnBatch(...batch);
    const training = lm.trainOnBatch(...batch);
    gpuBackend().device.destroy();
    await expect(training).rejects.toThrow(lost);
    lm.dispose();
  });

  // === Adapters, and several backends ===

  test('without an adapter, the reason and what to do; the backend in use stays', async () => {
    await tf.setBackend('cpu');
    const gpu = (navigator as unknown as {gpu: GPU}).gpu;
    const request = jest.spyOn(gpu, 'requestAdapter').mockResolvedValue(null);
    await expect(useBackend('webgpu', {software: true})).rejects.toThrow(
      /WebGPU finds no adapter. Update the GPU driver; on Linux, install a Vulkan driver/,
    );
    expect(tf.getBackend()).toBe('cpu');
    request.mockRestore();
    await useWebGpu();
  });

  test('an adapter that gives no device is unavailable, and the backend before it stays', async () => {
    const before = gpuBackend();
    const gpu = (navigator as unknown as {gpu: GPU}).gpu;
    const {requestAdapter} = gpu;
    jest.spyOn(gpu, 'requestAdapter').mockImplementation(async (...args) => {
      const adapter = (await requestAdapter.apply(gpu, args))!;
      adapter.requestDevice = () => Promise.reject(new Error('too many devices.'));
      return adapter;
    });
    await expect(useBackend('webgpu', {software: true})).rejects.toThrow(
      'The GPU provides no device: too many devices.',
    );
    expect(gpuBackend()).toBe(before);
    expect(await five()).toEqual([5]);
  });

  test('an adapter in software is refused by name unless it is asked for', async () => {
    const before = gpuBackend();
    await expect(useBackend('webgpu', {powerPreference: 'low-power'})).rejects.toThrow(/computes on the CPU/);
    expect(gpuBackend()).toBe(before);
  });

  test('models on two backends side by side, and switches between them', async () => {
    const onGpu = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32'});
    await useBackend('simd', {threads: 1});
    const onSimd = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'int4'});
    for (let turn = 0; turn < 2; turn++) {
      await tf.setBackend('simd');
      expect(await onSimd.generate(QUESTION, {maxLength: 24})).toBe(ANSWER);
      await useBackend('webgpu');
      expect(await onGpu.generate(QUESTION, {maxLength: 24})).toBe(ANSWER);
    }
    // A model on the GPU throws an error with advice on another backend, and works again after a switch back.
    await tf.setBackend('simd');
    await expect(onGpu.generate(QUESTION, {maxLength: 24})).rejects.toThrow(
      /on the backend "webgpu", whose values arrive only later. Call await useBackend\('webgpu'\) before/,
    );
    await useBackend('webgpu');
    expect(await onGpu.generate(QUESTION, {maxLength: 24})).toBe(ANSWER);
    await throwGpuErrors();
    onGpu.dispose();
    await tf.setBackend('simd');
    onSimd.dispose();
    await useBackend('webgpu');
  });
});
