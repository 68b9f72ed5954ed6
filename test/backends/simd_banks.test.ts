/** A model that is spread over several small memories computes the same as one in a single memory. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, OutOfMemoryError} from '../../src';
import {createSimdBackend} from '../../src/backends/simd/create_backend';
import {PAGE, staticBytes} from '../../src/backends/simd/engine/bank';
import {nothing} from '../../src/backends/simd/engine/command';
import {type SimdEngineOptions} from '../../src/backends/simd/engine/simd_engine';
import {simdKernels} from '../../src/backends/simd/kernels';
import {type SimdBackend} from '../../src/backends/simd/memory/simd_backend';
import {normal} from '../support/random';

const PROMPTS = ['What is the capital of France?', 'Hi'];
const names: string[] = [];
let count = 0;

interface Setting {
  threads: number;
  shared: boolean;
}

/** Creates a backend and makes it current. `room`: bytes of tensors per memory; without it, one memory suffices. */
async function use({threads, shared}: Setting, room?: number, maximumBanks?: number): Promise<SimdBackend> {
  const maximumPages = room === undefined ? 65535 : Math.ceil((staticBytes(threads) + room) / PAGE);
  const options: SimdEngineOptions = {threads, maximumPages, maximumBanks};
  if (!shared) options.memory = new WebAssembly.Memory({initial: 1, maximum: maximumPages});
  // tfjs finds the kernels of a backend by its name up to the first underscore.
  const name = `simd${count++}`;
  names.push(name);
  const backend = await createSimdBackend(options, name);
  await tf.setBackend(name);
  return backend as unknown as SimdBackend;
}
afterEach(async () => {
  await tf.setBackend('cpu');
  for (const name of names.splice(0)) tf.removeBackend(name);
});

const memory = () => tf.memory() as unknown as {heapBytes: number; banks: number; numTensors: number};

/** Runs a function and expects it to release all memory. */
async function expectNothingLeft<T>(run: () => Promise<T>): Promise<T> {
  const {heapBytes, numTensors} = memory();
  const result = await run();
  expect([memory().heapBytes, memory().numTensors]).toEqual([heapBytes, numTensors]);
  return result;
}

/** Runs a function without a fused kernel: that of a decoder block, or that of several. */
async function without<T>(kernelName: string, run: () => Promise<T>): Promise<T> {
  const backendName = tf.getBackend();
  tf.unregisterKernel(kernelName, backendName);
  try {
    return await run();
  } finally {
    tf.registerKernel({kernelName, backendName, kernelFunc: simdKernels[kernelName]!});
  }
}

function logits(lm: Gemma3CausalLM): number[] {
  return tf.tidy(() => {
    const images = {images: tf.zeros([1, 0, 64, 64, 3]), vision_indices: [[]], vision_mask: [[0, 0, 0, 0, 0]]};
    const inputs = {token_ids: [[2, 5, 7, 11, 13]], padding_mask: [[1, 1, 1, 1, 0]], ...images};
    return Array.from((lm.predict(inputs as never) as tf.Tensor).dataSync());
  });
}

/** Gradients for all weights of all decoder blocks. */
function gradients(lm: Gemma3CausalLM): Record<string, number[]> {
  return tf.tidy(() => {
    const x = normal([2, 6, 128], 1);
    const mask = tf.ones([2, 6], 'int32');
    const {value, grads} = tf.variableGrads(() => {
      const out = lm.backbone.transformerLayers.reduce((h, block) => block.call([h, mask]), x as tf.Tensor);
      return tf.mean(tf.square(out)) as tf.Scalar;
    });
    const entries = Object.values(grads).map((grad, i) => [String(i), Array.from(grad.dataSync())]);
    return Object.fromEntries([['loss', [value.dataSync()[0]!]], ...entries]) as Record<string, number[]>;
  });
}

const SETTINGS: Setting[] = [
  {threads: 1, shared: false},
  {threads: 1, shared: true},
  {threads: 2, shared: true},
];
const KB = 1024;

describe.each(SETTINGS)('$threads thread(s), shared: $shared', setting => {
  test.each([
    ['float32', 2100 * KB],
    ['bfloat16', 1200 * KB],
    ['int4', 700 * KB],
  ] as const)('%s', async (dtype, room) => {
    const run = () =>
      expectNothingLeft(async () => {
        const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype});
        const {banks} = memory();
        const texts = {
          fused: await lm.generate(PROMPTS, {maxLength: 30}),
          single: await without('Gemma3DecoderBlocks', () => lm.generate(PROMPTS, {maxLength: 30})),
          plain: await without('Gemma3DecoderBlock', () => lm.generate(PROMPTS, {maxLength: 30})),
          again: await lm.generate(PROMPTS[0]!, {maxLength: 60}),
        };
        const results = {texts, logits: logits(lm), gradients: dtype === 'float32' ? gradients(lm) : {}};
        lm.dispose();
        return {banks, results};
      });
    await use(setting);
    const one = await run();
    expect(one.banks).toBe(1);
    expect(one.results.texts.again).toContain('Paris');
    await use(setting, room);
    const several = await run();
    expect(several.banks).toBeGreaterThanOrEqual(3);
    expect(several.results).toEqual(one.results);
  });
});

test('where the bank of the weights has no room for all caches, blocks move one by one', async () => {
  const backend = await use({threads: 1, shared: false}, 4 * 1024 * KB);
  const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'bfloat16'});
  const expected = await lm.generate(PROMPTS[0]!, {maxLength: 60});
  expect(memory().banks).toBe(1);
  const before = memory().heapBytes;
  // Takes what is left.
  const taken: {release: () => void}[] = [];
  for (const bytes of [512 * KB, 64 * KB, 16 * KB]) {
    try {
      for (;;) taken.push(backend.borrow(bytes, 0));
    } catch (error) {
      expect(error).toBeInstanceOf(OutOfMemoryError);
    }
  }
  const text = await lm.generate(PROMPTS[0]!, {maxLength: 60});
  expect(memory().banks).toBeGreaterThan(1);
  expect(text).toBe(expected);
  for (const {release} of taken) release();
  expect(memory().heapBytes).toBe(before);
  lm.dispose();
});

describe('placement', () => {
  const setting = {threads: 1, shared: false};

  test('moves operands together, and leaves them there', async () => {
    const backend = await use(setting, 1024 * KB);
    const weight = (floats: number) => tf.engine().makeTensorFromTensorInfo(backend.empty([floats]));
    // Weights may fill three quarters of a bank.
    const [a, c, b] = [weight(128 * KB), weight(32 * KB), weight(128 * KB)];
    expect([a, b, c].map(tensor => backend.placeOf(tensor)!.bank)).toEqual([0, 1, 0]);
    const host = tf.ones([8]);
    const call = backend.call<'b' | 'c' | 'd' | 'host'>(
      {b, c, host},
      {shape: [1], workspaceBytes: 100, preferredBank: ['b']},
    );
    expect([call.bank, ...[b, c, host].map(tensor => backend.placeOf(tensor)!.bank)]).toEqual([1, 1, 1, 1]);
    expect([call.at('c') % 64, call.maybeAt('d')]).toEqual([0, 0]);
    const y = call.run([0, []]);
    backend.disposeData(y.dataId);
    expect(Array.from(host.dataSync())).toEqual(new Array(8).fill(1));
    tf.dispose([a, b, c, host]);
    expect(memory().heapBytes).toBe(0);
  });

  test('uses another bank with enough room if necessary', async () => {
    const backend = await use(setting, 1024 * KB);
    const weight = tf.engine().makeTensorFromTensorInfo(backend.empty([128 * KB]));
    backend.data.get(weight.dataId).values.fill(3);
    const other = backend.borrow(400 * KB, 0);
    const call = backend.call({weight}, {shape: [120 * KB]});
    expect(call.bank).toBe(1);
    expect(weight.dataSync().every(value => value === 3)).toBe(true);
    backend.disposeData(call.run([0, []]).dataId);
    weight.dispose();
    other.release();
    expect(memory().heapBytes).toBe(0);
  });

  test('copies when tfjs kernels return parts of their inputs, in every bank', async () => {
    const backend = await use(setting, 1024 * KB);
    const fill = tf.engine().makeTensorFromTensorInfo(backend.empty([150 * KB]));
    const x = tf.engine().makeTensorFromTensorInfo(backend.empty([64 * KB]));
    expect(backend.placeOf(x)!.bank).toBe(1);
    backend.data.get(x.dataId).values.fill(1);
    const part = tf.slice(x, 5, 2);
    backend.data.get(x.dataId).values.fill(2);
    expect(Array.from(part.dataSync())).toEqual([1, 1]);
    tf.dispose([fill, x, part]);
  });
});

describe('operands in different banks', () => {
  const positions = (length: number) => tf.range(0, length, 1, 'int32').expandDims<tf.Tensor2D>();
  const attentionInputs = (length: number) => ({
    ...{q: normal([2, length, 4, 8], 1), k: normal([2, 9, 2, 8], 2), v: normal([2, 9, 2, 8], 3)},
    ...{queryPositions: positions(9).slice([0, 9 - length]), keyPositions: positions(9)},
    paddingMask: tf.tensor2d(
      Array.from({length: 18}, (_, i) => Number(i !== 1 && i !== 13)),
      [2, 9],
      'int32',
    ),
    attentionMask: tf.tensor3d(
      Array.from({length: 18 * length}, (_, i) => Number(i % 7 > 0)),
      [2, length, 9],
      'bool',
    ),
  });
  const attentionAttrs = {scale: 0.3, logitSoftCap: 5, window: 6, bidirectional: false};
  const gradientInputs = () => ({...attentionInputs(9), dy: normal([2, 9, 4, 8], 4)});
  const rows = (...seeds: number[]) => seeds.map(seed => normal([6, 1000], seed)) as [tf.Tensor, tf.Tensor, tf.Tensor];
  const norm = () => {
    const [dy, x] = rows(1, 2);
    return {dy, x, scale: normal([1000], 3)};
  };
  const x = () => ({x: rows(5)[0]});
  const uniforms = [0.1, 0.9, 0.5, 0, 0.7, 0.3];

  const cases: [kernel: string, inputs: () => Record<string, tf.Tensor>, attrs: object][] = [
    ['Gemma3Attention', () => attentionInputs(1), attentionAttrs],
    ['Gemma3AttentionGradient', gradientInputs, attentionAttrs],
    ['Gemma3RmsNormGradientX', norm, {epsilon: 1e-6}],
    ['Gemma3RmsNormGradientScale', norm, {epsilon: 1e-6}],
    ['Gemma3GeluGradient', () => ({...x(), dy: rows(2)[0], value: rows(3)[0]}), {}],
    ['Gemma3MatMulGradientKernel', () => ({...x(), dy: normal([6, 12], 2)}), {outer: 3, inner: 4}],
    ['Gemma3MatMulGradientX', () => ({dy: normal([6, 12], 2), kernel: normal([3, 50, 4], 1)}), {}],
    ['Gemma3TopK', x, {k: 5}],
    ['Gemma3SoftmaxSums', x, {temperature: 0.8}],
    ['Gemma3Draw', x, {temperature: 0.8, uniforms}],
    ['TopK', x, {k: 5, sorted: true}],
    ['Softmax', () => ({logits: rows(1)[0]}), {dim: -1}],
    ['Add', () => ({a: rows(1)[0], b: normal([1000], 2)}), {}],
    ['Sum', x, {axis: [0], keepDims: false}],
    ['Transpose', x, {perm: [1, 0]}],
    ['Slice', x, {begin: [1, 0], size: [5, 1000]}],
    ['Slice', x, {begin: [0, 7], size: [6, 901]}],
    ['Concat', () => [rows(1)[0], rows(2)[0]] as never, {axis: 0}],
    ['Concat', () => [...rows(1, 2, 3)] as never, {axis: 1}],
    ['BatchMatMul', () => ({a: rows(1)[0], b: rows(2)[0]}), {transposeA: false, transposeB: true}],
  ];

  test.each(cases)('%s', async (kernel, inputs, attrs) => {
    const backend = await use({threads: 1, shared: false}, 1024 * KB);
    const run = (operands: Record<string, tf.Tensor>) =>
      [tf.engine().runKernel(kernel, operands, attrs as never)].flat().map(y => [y.dtype, Array.from(y.dataSync())]);
    const together = tf.tidy(() => run(inputs()));
    expect([memory().heapBytes, memory().banks]).toEqual([0, 1]);

    // Each tensor fills more than half of a bank's share for weights.
    const homes = [0, 1].map(() => tf.engine().makeTensorFromTensorInfo(backend.empty([128 * KB])));
    expect(homes.map(home => backend.placeOf(home)!.bank)).toEqual([0, 1]);
    const {heapBytes} = memory();
    const apart = tf.tidy(() => {
      const operands = inputs();
      Object.values(operands).forEach((operand, i) => {
        const call = backend.call({operand, home: homes[(i + 1) % 2]!}, {shape: [1], preferredBank: ['home']});
        backend.disposeData(call.run(nothing()).dataId);
      });
      expect(backend.placeOf(Object.values(operands)[0]!)!.bank).toBe(1);
      return run(operands);
    });
    expect(apart).toEqual(together);
    expect(memory().heapBytes).toBe(heapBytes);
    tf.dispose(homes);
  });
});

describe('out of memory', () => {
  const setting = {threads: 1, shared: false};

  test('the error names the bytes, and a dtype that would fit', async () => {
    // bfloat16 needs more than two banks of 1 MB, int8 less.
    await use(setting, 1100 * KB, 2);
    const {heapBytes, numTensors} = memory();
    const failure = Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32'});
    await expect(failure).rejects.toThrow(OutOfMemoryError);
    await expect(Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32'})).rejects.toThrow(
      /memory for .* Received: .* of 2\.\d MB are in use.*need .* MB as float32, .* as int8, .*dtype: "(int8|int4)"/,
    );
    expect([memory().heapBytes, memory().numTensors]).toEqual([heapBytes, numTensors]);
  });

  test('the error says if a single tensor is too large', async () => {
    await use(setting, 900 * KB);
    await expect(Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32'})).rejects.toThrow(
      /memory for 1\.0 MB. Received: one memory holds at most .* load it with dtype: "bfloat16"/,
    );
    expect(memory().banks).toBe(1);
  });

  test('the error covers computed tensors', async () => {
    const backend = await use(setting, 1024 * KB, 1);
    const x = tf.ones([200 * KB]);
    const other = backend.borrow(300 * KB, 0);
    expect(() => backend.call({x}, {shape: [1]})).toThrow(/Expected memory.*no more memory/);
    expect(Array.from(x.dataSync())).toBeAllClose(new Array(200 * KB).fill(1), {atol: 0});
    other.release();
    expect(memory().heapBytes).toBe(0);
    x.dispose();
  });
});
