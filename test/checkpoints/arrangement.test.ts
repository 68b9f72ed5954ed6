/** Values in another order, compared with tfjs' transpose. */
import * as tf from '@tensorflow/tfjs';
import {float32ToBfloat16, bfloat16ToFloat32} from '../../src/base/half';
import {type Arrangement, ArrangedStream, inverse, TensorBuffer} from '../../src/checkpoints/arrangement';
import {ArrayStream} from '../../src/weights/value_stream';

/** As transpose and reshape compute it. */
function expected(values: Float32Array, {shape, split = shape, axes, offset = 0}: Arrangement): number[] {
  return tf.tidy(() => {
    const stored = tf.tensor(values, [...split]);
    return [...tf.add(axes ? tf.transpose(stored, [...axes]) : stored, offset).dataSync()];
  });
}

const CASES: [string, Arrangement, number[]][] = [
  ['as it is', {shape: [5, 3]}, [5, 3]],
  ['with an offset', {shape: [40], offset: -1}, [40]],
  ['transposed', {shape: [70, 45], axes: [1, 0]}, [45, 70]],
  ['transposed, with an offset', {shape: [7, 45], axes: [1, 0], offset: 0.5}, [45, 7]],
  ['with heads as outputs', {shape: [4 * 20, 24], split: [4, 20, 24], axes: [0, 2, 1]}, [4, 24, 20]],
  ['with heads as inputs', {shape: [24, 4 * 20], split: [24, 4, 20], axes: [1, 2, 0]}, [4, 20, 24]],
  ['of a convolution', {shape: [24, 3, 5, 7], axes: [2, 3, 1, 0]}, [5, 7, 3, 24]],
  ['with axes that stay in place', {shape: [6, 4, 3], axes: [0, 1, 2]}, [6, 4, 3]],
];

async function readAll(stream: ArrangedStream, size: number, piece: number): Promise<number[]> {
  const values: number[] = [];
  for (let start = 0; start < size; start += piece) {
    const part = new Float32Array(Math.min(piece, size - start));
    await stream.readFloat32(start, part);
    values.push(...part);
  }
  return values;
}

describe.each(CASES)('a tensor %s', (_, arrangement, shape) => {
  const size = tf.util.sizeFromShape(shape);
  // Whole numbers below 257 are exact in bfloat16.
  const values = Float32Array.from({length: size}, (_, i) => (i * 37) % 251);
  const wanted = expected(values, arrangement);

  test.each([1, 16, 100, 10_000])('in pieces of %i values', async piece => {
    for (const halves of [false, true]) {
      const stored = new ArrayStream(arrangement.shape, values);
      const stream = new ArrangedStream(shape, stored, arrangement, halves);
      expect(await readAll(stream, size, piece)).toEqual(wanted);
      const bits = await stream.readBfloat16(1, size - 1);
      const rounded = new Uint16Array(size - 1);
      float32ToBfloat16(Float32Array.from(wanted.slice(1)), rounded);
      expect(bits).toEqual(rounded);
    }
  });

  test('and back', async () => {
    const forward = new ArrangedStream(shape, new ArrayStream(arrangement.shape, values), arrangement, false);
    const back = new ArrangedStream(arrangement.shape, forward, inverse(arrangement), false);
    expect(await readAll(back, size, 64)).toEqual([...values]);
  });
});

test('streams that share a buffer do not disturb each other', async () => {
  const buffer = new TensorBuffer();
  const values = [0, 1].map(k => Float32Array.from({length: 12}, (_, i) => 100 * k + i));
  const streams = values.map(
    one => new ArrangedStream([3, 4], new ArrayStream([4, 3], one), {shape: [4, 3], axes: [1, 0]}, false, buffer),
  );
  const read = async (stream: ArrangedStream) => {
    const out = new Float32Array(3);
    await stream.readFloat32(0, out);
    return [...out];
  };
  expect(await read(streams[0]!)).toEqual([0, 3, 6]);
  expect(await read(streams[1]!)).toEqual([100, 103, 106]);
  expect(await read(streams[0]!)).toEqual([0, 3, 6]);
});

test('bfloat16 bits become the same float32 numbers', async () => {
  const halves = Uint16Array.from({length: 64}, (_, i) => i * 509);
  const floats = new Float32Array(64);
  bfloat16ToFloat32(halves, floats);
  const stored = {
    shape: [8, 8],
    readFloat32: async () => {},
    readBfloat16: async (start: number, count: number) => halves.slice(start, start + count),
  };
  const out = new Float32Array(64);
  await new ArrangedStream([8, 8], stored, {shape: [8, 8], axes: [1, 0]}, true).readFloat32(0, out);
  const bits = (values: Float32Array) => [...new Uint32Array(values.buffer)];
  const transposed = Float32Array.from({length: 64}, (_, i) => floats[(i % 8) * 8 + Math.floor(i / 8)]!);
  expect(bits(out)).toEqual(bits(transposed));
});
