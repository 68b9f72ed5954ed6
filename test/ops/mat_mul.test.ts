/** Products with float32 and packed bfloat16 kernels, and unpacking. */
import * as tf from '@tensorflow/tfjs';
import {matMul, matMulBfloat16, matMulBfloat16Op, matMulOp} from '../../src/ops/mat_mul';
import {unpackBfloat16, unpackBfloat16Op} from '../../src/ops/unpack';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';
import {normal, uniform} from '../support/random';

onEachBackend(() => {
  disposeAfterEach();

  describe('matMul', () => {
    const SHAPES: [rows: number, outer: number, columns: number, inner: number][] = [
      [1, 1, 1, 1],
      [3, 1, 5, 4],
      [3, 4, 5, 1],
      [5, 3, 7, 2],
      [1, 2, 3, 5],
      [4, 1, 33, 1],
      [9, 2, 1, 3],
    ];
    test.each(SHAPES)('of %d rows with a kernel [%d, %d, %d]', (rows, outer, columns, inner) => {
      const x = normal([rows, columns], 1) as tf.Tensor2D;
      const kernel = normal([outer, columns, inner], 2) as tf.Tensor3D;
      const [xs, ws] = [x.arraySync(), kernel.arraySync()];
      const expected = xs.flatMap(row =>
        ws.flatMap(block =>
          Array.from({length: inner}, (_, i) => row.reduce((sum, value, c) => sum + value * block[c]![i]!, 0)),
        ),
      );
      expect(matMulOp.reference({x, kernel}, {})).toBeAllClose(expected);
      const plain = (...[a, w]: tf.Tensor[]) =>
        tf.matMul(
          a as tf.Tensor2D,
          tf.reshape(tf.transpose(w!, [1, 0, 2]), [columns, outer * inner]) as tf.Tensor2D,
        ) as tf.Tensor;
      expectSameGradients((...[a, w]) => matMul(a as tf.Tensor2D, w as tf.Tensor3D), plain, [x, kernel]);
    });
  });

  /** Words of two bfloat16 values each, of both signs and magnitudes from 0.25 to 4. */
  function packedRows(rows: number, words: number, seed: number): {bits: tf.Tensor2D; values: number[]} {
    const random = uniform(seed);
    const halves = Uint16Array.from({length: rows * words * 2}, () => {
      const sign = random() < 0.5 ? 0x8000 : 0;
      return sign | (0x3f80 - 0x100 + Math.floor(random() * 0x200));
    });
    const values = new Float32Array(Uint32Array.from(halves, half => half << 16).buffer);
    return {
      bits: tf.tensor2d(new Int32Array(halves.buffer), [rows, words], 'int32'),
      values: Array.from(values),
    };
  }

  describe('matMulBfloat16', () => {
    test.each([
      // Rows are padded to a multiple of 16 words, which kernels rely on.
      [1, 1, 16, 1],
      [3, 5, 16, 7],
      [2, 1, 16, 32],
      [5, 3, 16, 31],
    ])('of %d rows with %d packed rows of %d words, %d columns used', (m, rows, words, columns) => {
      const {bits, values} = packedRows(rows, words, columns);
      const matrix = tf.slice(tf.tensor2d(values, [rows, words * 2]), [0, 0], [rows, columns]);
      const x = normal([m, columns], 1) as tf.Tensor2D;
      const w = matrix.arraySync();
      const expected = x.arraySync().flatMap(row => w.map(out => row.reduce((sum, v, c) => sum + v * out[c]!, 0)));
      expect(matMulBfloat16Op.reference({x, bits}, {columns})).toBeAllClose(expected);
      expectSameGradients(
        a => matMulBfloat16(a as tf.Tensor2D, bits, columns),
        a => tf.matMul(a as tf.Tensor2D, matrix, false, true),
        [x],
      );
    });
  });

  describe('unpackBfloat16', () => {
    test('unpacks all 65,536 values', () => {
      const halves = Uint16Array.from({length: 65536}, (_, i) => i);
      const bits = tf.tensor2d(new Int32Array(halves.buffer), [64, 512], 'int32');
      const expected = new Float32Array(Uint32Array.from(halves, half => half << 16).buffer);
      const unpacked = unpackBfloat16Op.reference({bits}, {});
      expect(unpacked.shape).toEqual([64, 1024]);
      // `toEqual` treats NaN as equal to itself, and 0 as different from -0.
      expect(Array.from(unpacked.dataSync())).toEqual(Array.from(expected));
    });

    test('accepts words of any sign in either half', () => {
      const {bits, values} = packedRows(7, 3, 5);
      expect(Array.from(unpackBfloat16(bits).dataSync())).toEqual(values);
      const words = [-2147483648, -1, 0, 1, 65535, 65536, -65536, -65537, 2147483647];
      const unpacked = unpackBfloat16(tf.tensor2d(words, [9, 1], 'int32'));
      const raw = new Uint32Array(new Float32Array(unpacked.dataSync()).buffer);
      const low = words.map(word => (word & 0xffff) << 16);
      const isNaN16 = (half: number) => (half & 0x7fff) > 0x7f80;
      words.forEach((word, i) => {
        if (!isNaN16(word & 0xffff)) expect(raw[2 * i]).toBe(low[i]! >>> 0);
        if (!isNaN16(word >>> 16)) expect(raw[2 * i + 1]).toBe((word & 0xffff0000) >>> 0);
      });
    });
  });
});
