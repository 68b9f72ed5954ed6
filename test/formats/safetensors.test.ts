/** Safetensors files: round trips, types, damaged files. */
import {MemorySource} from '../../src/base/byte_source';
import {float32Content, readSafetensors, writeSafetensors} from '../../src/formats/safetensors';
import {MemoryFile} from '../../src/public/files';

const fileOf = (header: unknown, data: Uint8Array | number = 0): MemorySource => {
  const text = new TextEncoder().encode(typeof header === 'string' ? header : JSON.stringify(header));
  const values = typeof data === 'number' ? new Uint8Array(data) : data;
  const bytes = new Uint8Array(8 + text.length + values.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  bytes.set(values, 8 + text.length);
  return new MemorySource('a.safetensors', bytes);
};
const bytesOf = (values: ArrayBufferView<ArrayBuffer>) => new Uint8Array(values.buffer);

test('a written file can be read back, and its values start at a multiple of 8 bytes', async () => {
  const file = new MemoryFile('a.safetensors');
  const contents = [
    {name: 'b', shape: [2, 2], values: Float32Array.of(1, 2, 3, 4)},
    {name: 'a', shape: [1], values: Float32Array.of(0.5)},
    {name: 'empty', shape: [0, 3], values: new Float32Array(0)},
  ];
  await writeSafetensors(
    file,
    contents.map(({name, shape, values}) => float32Content(name, shape, values)),
  );
  expect((8 + Number(new DataView(file.bytes.buffer).getBigUint64(0, true))) % 8).toBe(0);
  const {tensors, metadata} = await readSafetensors(file);
  expect(metadata).toEqual({format: 'pt'});
  expect([...tensors.keys()]).toEqual(['a', 'b', 'empty']);
  for (const {name, shape, values} of contents) {
    expect(tensors.get(name)).toMatchObject({name, shape, dtype: 'F32'});
    expect(await tensors.get(name)!.readFloat32()).toEqual(values);
  }
});

test.each([
  ['F64', bytesOf(Float64Array.of(1.5, -2))],
  ['F32', bytesOf(Float32Array.of(1.5, -2))],
  ['F16', bytesOf(Uint16Array.of(0x3e00, 0xc000))],
  ['BF16', bytesOf(Uint16Array.of(0x3fc0, 0xc000))],
])('%s is read as float32', async (dtype, data) => {
  const {tensors} = await readSafetensors(fileOf({x: {dtype, shape: [2], data_offsets: [0, data.length]}}, data));
  expect(Array.from(await tensors.get('x')!.readFloat32())).toEqual([1.5, -2]);
});

test('integers are listed, but cannot be read', async () => {
  const {tensors} = await readSafetensors(fileOf({x: {dtype: 'I64', shape: [1], data_offsets: [0, 8]}}, 8));
  await expect(tensors.get('x')!.readFloat32()).rejects.toThrow(/Expected floats in "x" .* Received: I64/);
});

const entry = (begin: number, end: number, shape = [1], dtype = 'F32') => ({dtype, shape, data_offsets: [begin, end]});
test.each([
  ['no header', new MemorySource('a', new Uint8Array(4)), /expected a header. Received: 4 bytes/],
  [
    'a header longer than the file',
    new MemorySource('a', new Uint8Array(20).fill(255)),
    /a header of \d+ bytes in a file of 20/,
  ],
  ['no JSON', fileOf('{nope'), /JSON as its header/],
  ['no object', fileOf('[1, 2]'), /an object as its header/],
  ['no texts as metadata', fileOf({__metadata__: {a: 1}}), /strings as its metadata/],
  ['an unknown type', fileOf({x: entry(0, 4, [1], 'F31')}, 4), /dtype, shape and data_offsets of "x"/],
  ['no shape', fileOf({x: {...entry(0, 4), shape: [-1]}}, 4), /dtype, shape and data_offsets of "x"/],
  [
    'a gap',
    fileOf({x: entry(0, 4), y: entry(8, 12)}, 12),
    /"y" to have 4 bytes from byte 4 on. Received: bytes 8 to 12/,
  ],
  ['arrays over each other', fileOf({x: entry(0, 8, [2]), y: entry(4, 8)}, 8), /"y" to have 4 bytes from byte 8 on/],
  ['another size', fileOf({x: entry(0, 4, [2])}, 4), /"x" to have 8 bytes from byte 0 on/],
  ['too few bytes', fileOf({x: entry(0, 4)}, 2), /a file of \d+ bytes/],
  ['too many bytes', fileOf({x: entry(0, 4)}, 8), /a file of \d+ bytes/],
])('refuses a file with %s', async (_, source, message) => {
  await expect(readSafetensors(source)).rejects.toThrow(message);
});
