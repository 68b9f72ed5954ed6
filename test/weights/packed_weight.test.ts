/** Packed weights in every layout: storage, filling, reading, errors. */
import * as tf from '@tensorflow/tfjs';
import {cpuBfloat16} from '../../src/backends/cpu/host_packing';
import {bfloat16ToFloat32, float32ToBfloat16} from '../../src/base/half';
import {bfloat16Rows} from '../../src/ops/bfloat16_rows';
import {type KernelLayout, PackedWeight} from '../../src/weights/packed_weight';
import {registerPacking} from '../../src/weights/packing';
import {PIECE} from '../../src/weights/value_stream';
import {FakeStream} from '../support/fake_stream';
import {normal} from '../support/random';

/** Every way to split axes into rows and columns, each side in any order for up to three axes. */
const LAYOUTS: [shape: number[], layout: KernelLayout][] = [
  [[5], {out: [0], in: []}],
  [[70], {out: [], in: [0]}],
  [[3, 40], {out: [0], in: [1]}],
  [[40, 3], {out: [1], in: [0]}],
  [[35, 70], {out: [1], in: [0]}],
  [[2, 3], {out: [], in: [0, 1]}],
  [[2, 3], {out: [], in: [1, 0]}],
  [[2, 3], {out: [1, 0], in: []}],
  [[2, 3, 5], {out: [0, 2], in: [1]}],
  [[2, 3, 5], {out: [2, 0], in: [1]}],
  [[2, 3, 5], {out: [2], in: [0, 1]}],
  [[2, 3, 5], {out: [2], in: [1, 0]}],
  [[2, 3, 5], {out: [0], in: [1, 2]}],
  [[2, 3, 5], {out: [0], in: [2, 1]}],
  [[2, 40, 33], {out: [0, 2], in: [1]}],
  [[2, 3, 4, 5], {out: [0, 2], in: [1, 3]}],
  [[2, 3, 4, 5], {out: [3, 1], in: [2, 0]}],
  [[3, 3, 2, 7], {out: [3], in: [0, 1, 2]}],
  [[1, 1, 1, 1], {out: [3], in: [0, 1, 2]}],
];

const declared = (shape: number[], layout: KernelLayout, initializer = tf.initializers.zeros()) =>
  new PackedWeight(shape, layout, 'kernel', initializer);

/** Where a value of logical index `at` is stored, as the class documents. */
function place(shape: number[], layout: KernelLayout, at: number[]): [row: number, column: number] {
  const along = (axes: readonly number[]) => axes.reduce((sum, axis) => sum * shape[axis]! + at[axis]!, 0);
  return [along(layout.out), along(layout.in)];
}

describe.each(LAYOUTS)('a weight %j stored as %j', (shape, layout) => {
  const size = shape.reduce((a, b) => a * b, 1);
  const values = Float32Array.from({length: size}, (_, i) => Math.sin(i + 1) * 100);
  const halves = new Uint16Array(size);
  float32ToBfloat16(values, halves);

  /** Expects each value in its place, and zeros as padding. */
  function expectStored(weight: PackedWeight): void {
    const [rows, words] = weight.bits.shape;
    expect(words % 16).toBe(0);
    const stored = new Uint16Array((weight.bits.dataSync() as Int32Array).slice().buffer);
    const expected = new Uint16Array(rows * words * 2);
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, 1));
    halves.forEach((half, i) => {
      const [row, column] = place(
        shape,
        layout,
        shape.map((count, axis) => Math.floor(i / strides[axis]!) % count),
      );
      expected[row * words * 2 + column] = half;
    });
    expect(stored).toEqual(expected);
  }

  test('written, filled from a stream, and read', async () => {
    const before = tf.memory().numTensors;
    const written = declared(shape, layout);
    tf.tidy(() => {
      written.write(tf.tensor(values, shape));
    });
    expectStored(written);
    const filled = declared(shape, layout);
    await filled.fill(new FakeStream(shape, values));
    expectStored(filled);
    const rounded = new Float32Array(size);
    bfloat16ToFloat32(halves, rounded);
    const read = filled.read();
    expect(read.shape).toEqual(shape);
    expect(Array.from(read.dataSync())).toEqual(Array.from(rounded));
    read.dispose();
    written.dispose();
    filled.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });
});

describe('PackedWeight', () => {
  test('is filled in pieces of whole slabs', async () => {
    // Three slabs per piece, then one; then slabs larger than a piece.
    for (const [shape, layout, reads] of [
      [[4, PIECE / 4 + 8], {out: [0], in: [1]}, 3],
      [[4, PIECE / 4 + 8], {out: [1], in: [0]}, 3],
      [[2, PIECE + 32], {out: [0], in: [1]}, 1],
    ] as const) {
      const slab = shape[1];
      const size = shape[0] * slab;
      const stream = new FakeStream(
        shape,
        Float32Array.from({length: size}, (_, i) => (i * 7) % 251),
      );
      const weight = declared([...shape], layout);
      await weight.fill(stream);
      expect(stream.reads[0]).toEqual([0, reads * slab]);
      expect(stream.reads.reduce((sum, [, count]) => sum + count, 0)).toBe(size);
      const bits = new Uint16Array((weight.bits.dataSync() as Int32Array).buffer);
      const width = weight.bits.shape[1] * 2;
      const one = new Float32Array(1);
      for (let i = 0; i < size; i += 9973) {
        const [row, column] = place([...shape], layout, [Math.floor(i / slab), i % slab]);
        bfloat16ToFloat32(bits.subarray(row * width + column, row * width + column + 1), one);
        if (one[0] !== (i * 7) % 251) throw new Error(`Value ${i} is ${one[0]}.`);
      }
      weight.dispose();
    }
  });

  test('is initialized when it is first read, and never if it was filled before that', async () => {
    const initializer = tf.initializers.constant({value: 1.5});
    const apply = jest.spyOn(initializer, 'apply');
    const before = tf.memory().numTensors;
    const weight = declared([2, 3], {out: [1], in: [0]}, initializer);
    expect([weight.filled, apply.mock.calls.length, tf.memory().numTensors]).toEqual([false, 0, before + 1]);
    tf.tidy(() => {
      expect(Array.from(weight.read().dataSync())).toEqual([1.5, 1.5, 1.5, 1.5, 1.5, 1.5]);
    });
    expect([weight.filled, apply.mock.calls.length]).toEqual([true, 1]);
    expect(weight.bits.shape).toEqual([3, 16]);
    const filled = declared([2, 3], {out: [1], in: [0]}, initializer);
    await filled.fill(new FakeStream([2, 3], new Float32Array(6)));
    expect(filled.bits.dataSync().every(word => word === 0)).toBe(true);
    expect(apply.mock.calls.length).toBe(1);
    weight.dispose();
    filled.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('looks like float32 in logical shape', () => {
    const weight = declared([2, 3, 5], {out: [0, 2], in: [1]});
    expect([weight.shape, weight.dtype, weight.rows, weight.columns]).toEqual([[2, 3, 5], 'float32', 10, 3]);
    weight.trainable = false;
    expect(weight.trainable).toBe(false);
    weight.trainable = true;
    expect(weight.trainable).toBe(true);
    // tfjs must not find the bits among the variables that it can train.
    expect(() => tf.variableGrads(() => tf.sum(weight.read()) as tf.Scalar)).toThrow();
    weight.dispose();
  });

  test('rounds to the nearest of its values, ties to even', () => {
    const weight = declared([8], {out: [], in: [0]});
    const values = [1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, -1 - 2 ** -8, 1e-40, 3.4e38, -0];
    tf.tidy(() => {
      weight.write(tf.tensor1d(values));
      const read = Array.from(weight.read().dataSync());
      expect(read.slice(0, 5)).toEqual([1, 1, 1 + 2 ** -6, 1 + 2 ** -7, -1]);
      expect(read[5]).toBe(2 ** -133);
      expect(read[6]).toBe(Infinity);
      expect(Object.is(read[7], -0)).toBe(true);
    });
    weight.dispose();
  });

  test('accepts its own bits, and refuses other shapes and types', () => {
    tf.tidy(() => {
      const [a, b] = [declared([3, 5], {out: [1], in: [0]}), declared([3, 5], {out: [1], in: [0]})];
      a.write(normal([3, 5], 1));
      b.write(a.bits.clone());
      expect(b.read()).toBeAllClose(a.read(), 1e-12);
      expect(() => a.write(tf.zeros([5, 3]))).toThrow('Weight "kernel');
      expect(() => a.write(tf.zeros([5, 3]))).toThrow('expected a value of shape [3,5]. Received: [5,3].');
      expect(() => a.write(tf.zeros([3, 5], 'int32'))).toThrow('expected float32 values. Received: int32.');
      a.dispose();
      b.dispose();
    });
  });

  test.each([
    ['float32 values', () => normal([3, 5], 1)],
    ['words of bfloat16 values', () => tf.range(0, 8, 1, 'int32')],
    ['its own bits', () => tf.tidy(() => tf.cast(tf.mul(normal([5, 16], 2), 1e4), 'int32'))],
  ])('takes %s asynchronously, with the same result as synchronously', async (_, make) => {
    const before = tf.memory().numTensors;
    const [a, b] = [declared([3, 5], {out: [1], in: [0]}), declared([3, 5], {out: [1], in: [0]})];
    const values = make();
    a.write(values);
    await b.fillFromTensor(values);
    expect(b.filled).toBe(true);
    expect(b.bits.dataSync()).toEqual(a.bits.dataSync());
    const wrong = tf.zeros([1]);
    await expect(b.fillFromTensor(wrong)).rejects.toThrow('expected a value of shape [3,5]. Received: [1].');
    tf.dispose([values, wrong]);
    a.dispose();
    b.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('if a backend cannot pack tensors synchronously, the error of `write` names the asynchronous method', async () => {
    registerPacking('cpu', bfloat16Rows);
    try {
      const weight = declared([3, 5], {out: [1], in: [0]});
      const values = normal([3, 5], 1);
      expect(() => weight.write(values)).toThrow(
        /"cpu" cannot pack a tensor as bfloat16 synchronously. Use `await weight.fillFromTensor\(values\)` for weight "kernel/,
      );
      await weight.fillFromTensor(values);
      const copy = declared([3, 5], {out: [1], in: [0]});
      copy.write(weight.bits);
      expect(copy.bits.dataSync()).toEqual(weight.bits.dataSync());
      tf.dispose(values);
      weight.dispose();
      copy.dispose();
    } finally {
      registerPacking('cpu', cpuBfloat16);
    }
  });
});
