/** Zip archives that Python's zipfile wrote, and damaged ones. */
import {deflateRawSync} from 'node:zlib';
import {type ByteSource, MemorySource} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {ZipFile} from '../../src/formats/zip';
import {crc32} from '../../src/images/png';
import {fixtureBytes} from '../support/fixtures';
import {kerasFile} from '../support/keras_files';

/** An archive with one deflated file. */
function archive(
  name: string,
  content: Uint8Array,
  change: (head: DataView, entry: DataView, end: DataView) => void = () => {},
) {
  const packed = deflateRawSync(content);
  const path = new TextEncoder().encode(name);
  const [head, entry, end] = [30, 46, 22].map(size => new DataView(new ArrayBuffer(size))) as [
    DataView,
    DataView,
    DataView,
  ];
  head.setUint32(0, 0x04034b50, true);
  head.setUint16(26, path.length, true);
  entry.setUint32(0, 0x02014b50, true);
  entry.setUint16(10, 8, true);
  entry.setUint32(16, crc32(content), true);
  entry.setUint32(20, packed.length, true);
  entry.setUint32(24, content.length, true);
  entry.setUint16(28, path.length, true);
  end.setUint32(0, 0x06054b50, true);
  end.setUint16(10, 1, true);
  end.setUint32(12, 46 + path.length, true);
  end.setUint32(16, 30 + path.length + packed.length, true);
  change(head, entry, end);
  const bytes = (view: DataView) => new Uint8Array(view.buffer);
  return Uint8Array.from(Buffer.concat([bytes(head), path, packed, bytes(entry), path, bytes(end)]));
}

/** A source that counts what is read. */
function counted(bytes: Uint8Array): ByteSource & {read: number} {
  const memory = new MemorySource('a.keras', bytes);
  const source = {
    name: 'a.keras',
    size: bytes.length,
    read: 0,
    readInto: (offset: number, target: Uint8Array) => {
      source.read += target.length;
      return memory.readInto(offset, target);
    },
    close: async () => {},
  };
  return source;
}

test('a stored file is read in its place, by ranges', async () => {
  const source = counted(kerasFile('causal_lm.keras'));
  const zip = await ZipFile.open(source);
  expect(zip.names).toEqual([
    'metadata.json',
    'config.json',
    'model.weights.h5',
    'assets/preprocessor/tokenizer/vocabulary.spm',
  ]);
  const before = source.read;
  const file = await zip.open('model.weights.h5');
  const start = new Uint8Array(8);
  await file.readInto(0, start);
  expect([...start]).toEqual([0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a]);
  expect(source.read - before).toBeLessThan(100);
  await expect(file.readInto(file.size - 4, start)).rejects.toThrow(/is truncated/);
  await expect(zip.open('x')).rejects.toThrow(/Expected "x" in "a\.keras"/);
});

test('a deflated file has the same bytes, in any order of reads', async () => {
  const zip = await ZipFile.open(new MemorySource('int8.zip', fixtureBytes('keras_files/int8.zip')));
  const file = await zip.open('config.json');
  const bytes = new Uint8Array(file.size);
  await file.readInto(0, bytes);
  expect((JSON.parse(new TextDecoder().decode(bytes)) as {class_name: string}).class_name).toBe('Gemma3Backbone');
});

test('a large deflated file is inflated as it is read, and again from the start for earlier bytes', async () => {
  const content = new Uint8Array(70 * 2 ** 20);
  for (let i = 0; i < content.length; i += 1000) content[i] = i / 1000;
  const source = counted(archive('large.bin', content));
  const file = await (await ZipFile.open(source)).open('large.bin');
  const places = [60e6, 1e6, 69e6, 0, 30e6, content.length - 3];
  const reads = places.map(async place => {
    const out = new Uint8Array(3);
    await file.readInto(place, out);
    expect([...out]).toEqual([...content.subarray(place, place + 3)]);
  });
  await Promise.all(reads);
  // One pass, since all reads were known, and not one for each.
  expect(source.read).toBeLessThan(2.5 * source.size);
  await file.close();
}, 120_000);

const text = new TextEncoder().encode('text, text, text, text, text');

/** The same archive as programs write it whose numbers do not fit into 32 bits. */
function wideArchive(): Uint8Array {
  const plain = archive('x', text);
  const view = new DataView(plain.buffer);
  const directory = view.getUint32(plain.length - 22 + 16, true);
  const [packed, size] = [view.getUint32(directory + 20, true), view.getUint32(directory + 24, true)];
  const entry = plain.slice(directory, directory + 47);
  const described = new DataView(entry.buffer);
  for (const at of [20, 24, 42]) described.setUint32(at, 0xffffffff, true);
  described.setUint16(30, 28, true);
  const extra = new DataView(new ArrayBuffer(28));
  extra.setUint16(0, 1, true);
  extra.setUint16(2, 24, true);
  [size, packed, 0].forEach((value, i) => extra.setBigUint64(4 + 8 * i, BigInt(value), true));
  const end64 = new DataView(new ArrayBuffer(56));
  end64.setUint32(0, 0x06064b50, true);
  [1, 1, 47 + 28, directory].forEach((value, i) => end64.setBigUint64(24 + 8 * i, BigInt(value), true));
  const locator = new DataView(new ArrayBuffer(20));
  locator.setUint32(0, 0x07064b50, true);
  locator.setBigUint64(8, BigInt(directory + 47 + 28), true);
  const end = plain.slice(-22).fill(0xff, 8, 20);
  const parts = [extra, end64, locator].map(({buffer}) => new Uint8Array(buffer));
  return Uint8Array.from(Buffer.concat([plain.subarray(0, directory), entry, ...parts, end]));
}

test('an archive with numbers of 64 bits', async () => {
  const zip = await ZipFile.open(new MemorySource('a.keras', wideArchive()));
  const file = await zip.open('x');
  const bytes = new Uint8Array(file.size);
  await file.readInto(0, bytes);
  expect(bytes).toEqual(text);
});

test.each<[string, Uint8Array, RegExp]>([
  ['no archive', text, /Expected a zip archive.*in "a\.keras"/],
  ['empty', new Uint8Array(0), /Expected a zip archive/],
  ['a path outside', archive('../x', text), /names of files inside the archive\. Received: "\.\.\/x"/],
  ['an absolute path', archive('/etc/x', text), /names of files inside the archive/],
  ['several parts', archive('x', text, (_, _e, end) => end.setUint16(4, 1, true)), /an archive in one file/],
  ['more entries', archive('x', text, (_, _e, end) => end.setUint16(10, 2, true)), /2 files in its directory/],
  ['directory outside', archive('x', text, (_, _e, end) => end.setUint32(16, 9e6, true)), /directory inside the file/],
])('%s', async (_, bytes, message) => {
  const opening = ZipFile.open(new MemorySource('a.keras', bytes));
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toThrow(ValueError);
});

test.each<[string, Uint8Array, RegExp]>([
  ['encrypted', archive('x', text, head => head.setUint16(6, 1, true)), /encrypted/],
  ['another method', archive('x', text, (_, entry) => entry.setUint16(10, 12, true)), /compression method 12/],
  ['header elsewhere', archive('x', text, (_, entry) => entry.setUint32(42, 5, true)), /the header of "x" at byte 5/],
  ['a bomb', archive('x', text, (_, entry) => entry.setUint32(24, 2 ** 31, true)), /"x" to fit what is stored of it/],
  ['stored of another size', archive('x', text, (_, entry) => entry.setUint16(10, 0, true)), /to fit what is stored/],
])('a file that is %s', async (_, bytes, message) => {
  const zip = await ZipFile.open(new MemorySource('a.keras', bytes));
  await expect(zip.open('x')).rejects.toThrow(message);
});

test.each<[string, Uint8Array]>([
  ['a wrong checksum', archive('x', text, (_, entry) => entry.setUint32(16, 7, true))],
  ['a size that is too small', archive('x', text, (_, entry) => entry.setUint32(24, text.length - 1, true))],
  ['a size that is too large', archive('x', text, (_, entry) => entry.setUint32(24, text.length + 1, true))],
])('%s is noticed', async (_, bytes) => {
  const file = await (await ZipFile.open(new MemorySource('a.keras', bytes))).open('x');
  await expect(file.readInto(0, new Uint8Array(4))).rejects.toThrow(/"a\.keras\/x" is damaged: expected/);
});
