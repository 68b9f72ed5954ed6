/**
 * Products of many rows with int8 and int4 kernels in float16 and in bytes, where the adapter can: against the
 * reference, and the trial that chooses them. `TEST_WEBGPU_F16=1` makes an adapter without float16 an error.
 */
import * as tf from '@tensorflow/tfjs';
import {codeTilesOf, tryCodeTiles} from '../../src/backends/webgpu/trial';
import {hasPackedDots} from '../../src/backends/webgpu/adapter';
import {CODE_FORMATS, type CodeTile} from '../../src/backends/webgpu/wgsl/code_tile';
import {matMulP8Op} from '../../src/backends/simd/packing/packing';
import {normal} from '../support/random';
import {smallModel, someTokens} from '../support/small_model';
import {describeWebGpu, gpuBackend, throwGpuErrors, useWebGpu} from '../support/webgpu';
import {compare, packed, tensorOf} from '../support/webgpu_compare';

describeWebGpu('products in float16 and in bytes on webgpu', () => {
  let tiles: CodeTile[] = [];
  beforeAll(async () => {
    const {device} = await useWebGpu();
    tiles = codeTilesOf(device, await hasPackedDots());
    if (process.env.TEST_WEBGPU_F16) expect(tiles).toContain('f16');
  });
  afterEach(async () => {
    gpuBackend().codeTiles = {};
    await throwGpuErrors();
  });

  const multiply = async (x: tf.Tensor, bits: tf.Tensor, size: object) => {
    const y = tf.engine().runKernel(matMulP8Op.name, {x, bits}, size as tf.NamedAttrMap) as tf.Tensor;
    const values = (await y.data()) as Float32Array;
    y.dispose();
    return values;
  };

  for (const format of CODE_FORMATS) {
    test(`${format} against the reference, on odd shapes, and with rows of all magnitudes`, async () => {
      const programs: string[] = [];
      const {run} = gpuBackend();
      gpuBackend().run = function (program, given) {
        programs.push(program.name);
        run.call(this, program, given);
      };
      for (const [rows, columns, count] of [
        [24, 64, 9],
        [141, 70, 45],
      ] as const) {
        const {bits} = await packed(format, rows, columns);
        // A row of zeros, numbers far apart within a block and from row to row, and sums that are not near 0.
        const x = () =>
          tf.tidy(() => {
            const powers = tf.pow(10, tf.sub(tf.mod(tf.range(0, count), 9), 5)).reshape([count, 1]);
            const one = normal([count, columns], 3);
            return tf.mul(tf.add(tf.mul(tf.pow(one, 5), 1), 0.5), powers).mul(tf.greater(powers, 1e-5));
          });
        for (const tile of tiles) {
          gpuBackend().codeTiles = {[format]: tile};
          await compare(matMulP8Op as never, () => ({bits: tensorOf(bits), x: normal([count, columns], 2)}) as never, {
            ...{rows, columns, format},
          });
          await compare(matMulP8Op as never, () => ({bits: tensorOf(bits), x: x()}) as never, {rows, columns, format});
        }
      }
      gpuBackend().run = run;
      for (const tile of tiles) expect(programs).toContain(`mat_tile ${format} ${tile}`);
    });

    test(`${format}: a row has the same product alone and among others`, async () => {
      const [rows, columns, count] = [40, 128, 35];
      const {bits} = await packed(format, rows, columns);
      const own = tensorOf(bits);
      const size = {rows, columns, format};
      const x = tf.mul(normal([count, columns], 4), tf.pow(10, tf.range(0, count).mod(5)).reshape([count, 1]));
      for (const tile of tiles) {
        gpuBackend().codeTiles = {[format]: tile};
        const all = await multiply(x, own, size);
        for (const row of [0, 17, 34]) {
          const one = tf.slice(x, [row, 0], [1, columns]);
          const same = all.subarray(row * rows, (row + 1) * rows);
          expect(await multiply(one, own, size)).toBeAllClose(same, {rtol: 3e-6});
          one.dispose();
        }
      }
      tf.dispose([own, x]);
    });

    test(`${format}: numbers that are not finite spoil their row, and no other`, async () => {
      const {bits} = await packed(format, 16, 64);
      const own = tensorOf(bits);
      const x = tf.tensor2d(
        Array.from({length: 12 * 64}, (_, i) => (i === 70 ? NaN : i === 333 ? Infinity : 1)),
        [12, 64],
      );
      for (const tile of tiles) {
        gpuBackend().codeTiles = {[format]: tile};
        const y = await multiply(x, own, {rows: 16, columns: 64, format});
        for (let row = 0; row < 12; row++) {
          const finite = Array.from(y.subarray(16 * row, 16 * row + 16), value => Number.isFinite(value));
          expect({row, finite}).toEqual({row, finite: finite.map(() => row !== 1 && row !== 5)});
        }
      }
      tf.dispose([own, x]);
    });
  }

  test('a prompt through a model, whose kernels are int4 and int8', async () => {
    const lm = smallModel({numLayers: 2, hiddenDim: 32});
    await lm.quantize('int4');
    const tokens = someTokens(20, 1);
    const run = async (tile?: CodeTile) => {
      gpuBackend().codeTiles = {int8: tile, int4: tile};
      const y = lm.backbone.predict({token_ids: [tokens], padding_mask: [tokens.map(() => 1)]}) as tf.Tensor;
      const values = await y.data();
      y.dispose();
      return values;
    };
    const expected = await run();
    for (const tile of tiles) expect(await run(tile)).toBeAllClose(expected, {rtol: 1e-5});
    lm.dispose();
  });

  test('a trial chooses a variant that is right, or none', async () => {
    const sizes = {count: 16, rows: 64, columns: 64, times: 1, rounds: 1};
    const before = tf.memory().numTensors;
    await tryCodeTiles(gpuBackend(), tiles, sizes);
    for (const format of CODE_FORMATS) expect([undefined, ...tiles]).toContain(gpuBackend().codeTiles[format]);
    expect(tf.memory().numTensors).toBe(before);
    // A variant that computes something else is never chosen.
    const {run} = gpuBackend();
    gpuBackend().run = function (program, given) {
      const variant = program.halves ?? program.packedDots;
      run.call(this, program, variant ? {...given, numbers: {...given.numbers, blocks: 1}} : given);
    };
    await tryCodeTiles(gpuBackend(), tiles, sizes);
    gpuBackend().run = run;
    for (const format of CODE_FORMATS) expect(gpuBackend().codeTiles[format]).toBeUndefined();
  });
});
