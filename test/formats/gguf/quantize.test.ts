/** Bytes of tensors, compared with the Python package `gguf`; see test/reference/make_gguf_fixtures.py. */
import {MemorySource} from '../../../src/base/byte_source';
import {sizeOf} from '../../../src/base/shapes';
import {encoderOf, type GgufTensor, integerType, integerWriterOf, readGguf} from '../../../src/formats/gguf';
import {fixtureBytes} from '../../support/fixtures';

const source = new MemorySource('quantized.gguf', fixtureBytes('gguf/quantized.gguf'));

async function bytesOf({offset, byteLength}: GgufTensor): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(byteLength);
  await source.readInto(offset, bytes);
  return bytes;
}

test.each(['F16', 'BF16', 'Q8_0', 'Q4_0'])('%s has the same bits as in Python', async name => {
  const {tensors} = await readGguf(source);
  const values = tensors.get('values')!;
  const floats = new Float32Array((await bytesOf(values)).buffer);
  const expected = await bytesOf(tensors.get(name)!);
  const bytes = new Uint8Array(expected.length);
  expect(encoderOf(name)!(floats, bytes)).toBe(-1);
  expect(bytes).toEqual(expected);
});

test.each(['Q8_0', 'Q4_0'])('%s from its integers and scales', async name => {
  const {tensors} = await readGguf(source);
  const {shape} = tensors.get(name)!;
  const expected = await bytesOf(tensors.get(name)!);
  const blocks = sizeOf(shape) / 32;
  const [integers, scales] = [new Int8Array(32 * blocks), new Float32Array(blocks)];
  integerType(name)!.read(expected, blocks, integers, scales);
  const bytes = new Uint8Array(expected.length);
  expect(integerWriterOf(name)!(integers, scales, bytes)).toBe(-1);
  expect(bytes).toEqual(expected);
});

test('numbers that a format cannot hold are found', () => {
  const values = new Float32Array(64).fill(1);
  values[40] = 1e6;
  expect(encoderOf('F16')!(values, new Uint8Array(128))).toBe(40);
  values[40] = 1e7;
  expect(encoderOf('Q8_0')!(values, new Uint8Array(68))).toBe(32);
  values[40] = NaN;
  expect(encoderOf('Q4_0')!(values, new Uint8Array(36))).toBe(32);
  expect(encoderOf('BF16')!(values, new Uint8Array(128))).toBe(-1);
});
