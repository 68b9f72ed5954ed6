/**
 * The HDF5 writer, checked with the reader. test/reference/check_saved_presets.py checks that h5py can open its files.
 */
import fc from 'fast-check';
import {type ByteSink} from '../../../src/base/byte_sink';
import {MemorySource} from '../../../src/base/byte_source';
import {type DatasetContent, type Hdf5Dtype, Hdf5File, Hdf5Writer} from '../../../src/formats/hdf5';

class Collected implements ByteSink {
  readonly name = 'written.h5';
  readonly pieces: Uint8Array[] = [];
  async write(bytes: Uint8Array): Promise<void> {
    this.pieces.push(bytes.slice());
  }
  async close(): Promise<void> {}
  get bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.pieces));
  }
}

async function written(writer: Hdf5Writer): Promise<Uint8Array> {
  const sink = new Collected();
  await writer.writeTo(sink);
  return sink.bytes;
}

const open = async (writer: Hdf5Writer) => Hdf5File.open(new MemorySource('written.h5', await written(writer)));

async function bytesOf(file: Hdf5File, path: string): Promise<Uint8Array> {
  const dataset = file.dataset(path)!;
  const bytes = new Uint8Array(dataset.byteLength);
  await dataset.readInto(0, bytes);
  return bytes;
}

const content = (dtype: Hdf5Dtype, shape: number[], bytes: Uint8Array): DatasetContent => ({
  dtype,
  shape,
  data: () => [bytes],
});
const float = (value: number) => content('float32', [], new Uint8Array(Float32Array.of(value).buffer));

describe('datasets', () => {
  test.each([
    ['float32', 4],
    ['float64', 8],
    ['float16', 2],
    ['bfloat16', 2],
    ['int64', 8],
    ['int32', 4],
    ['int8', 1],
    ['uint8', 1],
    ['uint16', 2],
  ] as const)('%s', async (dtype, size) => {
    const bytes = Uint8Array.from({length: 6 * size}, (_, i) => i + 1);
    const file = await open(new Hdf5Writer().dataset('a/b', content(dtype, [2, 3], bytes)));
    expect(file.dataset('a/b')).toMatchObject({dtype, shape: [2, 3], itemSize: size});
    expect(await bytesOf(file, 'a/b')).toEqual(bytes);
    expect(await file.attribute('a/b', 'dtype')).toBe(dtype === 'bfloat16' ? 'bfloat16' : undefined);
  });

  test('a scalar, and an empty array', async () => {
    const rank = content('int64', [], new Uint8Array(BigInt64Array.of(4n).buffer));
    const file = await open(
      new Hdf5Writer().dataset('lora/vars/rank', rank).dataset('none', content('float32', [0, 4], new Uint8Array(0))),
    );
    expect(file.dataset('lora/vars/rank')!.shape).toEqual([]);
    expect(new DataView((await bytesOf(file, 'lora/vars/rank')).buffer).getBigInt64(0, true)).toBe(4n);
    expect(file.dataset('none')).toMatchObject({shape: [0, 4], byteLength: 0});
  });

  test('in pieces that reuse one array', async () => {
    const writer = new Hdf5Writer().dataset('x', {
      dtype: 'uint8',
      shape: [5],
      data: async function* () {
        const piece = new Uint8Array(2);
        for (const values of [[1, 2], [3, 4], [5]]) {
          piece.set(values);
          yield piece.subarray(0, values.length);
        }
      },
    });
    expect(await bytesOf(await open(writer), 'x')).toEqual(Uint8Array.of(1, 2, 3, 4, 5));
  });

  test('refuses a length that does not match the shape', async () => {
    const of = (length: number) => new Hdf5Writer().dataset('x', content('uint8', [3], new Uint8Array(length)));
    await expect(written(of(2))).rejects.toThrow(
      'The dataset "x" of "written.h5" has shape [3] of uint8: expected 3 bytes. Received: 2.',
    );
    await expect(written(of(4))).rejects.toThrow('Received: more.');
  });

  test('refuses names that are taken', () => {
    const writer = new Hdf5Writer().dataset('a/b', float(1));
    expect(() => writer.dataset('a/b', float(2))).toThrow('a name that is not in the file yet. Received: "a/b"');
    expect(() => writer.dataset('a', float(2))).toThrow('Received: "a"');
    expect(() => writer.group('a/b/c')).toThrow('Expected "b" of "a/b/c" to be a group');
  });
});

test('groups of any size, names of any length', async () => {
  // 8 links fill a node, 256 fill a tree with one level, and 8192 fill a tree with two.
  for (const count of [0, 1, 8, 9, 256, 257, 3000]) {
    const writer = new Hdf5Writer().group('g');
    const names = Array.from({length: count}, (_, i) => `${i}${'é'.repeat(i % 40)}`);
    names.forEach((name, i) => writer.dataset(`g/${name}`, float(i)));
    const file = await open(writer);
    expect(file.paths()).toEqual(names.map(name => `g/${name}`).sort());
    for (const i of [0, 7, 8, 255, 256, 2999].filter(i => i < count)) {
      const bytes = await bytesOf(file, `g/${names[i]}`);
      expect(new DataView(bytes.buffer).getFloat32(0, true)).toBe(i);
    }
  }
});

test('attributes of groups', async () => {
  const attributes = {name: 'ü'.repeat(5000), empty: '', count: -3, half: 0.5, fixed: new TextEncoder().encode('abc')};
  const writer = new Hdf5Writer().group('a/vars', attributes).group('a', {name: 'a'});
  // More texts than fit into one heap.
  for (let i = 0; i < 300; i++) writer.group(`b/${i}`, {name: `layer ${i}`});
  const file = await open(writer);
  expect(await file.attribute('a', 'name')).toBe('a');
  for (const [name, value] of Object.entries({...attributes, fixed: 'abc'})) {
    expect(await file.attribute('a/vars', name)).toBe(value);
  }
  for (const i of [0, 99, 100, 299]) expect(await file.attribute(`b/${i}`, 'name')).toBe(`layer ${i}`);
});

test('property: any tree is read as it was written', async () => {
  const name = fc.string({minLength: 1, maxLength: 12}).filter(text => !/[/\0]/.test(text) && text !== '.');
  const path = fc.array(name, {minLength: 1, maxLength: 4}).map(names => names.join('/'));
  await fc.assert(
    fc.asyncProperty(fc.uniqueArray(path, {maxLength: 40}), async paths => {
      const writer = new Hdf5Writer();
      // A dataset cannot contain another one.
      const kept = paths.filter(one => !paths.some(other => other !== one && other.startsWith(`${one}/`)));
      kept.forEach((one, i) => writer.dataset(one, float(i)));
      const file = await open(writer);
      expect(file.paths()).toEqual([...kept].sort());
    }),
    {numRuns: 30},
  );
});

test('a file of more than 4 GiB has the right addresses', async () => {
  // The sink stores only bytes other than zero: 5 GiB would not fit into memory.
  const kept = new Map<number, Uint8Array>();
  let size = 0;
  const sink: ByteSink = {
    name: 'large.h5',
    write: async bytes => {
      if (bytes.length < 1 << 20) kept.set(size, bytes.slice());
      size += bytes.length;
    },
    close: async () => {},
  };
  const piece = new Uint8Array(1 << 28);
  const zeros = {dtype: 'uint8', shape: [5, 2 ** 30], data: () => Array.from({length: 20}, () => piece)} as const;
  await new Hdf5Writer().dataset('zeros', zeros).dataset('after', float(7)).writeTo(sink);
  const source = {
    name: 'large.h5',
    size,
    readInto: async (offset: number, target: Uint8Array) => {
      target.fill(0);
      for (const [at, bytes] of kept) {
        const from = Math.max(0, offset - at);
        if (at - offset < target.length && from < bytes.length) {
          target.set(bytes.subarray(from, from + target.length - Math.max(0, at - offset)), Math.max(0, at - offset));
        }
      }
    },
    close: async () => {},
  };
  const file = await Hdf5File.open(source);
  expect(file.dataset('zeros')!.byteLength).toBe(5 * 2 ** 30);
  expect(size).toBeGreaterThan(2 ** 32);
  expect(await bytesOf(file, 'after')).toEqual(new Uint8Array(Float32Array.of(7).buffer));
});
