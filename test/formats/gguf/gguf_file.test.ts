/** Headers of GGUF files: all types of metadata, few reads, and damaged files. */
import {MemorySource} from '../../../src/base/byte_source';
import {ValueError} from '../../../src/base/errors';
import {type GgufStrings, isGguf, readGguf, ValueType} from '../../../src/formats/gguf';
import {fixtureBytes} from '../../support/fixtures';
import {bytesOf, f32, ggufBytes, type GgufParts, info, text, u32, u64, value} from '../../support/gguf_bytes';

const open = (bytes: Uint8Array) => readGguf(new MemorySource('a.gguf', bytes));

test('metadata of every type, as the Python package writes it', async () => {
  const {metadata, version} = await open(fixtureBytes('gguf/types.gguf'));
  expect(version).toBe(3);
  const found = Object.fromEntries(metadata);
  expect(found).toMatchObject({
    'general.architecture': 'test',
    'test.uint8': 255,
    'test.int8': -128,
    'test.uint16': 65535,
    'test.int16': -32768,
    'test.uint32': 2 ** 32 - 1,
    'test.int32': -(2 ** 31),
    'test.float32': 0.5,
    'test.bool': true,
    'test.string': 'grüße, 日本',
    'test.uint64': 2n ** 64n - 1n,
    'test.int64': -(2n ** 63n),
    'test.float64': 0.1,
    'test.small': 7,
    'test.uint8_array': Uint8Array.of(255, 0, 1),
    'test.int8_array': Int8Array.of(-128, 0, 1),
    'test.uint16_array': Uint16Array.of(65535, 0, 1),
    'test.int16_array': Int16Array.of(-32768, 0, 1),
    'test.uint32_array': Uint32Array.of(2 ** 32 - 1, 0, 1),
    'test.int32_array': Int32Array.of(-(2 ** 31), 0, 1),
    'test.float32_array': Float32Array.of(0.5, 0, 1),
    'test.bool_array': [true, false, true],
    'test.uint64_array': BigUint64Array.of(2n ** 64n - 1n, 0n, 1n),
    'test.int64_array': BigInt64Array.of(-(2n ** 63n), 0n, 1n),
    'test.float64_array': Float64Array.of(0.1, 0, 1),
    'test.nested': [Int32Array.of(1, 2), Int32Array.of(3)],
  });
  const strings = found['test.string_array'] as GgufStrings;
  expect(Array.from({length: strings.length}, (_, i) => strings.at(i))).toEqual(['', 'a', '▁日']);
});

test('shapes have the order of NumPy, and places are in the file', async () => {
  const bytes = ggufBytes({
    version: 2,
    infos: [info('b', [3, 2], 0, 32), info('a', [4], 1, 0)],
    data: bytesOf(...[56].map(n => Array<number>(n).fill(1))),
  });
  const {tensors, version} = await open(bytes);
  expect(version).toBe(2);
  expect([...tensors.keys()]).toEqual(['b', 'a']);
  expect(tensors.get('b')).toMatchObject({shape: [2, 3], byteLength: 24, offset: bytes.length - 24});
  expect(tensors.get('a')).toMatchObject({shape: [4], byteLength: 8, type: {name: 'F16'}, offset: bytes.length - 56});
});

test('another alignment moves the values', async () => {
  const values = [value('general.alignment', ValueType.uint32, u32(64))];
  const bytes = ggufBytes({
    values,
    infos: [info('a', [1], 0, 0), info('b', [1], 0, 64)],
    alignment: 64,
    data: new Uint8Array(68),
  });
  const {tensors} = await open(bytes);
  expect(tensors.get('b')!.offset % 64).toBe(0);
});

test('a header with a vocabulary is read in few pieces', async () => {
  const words = Array.from({length: 300_000}, (_, i) => text(`token ${i}`));
  const tokens = value('tokens', ValueType.array, u32(ValueType.string), u64(words.length));
  const size = words.reduce((sum, word) => sum + word.length, 0);
  const all = new Uint8Array(size);
  let at = 0;
  for (const word of words) {
    all.set(word, at);
    at += word.length;
  }
  const head = ggufBytes({values: [tokens], valueCount: 1, alignment: 1});
  const bytes = new Uint8Array(head.length + size + 2 ** 24);
  bytes.set(head);
  bytes.set(all, head.length);
  let reads = 0;
  const counted = new MemorySource('a.gguf', bytes);
  const readInto = counted.readInto.bind(counted);
  counted.readInto = async (offset, target) => {
    reads++;
    await readInto(offset, target);
  };
  const {metadata} = await readGguf(counted);
  expect((metadata.get('tokens') as GgufStrings).at(299_999)).toBe('token 299999');
  expect(reads).toBeLessThanOrEqual(3);
});

test('files are recognized by their first bytes', async () => {
  expect(await isGguf(new MemorySource('a', ggufBytes()))).toBe(true);
  expect(await isGguf(new MemorySource('a', bytesOf('GGU')))).toBe(false);
  expect(await isGguf(new MemorySource('a', bytesOf('GGML1234')))).toBe(false);
});

const tensor = (type = 0, dimensions = [4], offset = 0) => info('x', dimensions, type, offset);
const string = (key: string) => value(key, ValueType.string, text('a'));
const damagedFiles: [string, GgufParts, RegExp][] = [
  ['another format', {magic: 'PK\x03\x04'}, /the first bytes "GGUF"\. Received: "PK/],
  ['version 1', {version: 1}, /version 2 or 3\. Received: "a\.gguf" of version 1.*current llama\.cpp/],
  ['a later version', {version: 4}, /of version 4/],
  ['big-endian numbers', {version: 0x03000000}, /little-endian GGUF file\. Received: "a\.gguf", which is big-endian/],
  ['more tensors than bytes', {tensorCount: 2 ** 40}, /1099511627776 tensors within \d+ bytes/],
  ['more values than bytes', {valueCount: 2n ** 63n}, /a size below 2\^53/],
  ['a key twice', {values: [string('a'), string('a')]}, /each metadata key once\. Received: "a" again/],
  ['an empty key', {values: [string('')]}, /the key of metadata value 0 of 1 to 65535 bytes/],
  ['a key that is not text', {values: [bytesOf(u64(1), [255], u32(4), u32(1))]}, /in UTF-8/],
  ['a value of an unknown type', {values: [value('a', 13, u32(1))]}, /a type from 0 to 12\. Received: type 13/],
  ['a flag that is neither', {values: [value('a', ValueType.bool, [2])]}, /true or false, 1 or 0\. Received: 2/],
  ['flags that are neither', {values: [value('a', 9, u32(7), u64(2), [1, 3])]}, /hold true and false.*Received: 3/],
  [
    'an array of an unknown type',
    {values: [value('a', 9, u32(99), u64(0))]},
    /of a type from 0 to 12\. Received: type 99/,
  ],
  ['an array longer than the file', {values: [value('a', 9, u32(6), u64(2 ** 45))]}, /the array "a" within/],
  ['strings beyond the file', {values: [value('a', 9, u32(8), u64(2 ** 30))]}, /the texts of "a" within/],
  ['a string beyond the file', {values: [value('a', 8, u64(2 ** 50), 'b')]}, /the text of "a" within/],
  [
    'arrays in arrays in arrays',
    {
      values: [
        value(
          'a',
          9,
          ...Array<number[][]>(6)
            .fill([u32(9), u64(1)])
            .flat(),
        ),
      ],
    },
    /to a depth of 4/,
  ],
  [
    'an alignment that is no power of two',
    {values: [value('general.alignment', 4, u32(48))]},
    /a power of two\. Received: 48/,
  ],
  ['an alignment of zero', {values: [value('general.alignment', 4, u32(0))]}, /a power of two\. Received: 0/],
  ['an alignment of another type', {values: [value('general.alignment', 6, f32(32))]}, /to be a uint32/],
  ['a tensor twice', {infos: [tensor(), tensor()]}, /each tensor once\. Received: "x" again/],
  ['a tensor of an unknown type', {infos: [tensor(77)]}, /"x" to have a type of ggml\. Received: type 77/],
  ['a tensor without dimensions', {infos: [tensor(0, [])]}, /1 to 4 dimensions\. Received: 0/],
  ['too many dimensions', {infos: [tensor(0, [1, 1, 1, 1, 1])]}, /1 to 4 dimensions\. Received: 5/],
  ['an empty tensor', {infos: [tensor(0, [4, 0])]}, /positive dimensions.*Received: \[0,4\]/],
  ['a tensor of absurd size', {infos: [tensor(0, [2 ** 30, 2 ** 30])]}, /positive dimensions that fit into a file/],
  ['rows of broken blocks', {infos: [tensor(2, [40])]}, /whole blocks of 32 values.*Q4_0\. Received: rows of 40/],
  ['a tensor beyond the file', {infos: [tensor(0, [4])]}, /a file of at least \d+ bytes, for "x"/],
  [
    'a tensor at an odd place',
    {infos: [tensor(0, [1], 4)], data: new Uint8Array(32)},
    /a multiple of 32 bytes. Received: byte 4/,
  ],
  [
    'tensors on top of each other',
    {infos: [tensor(0, [16]), info('y', [8], 0, 32)], data: new Uint8Array(64)},
    /"y" after "x", which ends at byte 64\. Received: byte 32/,
  ],
];
test.each(damagedFiles)('%s: an error that says so', async (_, parts, message) => {
  const error: unknown = await open(ggufBytes(parts)).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(ValueError);
  expect((error as Error).message).toMatch(message);
});

test('every shorter file is an error of this package', async () => {
  const bytes = ggufBytes({values: [string('a')], infos: [tensor()], data: new Uint8Array(16)});
  await open(bytes);
  for (let length = 0; length < bytes.length; length++) {
    await expect(open(bytes.subarray(0, length))).rejects.toThrow(ValueError);
  }
});
