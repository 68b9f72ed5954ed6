/** Every WGSL kernel against its reference on the backend `cpu`, on odd shapes. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {attentionGradientOp, attentionOp} from '../../src/ops/attention';
import {cacheUpdateOp} from '../../src/ops/cache_update';
import {embeddingOp} from '../../src/ops/embedding';
import {gatedGeluOp, geluGradientOp, geluOp} from '../../src/ops/gated_gelu';
import {layerNormGradientGammaOp, layerNormGradientXOp, layerNormOp} from '../../src/ops/layer_norm';
import {matMulGradientXOp, matMulOp} from '../../src/ops/mat_mul';
import {rmsNormGradientScaleOp, rmsNormGradientXOp, rmsNormOp} from '../../src/ops/rms_norm';
import {rotaryGradientOp, rotaryOp, rotaryTables} from '../../src/ops/rotary';
import {bestColumnOp, drawOp, softmaxSumsOp} from '../../src/ops/sampling';
import {topKOp} from '../../src/ops/top_k';
import {unpackBfloat16Op} from '../../src/ops/unpack';
import {
  gatherP8Op,
  matMulP8Op,
  matMulTransposedP8Op,
  packings,
  unpackP8Op,
} from '../../src/backends/simd/packing/packing';
import {attentionCase, attentionSettings} from '../support/attention_case';
import {cacheSettings, cacheUpdateCase} from '../support/cache_update_case';
import {normal} from '../support/random';
import {lanesOf, tryLanes} from '../../src/backends/webgpu/trial';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';
import {compare, FORMATS, hostOf, onCpu, packed, tensorOf} from '../support/webgpu_compare';

describeWebGpu('kernels on webgpu', () => {
  beforeAll(useWebGpu);
  afterEach(throwGpuErrors);

  for (const format of FORMATS) {
    for (const [rows, columns] of [
      [24, 64],
      [37, 70],
    ] as const) {
      test(`${format}, ${rows} × ${columns}`, async () => {
        const {bits, values} = await packed(format, rows, columns);
        const size = {rows, columns, format};
        const withBits = (more: Record<string, tf.Tensor>) => ({bits: tensorOf(bits), ...more});
        await compare(unpackP8Op as never, () => withBits({}), size, {rtol: 1e-6});
        const ids = () => tf.tensor1d([0, rows - 1, 8, 3, 3], 'int32');
        await compare(gatherP8Op as never, () => withBits({ids: ids()}), {columns, format}, {rtol: 1e-6});
        // Few rows, and tiles of them.
        for (const count of [1, 3, 8, 45]) {
          await compare(matMulP8Op as never, () => withBits({x: normal([count, columns], count)}), size);
        }
        await compare(matMulTransposedP8Op as never, () => withBits({x: normal([5, rows], 2)}), size);
        // The bits mean what the packer meant.
        const own = tensorOf(bits);
        const read = packings[format].unpack(own as tf.Tensor2D, rows, columns);
        expect(await read.data()).toBeAllClose(values.values, {rtol: 1e-6});
        tf.dispose([own, read]);
      });
    }
  }

  test('ids that are no rows give NaN, not another row', async () => {
    const {bits} = await packed('int8', 16, 32);
    const inputs = {bits: tensorOf(bits), ids: tf.tensor1d([-1, 3, 16, 2 ** 30], 'int32')};
    const attrs = {columns: 32, format: 'int8'};
    const y = tf.engine().runKernel('Gemma3GatherP8', inputs, attrs) as tf.Tensor;
    const table = normal([3, 2], 1);
    const z = tf.engine().runKernel('Gemma3Embedding', {table, ids: inputs.ids}, {}) as tf.Tensor;
    const invalid = async (rows: tf.Tensor) =>
      ((await rows.array()) as number[][]).map(row => row.every(value => Number.isNaN(value)));
    expect(await invalid(y)).toEqual([true, false, true, true]);
    expect(await invalid(z)).toEqual([true, true, true, true]);
    tf.dispose([inputs, y, table, z]);
  });

  // The adapter in software forms subgroups of four.
  test('products that exchange sums in subgroups, and the trial that chooses them', async () => {
    const backend = gpuBackend();
    const lanes = lanesOf(backend.device, backend.info);
    if (lanes === 0) return;
    try {
      backend.lanes = lanes;
      const {bits} = await packed('int4', 37, 140);
      const size = {rows: 37, columns: 140, format: 'int4'};
      for (const count of [1, 3]) {
        await compare(matMulP8Op as never, () => ({bits: tensorOf(bits), x: normal([count, 140], count)}), size);
      }
      const kernel = () => normal([1, 33, 20], 7);
      await compare(matMulOp as never, () => ({x: normal([2, 33], 3), kernel: kernel()}), {});
      await tryLanes(backend, lanes, {times: 1, rounds: 1});
      expect([0, lanes]).toContain(backend.lanes);
      // A variant that computes something else is never chosen.
      const {run} = backend;
      backend.run = function (program, given) {
        const wrong = program.subgroups ? {...given, numbers: {...given.numbers, blocks: 1}} : given;
        run.call(this, program, wrong);
      };
      await tryLanes(backend, lanes, {times: 1, rounds: 1});
      backend.run = run;
      expect(backend.lanes).toBe(0);
    } finally {
      backend.lanes = 0;
    }
  });

  test('products with float32 kernels, and their gradients for x', async () => {
    for (const [outer, columns, inner] of [
      [1, 33, 20],
      [3, 64, 1],
      [4, 40, 6],
    ] as const) {
      const kernel = () => normal([outer, columns, inner], 7);
      for (const count of [2, 40]) {
        await compare(matMulOp as never, () => ({x: normal([count, columns], 3), kernel: kernel()}), {});
        await compare(
          matMulGradientXOp as never,
          () => ({dy: normal([count, outer * inner], 4), kernel: kernel()}),
          {},
        );
      }
    }
    await compare(embeddingOp as never, () => ({table: normal([5, 3], 1), ids: tf.tensor1d([4, 0, 4], 'int32')}), {});
  });

  test('words of two bfloat16 values, with all signs and exponents', async () => {
    const words = Int32Array.from({length: 512}, (_, i) => ((i * 0x01010000) ^ (i * 127)) & 0x7f7fff7f);
    await compare(unpackBfloat16Op as never, () => ({bits: tf.tensor2d(words, [4, 128], 'int32')}), {}, {atol: 0});
  });

  test('norms, rotary embedding and GELU', async () => {
    await compare(rmsNormOp as never, () => ({x: normal([2, 3, 70], 1), scale: normal([70], 2)}), {epsilon: 1e-6});
    const tables = (rows: number) => rotaryTables(rows === 1 ? [5] : [5, 900], 3, 8, 10_000, 1);
    for (const op of [rotaryOp, rotaryGradientOp]) {
      for (const rows of [1, 2]) await compare(op as never, () => ({x: normal([2, 3, 5, 8], 1), ...tables(rows)}), {});
    }
    const large = () => tf.mul(normal([3, 50], 1), 60);
    await compare(geluOp as never, () => ({x: large()}), {});
    await compare(gatedGeluOp as never, () => ({gate: large(), value: normal([3, 50], 2)}), {});
  });

  test('gradients of norms and of GELU, and layer norms', async () => {
    const row = (seed: number) => normal([70], seed);
    const rows = (seed: number) => normal([2, 3, 70], seed);
    const epsilon = {epsilon: 1e-6};
    await compare(rmsNormGradientXOp as never, () => ({dy: rows(1), x: rows(2), scale: row(3)}), epsilon);
    await compare(rmsNormGradientScaleOp as never, () => ({dy: rows(1), x: rows(2)}), epsilon);
    const shifted = () => tf.add(rows(2), 3);
    await compare(layerNormOp as never, () => ({x: shifted(), gamma: row(3), beta: row(4)}), epsilon);
    await compare(layerNormGradientXOp as never, () => ({dy: rows(1), x: shifted(), gamma: row(3)}), epsilon);
    await compare(layerNormGradientGammaOp as never, () => ({dy: rows(1), x: shifted()}), epsilon);
    const large = () => tf.mul(rows(2), 60);
    await compare(geluGradientOp as never, () => ({dy: rows(1), x: large()}), {});
    await compare(geluGradientOp as never, () => ({dy: rows(1), x: rows(2), value: rows(3)}), {});
  });

  test('attention with windows, soft caps, groups, padding, images and masks', async () => {
    const cases = fc.sample(attentionSettings, {numRuns: 40, seed: 11});
    // More keys than a tile, and a width that is no multiple of anything.
    const long = {
      ...cases[0]!,
      length: 3,
      before: 80,
      width: 70,
      bidirectional: false,
      window: 66,
      attentionMask: false,
    };
    // More queries than a tile, and heads of more than 128 and 256 features.
    const tiles = [
      {width: 16, length: 19},
      {width: 130, length: 6},
      {width: 260, length: 5},
    ].map(sizes => ({
      ...{...long, ...sizes, before: 60, window: 9},
    }));
    for (const settings of [...cases, long, {...long, window: null}, ...tiles]) {
      const {attrs} = await onCpu(() => attentionCase(settings));
      await compare(attentionOp as never, () => attentionCase(settings).inputs as never, attrs);
    }
  });

  test('gradients of attention', async () => {
    const cases = fc.sample(attentionSettings, {numRuns: 15, seed: 12});
    const long = {...cases[0]!, length: 70, before: 5, width: 70, attentionMask: false, batch: 1};
    for (const settings of [...cases, long]) {
      const {attrs} = await onCpu(() => attentionCase(settings));
      const given = () => {
        const {inputs} = attentionCase(settings);
        return {...inputs, dy: normal(inputs.q.shape, 5)};
      };
      const expected = await onCpu(() =>
        attentionGradientOp.reference(given() as never, attrs).map(tensor => hostOf(tensor)),
      );
      const hosts = await onCpu(() => Object.entries(given()).map(([name, tensor]) => [name, hostOf(tensor)] as const));
      const tensors = Object.fromEntries(hosts.map(([name, host]) => [name, tensorOf(host)]));
      const record = Object.assign([], tensors) as object as tf.NamedTensorMap;
      const found = tf.engine().runKernel('Gemma3AttentionGradient', record, attrs as never) as unknown as tf.Tensor[];
      for (const [i, {values, shape}] of expected.entries()) {
        expect(found[i]!.shape).toEqual(shape);
        expect(await found[i]!.data()).toBeAllClose(values, {rtol: 2e-5, atol: 1e-6});
      }
      tf.dispose([tensors, found]);
    }
  });

  test('the cache is updated in place', async () => {
    for (const settings of fc.sample(cacheSettings, {numRuns: 20, seed: 5})) {
      const {attrs} = await onCpu(() => cacheUpdateCase(settings));
      await compare(
        cacheUpdateOp as never,
        () => {
          const {cache, update} = cacheUpdateCase(settings);
          return {cache, update} as never;
        },
        attrs,
        {atol: 0},
      );
    }
  });

  test('the largest values, also of equal ones, infinities and NaN', async () => {
    const values = [
      [1, 5, 5, -Infinity, 0],
      [-0, 0, -1, -2, 0],
      [Infinity, 3, Infinity, 4, -1],
      [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
      [-3, -2, -2, -9, -4],
    ];
    const x = () => tf.tensor2d(values);
    await compare(bestColumnOp as never, x0(x), {});
    for (const k of [1, 3, 5]) {
      const y = tf.engine().runKernel('Gemma3TopK', {x: x()}, {k}) as tf.Tensor;
      // Infinities have no difference, so equal ones are compared by their index.
      expect(((await y.array()) as number[][][]).map(([, indices]) => indices)).toEqual(
        values.map(row =>
          row
            .map((_, i) => i)
            .sort((a, b) => (row[a] === row[b] ? a - b : row[b]! > row[a]! ? 1 : -1))
            .slice(0, k),
        ),
      );
    }
    // Ones from one index on, in rows longer than a workgroup and than a piece.
    const ones = () => tf.cast(tf.greater(tf.range(0, 3000), 700), 'float32').reshape([1, 3000]);
    await compare(bestColumnOp as never, x0(ones), {});
    await compare(topKOp as never, x0(ones), {k: 5}, {atol: 0});
    await compare(
      topKOp as never,
      x0(() => normal([2, 2500], 3) as tf.Tensor2D),
      {k: 40},
      {rtol: 1e-7},
    );
    const nan = await (
      tf.engine().runKernel('Gemma3TopK', {x: tf.tensor2d([[1, NaN, 2]])}, {k: 2}) as tf.Tensor
    ).data();
    expect(nan[0]).toBeNaN();
    const strict = tf.engine().runKernel(
      'Gemma3BestColumn',
      {
        x: tf.tensor2d([
          [1, NaN],
          [2, 3],
        ]),
      },
      {},
    ) as tf.Tensor;
    expect(Array.from(await strict.data())).toEqual([-1, 1]);
  });

  test('softmax sums and draws', async () => {
    const logits = () => tf.mul(normal([4, 900], 9), 4) as tf.Tensor2D;
    for (const temperature of [1, 0.3, 1e30, 1e-30]) {
      await compare(softmaxSumsOp as never, x0(logits), {temperature}, {rtol: 1e-5});
      // None is where one of 900 equal tokens ends: adapters round exponentials, also those of 0.
      const attrs = {temperature, uniforms: [0, 0.2507, 0.5007, 0.999]};
      await compare(drawOp as never, x0(logits), attrs, {atol: 0});
    }
    const invalid = tf.tensor2d([
      [1, NaN, 2],
      [-Infinity, -Infinity, -Infinity],
      [-Infinity, 0, -Infinity],
      [Infinity, 1, Infinity],
    ]);
    const y = tf.engine().runKernel('Gemma3Draw', {x: invalid}, {temperature: 1, uniforms: [0.5, 0.5, 0.5, 0.9]});
    expect(Array.from(await (y as tf.Tensor).data())).toEqual([-1, -1, 1, 2]);
  });

  test('operations of tfjs that its own programs compute wrongly', async () => {
    const ints = (values: number[], shape: number[] = [values.length]) => tf.tensor(values, shape, 'int32');
    const list = async (y: tf.Tensor) => Array.from(await y.data());
    const largest = 2 ** 31 - 1;
    expect(await list(tf.mod(ints([-5, 5, largest, -largest - 1]), tf.scalar(65536, 'int32')))).toEqual([
      65531, 5, 65535, 0,
    ]);
    expect(await list(tf.mod(ints([7, -7], [2, 1]), ints([3, -3, 5])))).toEqual([1, -2, 2, 2, -1, 3]);
    const cube = ints(
      Array.from({length: 24}, (_, i) => largest - i),
      [2, 3, 4],
    );
    expect(await list(tf.transpose(cube, [2, 0, 1]))).toEqual(
      Array.from({length: 24}, (_, i) => largest - ((i % 3) * 4 + (Math.floor(i / 3) % 2) * 12 + Math.floor(i / 6))),
    );
    const ties = tf.tensor2d([
      [0, 2, 2, 1],
      [2, 2, 0, 3],
    ]);
    expect(await list(tf.argMax(ties, 1))).toEqual([1, 3]);
    expect(await list(tf.argMax(ties, 0))).toEqual([1, 0, 0, 1]);
    expect(await list(tf.argMin(tf.cast(ties, 'int32'), 1))).toEqual([0, 2]);
    const {values, indices} = tf.topk(ties, 2);
    expect([await list(values), await list(indices)]).toEqual([
      [2, 2, 3, 2],
      [1, 2, 3, 0],
    ]);
  });
});

/** Inputs of an operation with one, in the form that `compare` takes. */
function x0(x: () => tf.Tensor) {
  return () => ({x: x()}) as never;
}
