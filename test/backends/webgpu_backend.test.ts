/** The backend itself: options, packed bits, memory, and how much a token takes. webgpu_errors.test.ts has what fails. */
import * as tf from '@tensorflow/tfjs';
import {describeBackends, useBackend} from '../../src';
import {codeTilesOf} from '../../src/backends/webgpu/trial';
import {embedding} from '../../src/ops/embedding';
import {INTEGER_BLOCK} from '../../src/weights/integer_stream';
import {type PackedFormat} from '../../src/weights/dtype';
import {type KernelLayout, packingFor} from '../../src/weights/packing';
import {PackedWeight} from '../../src/weights/packed_weight';
import {ArrayStream} from '../../src/weights/value_stream';
import {normal} from '../support/random';
import {smallModel} from '../support/small_model';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';

const values = (size: number, seed: number) => tf.tidy(() => normal([size], seed).dataSync() as Float32Array);

describeWebGpu('the backend webgpu', () => {
  const random = new Map<string, Float32Array>();
  beforeAll(async () => {
    await tf.setBackend('cpu');
    for (const size of [24 * 64, 40 * 96]) random.set(String(size), values(size, size));
    await useWebGpu();
  });
  afterEach(async () => {
    await useWebGpu();
    await throwGpuErrors();
  });

  test('says what the adapter is and has', async () => {
    const all = await describeBackends();
    const {available, details} = all.find(({name}) => name === 'webgpu')!;
    expect(available).toBe(true);
    expect(details).toMatch(/^\S.*Buffers of \d+ MiB, \d+ MiB at a time\. Variants in use: none$/);
    gpuBackend().lanes = 8;
    gpuBackend().codeTiles = {int8: 'dot', int4: 'f16'};
    const chosen = (await describeBackends()).find(({name}) => name === 'webgpu')!.details;
    gpuBackend().lanes = 0;
    gpuBackend().codeTiles = {};
    expect(chosen).toMatch(
      /Variants in use: tokens in subgroups of 8, prompts in int8 by packed dot products, prompts in int4 in float16$/,
    );
  });

  test('refuses options that no device has', async () => {
    await expect(useBackend('webgpu', {powerPreference: 'low' as 'low-power'})).rejects.toThrow(
      'Backend "webgpu" expected `powerPreference` as "low-power" or "high-performance". Received: powerPreference="low".',
    );
    await expect(useBackend('webgpu', {software: 1 as unknown as boolean})).rejects.toThrow(/software/);
    expect(tf.getBackend()).toBe('webgpu');
  });

  /** Packs values on a backend, in pieces of a few slabs. → the bits */
  async function bitsOn(name: 'simd' | 'webgpu', format: PackedFormat, shape: number[], layout: KernelLayout) {
    const previous = tf.getBackend();
    if (name === 'simd') await useBackend('simd', {threads: 1});
    const weight = new PackedWeight(shape, layout, 'w', tf.initializers.zeros(), true, format);
    const size = tf.util.sizeFromShape(shape);
    await weight.fillFromMemory(new ArrayStream(shape, random.get(String(size))!), 'logical', size / 3);
    const bits = Array.from(await weight.bits.data());
    weight.dispose();
    await tf.setBackend(previous);
    return bits;
  }

  test.each<[PackedFormat, number[], KernelLayout]>([
    ['bfloat16', [24, 64], {out: [0], in: [1]}],
    ['int8', [40, 96], {out: [0], in: [1]}],
    ['int4', [40, 96], {out: [0], in: [1]}],
    // A dense kernel whose first axis is contracted, one with outputs on both sides, and one in another order.
    ['int4', [96, 40], {out: [1], in: [0]}],
    ['int8', [3, 64, 8], {out: [0, 2], in: [1]}],
    ['int4', [2, 8, 96], {out: [1], in: [2, 0]}],
  ])('packs %s of shape %j, outputs and inputs %j, to the bits of simd', async (format, shape, layout) => {
    expect(await bitsOn('webgpu', format, shape, layout)).toEqual(await bitsOn('simd', format, shape, layout));
  });

  test('packs integers of files as they are', async () => {
    const integers = Int8Array.from({length: 20 * 64}, (_, i) => ((i * 37) % 16) - 8);
    const scales = Float32Array.from({length: (20 * 64) / INTEGER_BLOCK}, (_, i) => 2 ** (i % 5));
    const bits: number[][] = [];
    for (const name of ['simd', 'webgpu'] as const) {
      await useBackend(name);
      const target = packingFor('int4').beginIntegers!(20, 64);
      target.place({integers: integers.subarray(0, 16 * 64), scales: scales.subarray(0, 32)}, 0, 16);
      target.place({integers: integers.subarray(16 * 64), scales: scales.subarray(32)}, 16, 4);
      const packed = target.finish();
      bits.push(Array.from(await packed.data()));
      packed.dispose();
    }
    expect(bits[1]).toEqual(bits[0]);
  });

  test('matrices larger than the device can bind are multiplied and looked up in parts', async () => {
    const weight = new PackedWeight([300, 32], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, 'int4');
    await weight.fillFromMemory(new ArrayStream([300, 32], values(300 * 32, 5)), 'logical', 4096);
    const x = {few: normal([2, 32], 1) as tf.Tensor2D, many: normal([10, 32], 2) as tf.Tensor2D};
    const dy = normal([3, 300], 3) as tf.Tensor2D;
    const ids = tf.tensor1d([299, 0, 128, 127], 'int32');
    const all = () => [
      weight.matMul(x.few),
      weight.matMul(x.many),
      ...codeTilesOf(gpuBackend().device, true).map(tile => {
        gpuBackend().codeTiles = {int4: tile};
        const y = weight.matMul(x.many);
        gpuBackend().codeTiles = {};
        return y;
      }),
      weight.packing.matMulTransposed(dy, weight.bits, 300, 32),
      weight.gatherRows(ids),
      weight.read(),
    ];
    const whole = all();
    const {limits} = gpuBackend().device;
    // Rows of float32 results still fit.
    const small = new Proxy(limits, {
      get: (_, name) => (name === 'maxStorageBufferBindingSize' ? 4096 : limits[name as 'maxBufferSize']),
    });
    const device = gpuBackend().device;
    const tensorToBinding = gpuBackend().tensorToBinding;
    Object.defineProperty(device, 'limits', {value: small, configurable: true});
    const stock = Object.getPrototypeOf(Object.getPrototypeOf(gpuBackend())) as {
      tensorToBinding: typeof tensorToBinding;
    };
    gpuBackend().tensorToBinding = function (tensor) {
      if (tensor) this.uploadToGPU(tensor.dataId);
      return stock.tensorToBinding.call(this, tensor);
    };
    const parts = all();
    Object.defineProperty(device, 'limits', {value: limits, configurable: true});
    gpuBackend().tensorToBinding = tensorToBinding;
    for (const [i, part] of parts.entries()) expect(await part.data()).toBeAllClose(await whole[i]!.data(), 1e-6);
    tf.dispose([x, dy, ids, whole, parts]);
    weight.dispose();
  });

  test('a token takes seven programs for each block, and the second text no more memory than the first', async () => {
    const lm = smallModel();
    const {numLayers} = lm.backbone.config;
    const blocks: number[] = [];
    const {run} = gpuBackend();
    let count = 0;
    gpuBackend().run = function (...args) {
      count++;
      return run.apply(this, args);
    };
    const original = tf.getKernel('Gemma3DecoderBlock', 'webgpu')!;
    tf.unregisterKernel('Gemma3DecoderBlock', 'webgpu');
    tf.registerKernel({
      ...original,
      kernelFunc: params => {
        const before = count;
        const result = original.kernelFunc(params);
        blocks.push(count - before);
        return result;
      },
    });
    const bytes: number[] = [];
    for (let turn = 0; turn < 3; turn++) {
      await lm.generate('Hi', {maxNewTokens: 5, stopTokenIds: null});
      // For log probabilities, the host chooses each token.
      await lm.generate('Hi', {maxNewTokens: 5, stopTokenIds: null, logprobs: 1});
      bytes.push((tf.memory() as unknown as {numBytesInGPU: number}).numBytesInGPU);
    }
    tf.unregisterKernel('Gemma3DecoderBlock', 'webgpu');
    tf.registerKernel(original);
    gpuBackend().run = run;
    expect(blocks.length).toBeGreaterThanOrEqual(3 * 4 * numLayers);
    expect(Math.max(...blocks)).toBe(7);
    expect(bytes[2]).toBe(bytes[1]);
    lm.dispose();
  });

  test('token ids that do not exist are refused where the host knows them', async () => {
    const table = normal([4, 3], 1);
    for (const ids of [tf.tensor1d([0, 4], 'int32'), tf.tensor2d([[-1]], undefined, 'int32')]) {
      expect(() => embedding(ids, table)).toThrow(/token ids/);
      ids.dispose();
    }
    table.dispose();
  });

  test('tensors are read asynchronously', async () => {
    const y = tf.add(tf.tensor1d([1, 2]), 1);
    expect(() => y.dataSync()).toThrow(
      /Expected a tensor on the backend "webgpu" to be read with `await tensor.data\(\)`/,
    );
    expect(Array.from(await y.data())).toEqual([2, 3]);
    y.dispose();
  });
});
