/**
 * Kernels that run a whole layer in pieces, against the plain path of the layer: bit for bit, since pieces are exact.
 */
import * as tf from '@tensorflow/tfjs';
import {createSimdBackend} from '../../src/backends/simd/create_backend';
import {evenPieces, pieceSize} from '../../src/backends/simd/kernels/pieces';
import {headsAtOnce} from '../../src/backends/simd/kernels/vision_layer';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {type Layer} from '../../src/layers/layer';
import {Gemma3DecoderBlock} from '../../src/models/gemma3/gemma3_decoder_block';
import {Gemma3VisionEncoderLayer} from '../../src/models/gemma3/parts/vision_layers';
import {normal} from '../support/random';

const NAME = 'simd_pieces';
const DTYPES = ['float32', 'bfloat16', 'int8', 'int4'] as const;
let backend: SimdBackend;

beforeAll(async () => {
  backend = await createSimdBackend({threads: 2}, NAME);
  await tf.setBackend(NAME);
});
afterAll(() => tf.removeBackend(NAME));

/** Calls a layer without this kernel. */
function plainly(kernelName: string, call: () => tf.Tensor): tf.Tensor {
  const config = tf.getKernel(kernelName, NAME)!;
  tf.unregisterKernel(kernelName, NAME);
  try {
    return call();
  } finally {
    tf.registerKernel({kernelName, backendName: NAME, kernelFunc: config.kernelFunc});
  }
}

/** Whether a call runs this kernel. */
function runs(kernelName: string, call: () => tf.Tensor): boolean {
  let count = 0;
  const config = tf.getKernel(kernelName, NAME)!;
  tf.unregisterKernel(kernelName, NAME);
  const kernelFunc: tf.KernelFunc = params => {
    count++;
    return config.kernelFunc(params);
  };
  tf.registerKernel({kernelName, backendName: NAME, kernelFunc});
  try {
    call();
  } finally {
    tf.unregisterKernel(kernelName, NAME);
    tf.registerKernel({kernelName, backendName: NAME, kernelFunc: config.kernelFunc});
  }
  return count > 0;
}

function fill(layer: Layer): void {
  tf.tidy(() => layer.setWeights(layer.weights.map((weight, i) => tf.mul(normal(weight.shape as number[], i), 0.2))));
}

test('pieces have similar sizes and cover all rows', () => {
  expect([...evenPieces(300, 128)]).toEqual([
    [0, 100],
    [100, 100],
    [200, 100],
  ]);
  expect([...evenPieces(129, 128)]).toEqual([
    [0, 65],
    [65, 64],
  ]);
  expect([...evenPieces(5, 128)]).toEqual([[0, 5]]);
  expect([...evenPieces(0, 128)]).toEqual([]);
  expect([pieceSize(0, 4), pieceSize(4, 4), pieceSize(5, 4)]).toEqual([0, 4, 3]);
});

test('as many heads attend at a time as memory allows, in whole groups of rows of packed kernels', () => {
  expect(headsAtOnce(4096, 16, 72)).toBe(4);
  expect(headsAtOnce(2048, 16, 72)).toBe(9);
  expect(headsAtOnce(16, 4, 6)).toBe(4); // all of them fit
  expect(headsAtOnce(5500, 16, 36)).toBe(6); // seven fit, and 6 · 36 is a multiple of eight
  expect(headsAtOnce(100_000, 16, 72)).toBe(1);
  expect(headsAtOnce(100_000, 16, 7)).toBe(8);
  expect(headsAtOnce(100_000, 3, 7)).toBe(3); // no part of them is a multiple of eight
});

let measured = 0;

/** Bytes by which the memories of a new backend grow while a call runs. */
async function growth(prepare: () => () => tf.Tensor): Promise<number> {
  const name = `${NAME}_memory_${measured++}`;
  const fresh = await createSimdBackend({threads: 1}, name);
  await tf.setBackend(name);
  try {
    const call = prepare();
    const reserved = () => (fresh.memory() as unknown as {reservedBytes: number}).reservedBytes;
    const before = reserved();
    call().dispose();
    return reserved() - before;
  } finally {
    await tf.setBackend(NAME);
    tf.removeBackend(name);
  }
}

/** By how much a memory grows at least. */
const GROWTH = 64 * 2 ** 20;

const KERNEL = 'Gemma3VisionEncoderLayer';

describe('a layer of the vision encoder', () => {
  // All heads at a time, in several pieces; three of four heads at a time; one patch.
  const sizes = [
    {batch: 2, length: 600, width: 32, numHeads: 4, intermediateDim: 40},
    {batch: 1, length: 1400, width: 480, numHeads: 4, intermediateDim: 64},
    {batch: 2, length: 1, width: 16, numHeads: 2, intermediateDim: 24},
  ];
  test.each(sizes.flatMap(size => DTYPES.map(dtype => ({...size, dtype}))))(
    'equals its plain path: $length patches of width $width in $dtype',
    ({batch, length, width, dtype, ...args}) => {
      tf.tidy(() => {
        const layer = new Gemma3VisionEncoderLayer({...args, layerNormEpsilon: 1e-5, dtype, name: 'layer'});
        layer.build([null, null, width]);
        fill(layer);
        const x = normal([batch, length, width], 99);
        const call = () => layer.call(x);
        expect(runs(KERNEL, call)).toBe(true);
        // Products of a single row add in another order than those of two rows, one of each image.
        expect(call()).toBeAllClose(plainly(KERNEL, call), {atol: length === 1 ? 1e-6 : 0, rtol: 0});
        layer.dispose();
      });
    },
  );

  test('takes the plain path with LoRA, with a mask and for gradients', () => {
    tf.tidy(() => {
      const layer = new Gemma3VisionEncoderLayer({numHeads: 2, intermediateDim: 8, name: 'layer'});
      layer.build([null, null, 4]);
      fill(layer);
      const x = normal([1, 3, 4], 1);
      expect(runs(KERNEL, () => tf.grad(y => tf.sum(layer.call(y)))(x))).toBe(false);
      expect(runs(KERNEL, () => layer.call(x, {attentionMask: tf.zeros([1, 1, 3, 3])}))).toBe(false);
      expect(runs(KERNEL, () => layer.call(tf.zeros([0, 3, 4])))).toBe(false);
      layer.attn.queryProj.enableLora(2);
      expect(runs(KERNEL, () => layer.call(x))).toBe(false);
      layer.dispose();
    });
  });

  test('needs no memory for the inner values of all patches', async () => {
    const args = {numHeads: 4, intermediateDim: 8192};
    // Two tensors of these, as in the plain path, would take 128 MB.
    const inner = 2048 * args.intermediateDim * 4;
    expect(2 * inner).toBeGreaterThan(GROWTH);
    const grown = await growth(() => {
      const layer = new Gemma3VisionEncoderLayer({...args, name: 'layer'});
      layer.build([null, null, 32]);
      fill(layer);
      const x = tf.zeros([1, 2048, 32]);
      return () => layer.call(x);
    });
    expect(grown).toBeLessThanOrEqual(GROWTH);
  });

  test('keeps no memory', () => {
    const layer = new Gemma3VisionEncoderLayer({numHeads: 2, intermediateDim: 8, name: 'layer'});
    layer.build([null, null, 4]);
    fill(layer);
    const x = normal([1, 3, 4], 1);
    layer.call(x).dispose();
    const held = () => [tf.memory().numTensors, (backend.memory() as unknown as {heapBytes: number}).heapBytes];
    const before = held();
    layer.call(x).dispose();
    expect(held()).toEqual(before);
    tf.dispose([x]);
    layer.dispose();
  });
});

describe('the second half of a decoder block', () => {
  const FEED_FORWARD = 'Gemma3FeedForward';
  const args = {hiddenDim: 24, intermediateDim: 40, headDim: 4, numQueryHeads: 2, numKeyValueHeads: 1};
  test.each(DTYPES.flatMap(dtype => [1, 5, 257, 600].map(length => ({dtype, length}))))(
    'equals its plain path: $length tokens in $dtype',
    ({dtype, length}) => {
      tf.tidy(() => {
        const usePostFfwNorm = length !== 5;
        const block = new Gemma3DecoderBlock({...args, usePostFfwNorm, dtype, name: 'block'});
        block.build([null, null, 24]);
        fill(block);
        const x = normal([1, length, 24], 99);
        const call = () => block.call(x);
        expect(runs(FEED_FORWARD, call)).toBe(true);
        expect(call()).toBeAllClose(plainly(FEED_FORWARD, call), {atol: 0, rtol: 0});
        block.dispose();
      });
    },
  );

  test('needs no memory for the gates of all tokens', async () => {
    // Three tensors of these, as in the plain path, would take 100 MB.
    const gates = 1024 * 8192 * 4;
    expect(3 * gates).toBeGreaterThan(GROWTH);
    const grown = await growth(() => {
      const block = new Gemma3DecoderBlock({...args, intermediateDim: 8192, name: 'block'});
      block.build([null, null, 24]);
      fill(block);
      const x = tf.zeros([1, 1024, 24]);
      return () => block.call(x);
    });
    expect(grown).toBeLessThanOrEqual(GROWTH);
  });

  test('takes the plain path with LoRA and for gradients', () => {
    tf.tidy(() => {
      const block = new Gemma3DecoderBlock({...args, gateDimReduction: 2, name: 'block'});
      block.build([null, null, 24]);
      fill(block);
      const x = normal([1, 3, 24], 1);
      expect(runs(FEED_FORWARD, () => block.call(x))).toBe(true);
      expect(runs(FEED_FORWARD, () => tf.grad(y => tf.sum(block.call(y)))(x))).toBe(false);
      block.gatingFfw.enableLora(2);
      expect(runs(FEED_FORWARD, () => block.call(x))).toBe(false);
      block.dispose();
    });
  });
});

test('a tensor that no kernel has used is transposed from where it is', () => {
  tf.tidy(() => {
    for (const [shape, perm] of [
      [
        [2, 3, 4, 5, 41],
        [0, 1, 3, 2, 4],
      ],
      [
        [7, 90, 10],
        [1, 0, 2],
      ],
    ] as const) {
      const x = normal([...shape], 1);
      const y = tf.transpose(x, [...perm]);
      expect(backend.placeOf(x)).toBeUndefined();
      // Another kernel moves it, and then it is transposed by threads.
      const moved = tf.add(x, x);
      expect(backend.placeOf(x)).toBeDefined();
      expect(y).toBeAllClose(tf.transpose(x, [...perm]), {atol: 0, rtol: 0});
      expect(tf.transpose(moved, [...perm])).toBeAllClose(tf.add(y, y), {atol: 0, rtol: 0});
    }
  });
});
