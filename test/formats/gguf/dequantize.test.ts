/** Values of quantized blocks, compared with the Python package `gguf`; see test/reference/make_gguf_fixtures.py. */
import {type ByteSource, MemorySource} from '../../../src/base/byte_source';
import {sizeOf} from '../../../src/base/shapes';
import {decoderOf, type GgufTensor, readGguf, READABLE_TYPES, tensorType} from '../../../src/formats/gguf';
import {fixtureBytes} from '../../support/fixtures';

const source: ByteSource = new MemorySource('types.gguf', fixtureBytes('gguf/types.gguf'));

async function valuesOf({type, offset, byteLength, shape}: GgufTensor): Promise<Float32Array> {
  const bytes = new Uint8Array(byteLength);
  await source.readInto(offset, bytes);
  const values = new Float32Array(sizeOf(shape));
  decoderOf(type.name)!(bytes, byteLength / type.blockBytes, values);
  return values;
}

const bits = (values: Float32Array) => new Uint32Array(values.buffer);

test.each(READABLE_TYPES)('%s has the same bits as in Python', async name => {
  const {tensors} = await readGguf(source);
  expect(tensors.get(name)!.type.name).toBe(name);
  const expected = await valuesOf(tensors.get(`${name}.expected`)!);
  expect(bits(await valuesOf(tensors.get(name)!))).toEqual(bits(expected));
});

test('blocks may begin at any byte', () => {
  for (const name of READABLE_TYPES) {
    const id = [...Array(31).keys()].find(i => tensorType(i)?.name === name)!;
    const {blockBytes, blockSize} = tensorType(id)!;
    const bytes = Uint8Array.from({length: 1 + 2 * blockBytes}, (_, i) => (i * 37) & 63);
    const [here, there] = [new Float32Array(2 * blockSize), new Float32Array(2 * blockSize)];
    decoderOf(name)!(bytes.subarray(1), 2, here);
    decoderOf(name)!(bytes.slice(1), 2, there);
    expect(bits(here)).toEqual(bits(there));
  }
});

test('other types have no decoder', () => {
  for (const name of ['IQ2_XXS', 'TQ1_0', 'I32', 'constructor']) expect(decoderOf(name)).toBeUndefined();
});
