/** Every kernel of the backend `cuda` against its reference on the backend `cpu`, on odd shapes. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {BFLOAT16, FLOAT} from '../../src/backends/cuda/device';
import {graphOf} from '../../src/backends/cuda/graph';
import {prepareBackend} from '../../src/backends/cuda/create_backend';
import {type StockBackend} from '../../src/backends/cuda/native/tfjs_node';
import {Gemma3DecoderBlock, useBackend} from '../../src';
import {adamStepOp} from '../../src/ops/adam_step';
import {attentionGradientOp, attentionOp} from '../../src/ops/attention';
import {cacheUpdateOp} from '../../src/ops/cache_update';
import {gatedGeluOp, geluGradientOp, geluOp} from '../../src/ops/gated_gelu';
import {headLossOp} from '../../src/ops/head_loss';
import {matMulGradientKernelOp, matMulGradientXOp, matMulOp} from '../../src/ops/mat_mul';
import {type Op} from '../../src/ops/op';
import {rmsNormGradientScaleOp, rmsNormGradientXOp, rmsNormOp} from '../../src/ops/rms_norm';
import {rotaryGradientOp, rotaryOp, rotaryTables} from '../../src/ops/rotary';
import {bestColumnOp, drawOp, softmaxSumsOp} from '../../src/ops/sampling';
import {topKOp} from '../../src/ops/top_k';
import {type KernelLayout} from '../../src/weights/packing';
import {PackedWeight} from '../../src/weights/packed_weight';
import {rowStream} from '../../src/weights/repack';
import {attentionCase, attentionSettings} from '../support/attention_case';
import {cacheSettings, cacheUpdateCase} from '../support/cache_update_case';
import {cudaDevice, describeCuda, useCuda} from '../support/cuda';
import {normal} from '../support/random';

/** A tensor as the host has it. */
type Host = {values: tf.TypedArray; shape: number[]; dtype: tf.DataType};
const hostOf = (tensor: tf.Tensor): Host => ({
  values: tensor.dataSync().slice(),
  shape: tensor.shape,
  dtype: tensor.dtype,
});
const tensorOf = ({values, shape, dtype}: Host) => tf.tensor(values.slice(), shape, dtype as 'float32');

/** Runs on the CPU. */
async function onCpu<T>(run: () => T): Promise<T> {
  const previous = tf.getBackend();
  await tf.setBackend('cpu');
  const result = tf.tidy(() => ({result: run()}) as never as tf.TensorContainer) as never as {result: T};
  await tf.setBackend(previous);
  return result.result;
}

type Several = {name: string; reference(inputs: never, attrs: never): tf.Tensor | tf.Tensor[]};

/** Runs an operation by its reference on the CPU, and by its kernel. Inputs are made on the CPU. */
async function compare<A extends object>(
  op: Several | Pick<Op<Record<string, tf.Tensor>, Record<string, unknown>>, 'name' | 'reference'>,
  make: () => Record<string, tf.Tensor>,
  attrs: A,
  tolerance: {rtol?: number; atol?: number} = {rtol: 1e-5},
): Promise<void> {
  const {inputs, expected} = await onCpu(() => {
    const made = make();
    const inputs = Object.entries(made).map(([name, tensor]) => [name, hostOf(tensor)] as const);
    return {inputs, expected: [op.reference(made as never, attrs as never)].flat().map(hostOf)};
  });
  const before = tf.memory().numTensors;
  const tensors = Object.fromEntries(inputs.map(([name, host]) => [name, tensorOf(host)]));
  const record = Object.assign([], tensors) as object as tf.NamedTensorMap;
  // Where this backend has no kernel, the reference must compute the same on it.
  const found = tf.getKernel(op.name, 'tensorflow')
    ? [tf.engine().runKernel(op.name, record, attrs as tf.NamedAttrMap)].flat()
    : [op.reference(tensors as never, attrs as never)].flat();
  for (const [i, {values, shape, dtype}] of expected.entries()) {
    const {shape: ownShape, dtype: ownDtype} = found[i]!;
    expect({op: op.name, shape: ownShape, dtype: ownDtype}).toEqual({op: op.name, shape, dtype});
    expect(found[i]!.dataSync()).toBeAllClose(values, tolerance);
  }
  tf.dispose([tensors, found]);
  expect({op: op.name, tensors: tf.memory().numTensors}).toEqual({op: op.name, tensors: before});
}

const LAYOUTS: [shape: number[], layout: KernelLayout][] = [
  [[24, 64], {out: [0], in: [1]}],
  [[37, 71], {out: [0], in: [1]}],
  [[71, 37], {out: [1], in: [0]}],
  [[3, 20, 8], {out: [0, 2], in: [1]}],
  [[2, 8, 33], {out: [2], in: [0, 1]}],
  [[2, 8, 6], {out: [1], in: [2, 0]}],
];

describeCuda('kernels on cuda', () => {
  beforeAll(async () => void (await useCuda()));

  // As on a GPU, and as on a CPU.
  describe.each([
    ['bfloat16', BFLOAT16],
    ['float32', FLOAT],
  ] as const)('weights that rest as %s', (_, rest) => {
    beforeAll(() => void prepareBackend(tf.backend() as StockBackend, undefined, rest));
    afterAll(() => void prepareBackend(tf.backend() as StockBackend));

    test.each(LAYOUTS)('shape %j, outputs and inputs %j', async (shape, layout) => {
      const weight = new PackedWeight(shape, layout, 'w', tf.initializers.zeros());
      const {rows, columns} = weight;
      const given = await onCpu(() => hostOf(tf.mul(normal(shape, 3), 7)));
      const handles = () => (tf.backend() as StockBackend).binding.getNumOfTensors();
      await weight.fillFromTensor(tensorOf(given));
      const [before, count] = [tf.memory().numTensors, handles()];
      // Reading gives the values of bfloat16, and writing them changes nothing.
      const values = tf.tidy(() => hostOf(weight.read()));
      expect(values.values).toBeAllClose(given.values, {rtol: 2 ** -8});
      tf.tidy(() => void weight.write(tensorOf(values)));
      expect(tf.tidy(() => weight.read().dataSync().slice())).toEqual(values.values);
      // A few rows at a time, as saving does.
      const matrix = tf.tidy(() => hostOf(weight.packing.unpack(weight.bits, rows, columns)));
      const part = new Float32Array(3 * columns);
      await rowStream(weight).readFloat32(columns, part);
      expect(part).toEqual(matrix.values.slice(columns, 4 * columns));
      for (const m of [1, 3, 45]) {
        const found = tf.tidy(() => hostOf(weight.matMul(normal([m, columns], m) as tf.Tensor2D)));
        const x = tf.tidy(() => hostOf(normal([m, columns], m)));
        const expected = await onCpu(() => hostOf(tf.matMul(tensorOf(x), tensorOf(matrix), false, true)));
        expect(found.shape).toEqual([m, rows]);
        expect(found.values).toBeAllClose(expected.values, {rtol: 1e-5});
      }
      const gradient = tf.tidy(() =>
        hostOf(tf.grad(x => tf.sum(tf.square(weight.matMul(x as tf.Tensor2D))))(normal([2, columns], 4))),
      );
      const expected = await onCpu(() => {
        const w = tensorOf(matrix);
        return hostOf(tf.mul(tf.matMul(tf.matMul(normal([2, columns], 4), w, false, true), w), 2));
      });
      expect(gradient.values).toBeAllClose(expected.values, {rtol: 1e-5});
      const ids = [0, rows - 1, 1, 1];
      const found = tf.tidy(() => hostOf(weight.gatherRows(tf.tensor1d(ids, 'int32'))));
      expect(Array.from(found.values)).toEqual(
        ids.flatMap(id => [...matrix.values.slice(id * columns, (id + 1) * columns)]),
      );
      expect({tensors: tf.memory().numTensors, bytes: weight.byteLength}).toEqual({
        tensors: before,
        bytes: 4 * rows * (rest === FLOAT ? columns : Math.ceil(columns / 2)),
      });
      // Constants stay: shapes and numbers.
      expect(handles() - count).toBeLessThan(20);
      weight.dispose();
    });
  });

  test('a large matrix rests as bfloat16 on a CPU, and is widened in parts', async () => {
    const device = cudaDevice();
    const {large} = device;
    device.large = 2 ** 20;
    try {
      // More than one part has.
      const shape = [2200, 500];
      const weight = new PackedWeight(shape, {out: [0], in: [1]}, 'w', tf.initializers.zeros());
      const given = await onCpu(() => hostOf(normal(shape, 3)));
      await weight.fillFromTensor(tensorOf(given));
      expect(weight.byteLength).toBe(2 * 2200 * 500);
      const matrix = tf.tidy(() => hostOf(weight.read()));
      expect(matrix.values).toBeAllClose(given.values, {rtol: 2 ** -8});
      for (const m of [1, 3]) {
        const x = tf.tidy(() => hostOf(normal([m, 500], m)));
        const found = tf.tidy(() => hostOf(weight.matMul(tensorOf(x) as tf.Tensor2D)));
        const expected = await onCpu(() => hostOf(tf.matMul(tensorOf(x), tensorOf(matrix), false, true)));
        expect(found.values).toBeAllClose(expected.values, {rtol: 1e-5});
        const slope = tf.tidy(() => hostOf(tf.grad(x => tf.sum(weight.matMul(x as tf.Tensor2D)))(tensorOf(x))));
        const sums = await onCpu(() => hostOf(tf.tile(tf.sum(tensorOf(matrix), 0, true), [m, 1])));
        expect(slope.values).toBeAllClose(sums.values, {rtol: 1e-5});
      }
      const found = tf.tidy(() => hostOf(weight.gatherRows(tf.tensor1d([2199, 0], 'int32'))));
      expect(found.values.subarray(500)).toEqual(matrix.values.subarray(0, 500));
      weight.dispose();
    } finally {
      device.large = large;
    }
  });

  test.each([
    ['tokens and a vocabulary in parts', 513, 4500, null],
    ['with a cap', 513, 4500, 2],
    ['one token', 1, 50, 2],
  ])('the loss of the head: %s', async (_, tokens, vocabulary, softCap) => {
    const attrs = {vocabulary, packing: null, softCap, gradients: true, logitsAtOnce: 1 << 22};
    const make = () => ({
      // Logits far apart, so that parts have sums of different sizes.
      hidden: tf.mul(normal([tokens, 8], 1), 6),
      table: normal([vocabulary, 8], 2),
      targets: tf.tensor1d(
        Array.from({length: tokens}, (_, i) => vocabulary - 1 - ((i * 7919) % vocabulary)),
        'int32',
      ),
    });
    const reference = (...given: Parameters<typeof headLossOp.reference>) =>
      headLossOp.reference(...given) as tf.Tensor[];
    await compare({name: headLossOp.name, reference}, make, attrs);
  });

  test('a step of Adam', async () => {
    const make = () =>
      Object.fromEntries(
        ['variable', 'gradient', 'momentum', 'velocity'].map((name, i) => [
          name,
          name === 'velocity' ? tf.square(normal([3, 7], i)) : normal([3, 7], i),
        ]),
      );
    await compare(adamStepOp, make, {beta1: 0.9, beta2: 0.999, epsilon: 1e-7, alpha: 0.01});
  });

  describe('int8 weights', () => {
    test.each(LAYOUTS)('shape %j, outputs and inputs %j: those of simd', async (shape, layout) => {
      const given = await onCpu(() => hostOf(tf.mul(normal(shape, 3), 7)));
      const make = () => new PackedWeight(shape, layout, 'w', tf.initializers.zeros(), true, 'int8');
      await useBackend('simd');
      const reference = make();
      tf.tidy(() => void reference.write(tensorOf(given)));
      const {rows, columns} = reference;
      const expected = tf.tidy(() => ({
        bits: hostOf(reference.bits),
        values: hostOf(reference.read()),
        matrix: hostOf(reference.packing.unpack(reference.bits, rows, columns)),
      }));
      reference.dispose();
      await useCuda();
      const weight = make();
      tf.tidy(() => void weight.write(tensorOf(given)));
      const count = tf.memory().numTensors;
      expect(tf.tidy(() => hostOf(weight.read()))).toEqual(expected.values);
      // The same bits as in files, also of a few rows, and from a file.
      expect(await weight.bits.data()).toEqual(expected.bits.values);
      const part = new Float32Array(3 * columns);
      await rowStream(weight).readFloat32(columns, part);
      expect(part).toEqual(expected.matrix.values.slice(columns, 4 * columns));
      const bytes = new Uint8Array(expected.bits.values.buffer, 0, expected.bits.values.byteLength);
      const other = make();
      await other.fillBits(async (start, target) => target.set(bytes.subarray(start, start + target.length)));
      expect(tf.tidy(() => hostOf(other.read()))).toEqual(expected.values);
      other.dispose();
      for (const m of [1, 3, 45]) {
        const x = tf.tidy(() => hostOf(normal([m, columns], m)));
        const found = tf.tidy(() => hostOf(weight.matMul(tensorOf(x) as tf.Tensor2D)));
        const product = await onCpu(() => hostOf(tf.matMul(tensorOf(x), tensorOf(expected.matrix), false, true)));
        expect(found.shape).toEqual([m, rows]);
        expect(found.values).toBeAllClose(product.values, {rtol: 1e-5});
      }
      const gradient = tf.tidy(() =>
        hostOf(tf.grad(x => tf.sum(tf.square(weight.matMul(x as tf.Tensor2D))))(normal([2, columns], 4))),
      );
      const right = await onCpu(() => {
        const w = tensorOf(expected.matrix);
        return hostOf(tf.mul(tf.matMul(tf.matMul(normal([2, columns], 4), w, false, true), w), 2));
      });
      expect(gradient.values).toBeAllClose(right.values, {rtol: 1e-5});
      const ids = [0, rows - 1, 1, 1];
      const found = tf.tidy(() => hostOf(weight.gatherRows(tf.tensor1d(ids, 'int32'))));
      expect(Array.from(found.values)).toEqual(
        ids.flatMap(id => [...expected.matrix.values.slice(id * columns, (id + 1) * columns)]),
      );
      expect(tf.memory().numTensors).toBe(count);
      const {binding} = tf.backend() as StockBackend;
      const handles = binding.getNumOfTensors();
      weight.dispose();
      // Integers and scales.
      expect(handles - binding.getNumOfTensors()).toBe(2);
    });

    test('large matrices are widened a piece at a time', async () => {
      const [rows, columns] = [5000, 640];
      const weight = new PackedWeight([rows, columns], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, 'int8');
      tf.tidy(() => void weight.write(normal([rows, columns], 3)));
      const difference = tf.tidy(() => {
        const matrix = weight.packing.unpack(weight.bits, rows, columns);
        const x = normal([3, columns], 1) as tf.Tensor2D;
        const dy = normal([3, rows], 2) as tf.Tensor2D;
        const most = (a: tf.Tensor, b: tf.Tensor) => tf.max(tf.abs(tf.sub(a, b))).arraySync() as number;
        return [
          most(weight.matMul(x), tf.matMul(x, matrix, false, true)),
          most(weight.packing.matMulTransposed(dy, weight.bits, rows, columns), tf.matMul(dy, matrix)),
        ];
      });
      expect(Math.max(...difference)).toBeLessThan(1e-3);
      weight.dispose();
    });
  });

  test('products with float32 kernels, and their gradients', async () => {
    for (const [outer, columns, inner] of [
      [1, 33, 20],
      [3, 64, 1],
      [4, 40, 6],
    ] as const) {
      const kernel = () => normal([outer, columns, inner], 7);
      for (const count of [1, 2, 40]) {
        const dy = () => normal([count, outer * inner], 4);
        const x = () => normal([count, columns], 3);
        await compare(matMulOp as never, () => ({x: x(), kernel: kernel()}), {});
        await compare(matMulGradientXOp as never, () => ({dy: dy(), kernel: kernel()}), {});
        await compare(matMulGradientKernelOp as never, () => ({x: x(), dy: dy()}), {outer, inner});
      }
    }
  });

  test.each([
    ['graphs', true],
    ['single operations', false],
  ])('norms, rotary embedding and GELU, and their gradients, as %s', async (_, graphs) => {
    const device = cudaDevice();
    device.graphs = graphs;
    const epsilon = {epsilon: 1e-6};
    const rows = (seed: number) => normal([2, 3, 70], seed);
    await compare(rmsNormOp as never, () => ({x: rows(1), scale: normal([70], 2)}), epsilon);
    await compare(rmsNormGradientXOp as never, () => ({dy: rows(1), x: rows(2), scale: normal([70], 3)}), epsilon);
    await compare(rmsNormGradientScaleOp as never, () => ({dy: rows(1), x: rows(2)}), epsilon);
    const tables = (count: number) => rotaryTables(count === 1 ? [5] : [5, 900], 3, 8, 10_000, 1);
    for (const op of [rotaryOp, rotaryGradientOp]) {
      for (const count of [1, 2]) {
        await compare(op as never, () => ({x: normal([2, 3, 5, 8], 1), ...tables(count)}), {});
      }
    }
    const large = (seed: number) => tf.mul(rows(seed), 60);
    for (const x of [rows, large]) {
      await compare(geluOp as never, () => ({x: x(1)}), {});
      await compare(gatedGeluOp as never, () => ({gate: x(1), value: rows(2)}), {});
      await compare(geluGradientOp as never, () => ({dy: rows(1), x: x(2)}), {});
      await compare(geluGradientOp as never, () => ({dy: rows(1), x: x(2), value: rows(3)}), {});
    }
    device.graphs = true;
  });

  test('attention with windows, soft caps, groups, padding, images and masks, and its gradients', async () => {
    const cases = fc.sample(attentionSettings, {numRuns: 40, seed: 11});
    const long = {...cases[0]!, length: 70, before: 5, width: 70, attentionMask: false, batch: 1};
    // More queries than are computed at once.
    const parts = [1, 2].flatMap(batch =>
      [
        {window: 30, before: 3},
        {window: null, before: 0},
      ].map(own => ({...long, ...own, batch, length: 300, width: 4, images: batch === 1, positionsByRow: batch === 2})),
    );
    for (const settings of [...cases, long, ...parts]) {
      const {attrs} = await onCpu(() => attentionCase(settings));
      await compare(attentionOp as never, () => attentionCase(settings).inputs as never, attrs);
      const withGradient = () => {
        const {inputs} = attentionCase(settings);
        return {...inputs, dy: normal(inputs.q.shape, 5)};
      };
      await compare(attentionGradientOp as never, withGradient as never, attrs, {rtol: 1e-5, atol: 1e-6});
    }
  });

  test('a graph that TensorFlow refuses is not tried again', () => {
    const device = cudaDevice();
    const graph = graphOf(device, 'refused', [], own => [own.run('NoSuchOperation', {})])!;
    expect([graph([]), graph([])]).toEqual([undefined, undefined]);
    // Every kind of attribute.
    const leaky = {T: FLOAT, alpha: {float: 0.5}, _text: 'text', _texts: ['a', 'b'], _int: {int: 300}, _flag: true};
    const x = device.binding.createTensor([2], FLOAT, Float32Array.of(-3, 5));
    const [y] = graphOf(device, 'leaky', ['x'], own => [own.run('LeakyRelu', leaky, 'x')])!([x])!;
    expect([...device.binding.tensorDataSync(y!)]).toEqual([-1.5, 5]);
    [x, y!].forEach(id => device.binding.deleteTensor(id));
  });

  test.each(['float32', 'bfloat16', 'int8'] as const)(
    'the second half of a decoder block in %s: graphs and single operations',
    async dtype => {
      const device = cudaDevice();
      const args = {hiddenDim: 64, intermediateDim: 96, headDim: 4, numQueryHeads: 2, numKeyValueHeads: 1};
      for (const usePostFfwNorm of [true, false]) {
        const block = new Gemma3DecoderBlock({...args, gateDimReduction: 1, usePostFfwNorm, dtype, name: 'block'});
        block.build([null, null, 64]);
        const x = normal([2, 300, 64], 3);
        const all = [true, false].map(graphs => {
          device.graphs = graphs;
          return block.feedForward(x);
        });
        device.graphs = true;
        // With a gradient there is no fused kernel.
        const plain = tf.valueAndGrad((y: tf.Tensor) => block.feedForward(y).sum())(x).value;
        expect(all[0]).toBeAllClose(all[1]!, {rtol: 1e-5, atol: 1e-5});
        expect(all[0]!.sum()).toBeAllClose(plain, {rtol: 1e-4, atol: 1e-2});
        tf.dispose([x, plain, ...all]);
        block.dispose();
      }
    },
  );

  test('caches are updated in place', async () => {
    for (const settings of fc.sample(cacheSettings, {numRuns: 30, seed: 5})) {
      const {attrs} = await onCpu(() => cacheUpdateCase(settings));
      const given = () => {
        const {cache, update} = cacheUpdateCase(settings);
        return {cache, update};
      };
      await compare(cacheUpdateOp as never, given, attrs, {atol: 0});
    }
    const cache = tf.zeros<tf.Rank.R4>([1, 4, 1, 2]);
    const record = {cache, update: tf.ones([1, 1, 1, 2])};
    const next = tf.engine().runKernel('Gemma3CacheUpdate', record, {starts: [6], lengths: [1]} as never) as tf.Tensor;
    expect(next.dataId).toBe(cache.dataId);
    expect(Array.from(cache.dataSync())).toEqual([0, 0, 0, 0, 1, 1, 0, 0]);
    tf.dispose([record, next]);
  });

  test('what samplers need, with equal values, infinities and NaN', async () => {
    const x = () =>
      tf.tensor2d([
        [1, 7, 7, -3, 0.5],
        [-Infinity, 2, Infinity, 1, Infinity],
        [1, NaN, 3, 2, 0],
        [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
      ]);
    await compare(bestColumnOp as never, () => ({x: x()}), {});
    await compare(drawOp as never, () => ({x: x()}), {temperature: 0.7, uniforms: [0.3, 0.6, 0.1, 0.9]});
    const finite = () =>
      tf.tensor2d([
        [1, 7, 7, -3, 0.5],
        [-2, 2, 900, 1, 900],
      ]);
    await compare(softmaxSumsOp as never, () => ({x: finite()}), {temperature: 0.7});
    await compare(topKOp as never, () => ({x: finite()}), {k: 3});
  });
});
