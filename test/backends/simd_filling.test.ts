/** Weights that are filled from bfloat16 files, which are read into memory of the engine where threads share it. */
import * as tf from '@tensorflow/tfjs';
import {createSimdBackend} from '../../src/backends/simd/create_backend';
import {bfloat16ToFloat32} from '../../src/base/half';
import {Scratch, StoredArrayStream} from '../../src/checkpoints/stored_array';
import {PackedWeight} from '../../src/weights/packed_weight';
import {PIECE} from '../../src/weights/value_stream';
import {Weight} from '../../src/weights/weight';

/** An array of bfloat16 values in a file; reading from byte `failsAt` on fails. */
function storedHalves(halves: Uint16Array, failsAt = Infinity): StoredArrayStream {
  const bytes = new Uint8Array(halves.buffer);
  const readInto = async (offset: number, target: Uint8Array) => {
    await new Promise(resolve => setTimeout(resolve));
    if (offset >= failsAt) throw new Error('no disk');
    target.set(bytes.subarray(offset, offset + target.length));
  };
  const array = {shape: [halves.length], dtype: 'bfloat16', itemSize: 2, byteLength: bytes.length, readInto};
  return new StoredArrayStream(array, new Scratch());
}

const heapBytes = () => (tf.memory() as unknown as {heapBytes: number}).heapBytes;

describe.each([
  {threads: 2, shared: true},
  {threads: 1, shared: false},
])('%j', ({threads, shared}) => {
  beforeAll(async () => {
    const maximumPages = 65_535;
    const memory = new WebAssembly.Memory({initial: 1, maximum: maximumPages, shared});
    await createSimdBackend({threads, memory, maximumPages}, 'filled');
    await tf.setBackend('filled');
  });
  afterAll(() => tf.removeBackend('filled'));

  test.each([1, 7, 8, PIECE + 3, 2 * PIECE + 9])('fill a float32 weight of %i values exactly', async size => {
    const before = heapBytes();
    const halves = Uint16Array.from({length: size}, (_, i) => (i * 7919 + 0x3f80) & 0x7f7f);
    const expected = new Float32Array(size);
    bfloat16ToFloat32(halves, expected);
    const weight = new Weight([size], 'plain', tf.initializers.zeros());
    await weight.fill(storedHalves(halves));
    const read = (await weight.read().data()) as Float32Array;
    expect(Buffer.compare(Buffer.from(read.buffer), Buffer.from(expected.buffer))).toBe(0);
    weight.dispose();
    expect(heapBytes()).toBe(before);
  });

  test.each(['float32', 'bfloat16'])('give memory back if reading a %s weight fails', async dtype => {
    const before = heapBytes();
    const halves = new Uint16Array(2 * PIECE);
    const layout = {out: [0], in: [1]};
    const shape = [2 * PIECE, 1];
    const zeros = tf.initializers.zeros();
    const weight = dtype === 'float32' ? new Weight(shape, 'w', zeros) : new PackedWeight(shape, layout, 'w', zeros);
    await expect(weight.fill(storedHalves(halves, 2 * PIECE))).rejects.toThrow('no disk');
    expect(heapBytes()).toBe(before);
    weight.dispose();
  });
});
