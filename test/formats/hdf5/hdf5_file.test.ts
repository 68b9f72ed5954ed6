/** Reading HDF5 files: datasets, attributes, and the number of reads. */
import {bfloat16ToFloat32, float16ToFloat32} from '../../../src/base/half';
import {Hdf5File} from '../../../src/formats/hdf5';
import {ChunkCache} from '../../../src/formats/hdf5/chunks';
import {EXPECTED, find, hdf5Bytes, open, patched, rejection, SlowSource} from '../../support/hdf5_files';

async function bytesOf(file: Hdf5File, path: string): Promise<Uint8Array> {
  const dataset = file.dataset(path);
  if (!dataset) throw new Error(`Expected a dataset "${path}". Received: ${file.paths().join(', ')}.`);
  const bytes = new Uint8Array(dataset.byteLength).fill(0xee);
  await dataset.readInto(0, bytes);
  return bytes;
}

describe.each(Object.keys(EXPECTED))('%s', name => {
  const expected = EXPECTED[name] ?? {};

  test('has the datasets that h5py finds, and their bytes', async () => {
    const file = await open(name);
    expect(file.name).toBe(name);
    expect(file.paths()).toEqual(Object.keys(expected).sort());
    for (const [path, {shape, dtype, hex, unreadable}] of Object.entries(expected)) {
      if (unreadable !== undefined) continue;
      const dataset = file.dataset(path);
      expect(dataset).toMatchObject({path, shape, dtype, byteLength: hex.length / 2});
      expect(dataset?.itemSize).toBe(dtype === 'bfloat16' ? 2 : Number(/\d+$/.exec(dtype)?.[0]) / 8);
      expect(Buffer.from(await bytesOf(file, path)).toString('hex')).toBe(hex);
    }
    await file.close();
  });

  test('opens, and refuses each unreadable dataset with file, dataset and reason', async () => {
    const file = await open(name);
    for (const [path, {unreadable}] of Object.entries(expected)) {
      if (unreadable === undefined) continue;
      expect(() => file.dataset(path)).toThrow(unreadable);
      expect(() => file.dataset(path)).toThrow(`The dataset "${path}" of "${name}" cannot be read: expected `);
      expect(() => file.dataset(path)).toThrow(/Received: .*save them again uncompressed with model\.save_weights/);
    }
  });
});

describe('a file that Keras wrote', () => {
  test.each(['float32', 'float16', 'bfloat16'])('has the values of a %s model', async dtype => {
    const name = `keras_${dtype}.weights.h5`;
    const path = 'layers/dense/vars/0';
    const bytes = await bytesOf(await open(name), path);
    const values = EXPECTED[name]?.[path]?.values ?? [];
    const out = new Float32Array(values.length);
    if (dtype === 'float32') out.set(new Float32Array(bytes.buffer));
    else (dtype === 'float16' ? float16ToFloat32 : bfloat16ToFloat32)(new Uint16Array(bytes.buffer), out);
    expect([...out]).toEqual(values);
    expect(values.length).toBeGreaterThan(4);
  });

  test('has the names of layers', async () => {
    const file = await open('keras_bfloat16.weights.h5');
    expect(await file.attribute('layers/dense/vars', 'name')).toBe('head');
    expect(await file.attribute('layers/dense/vars/0', 'dtype')).toBe('bfloat16');
    expect(await file.attribute('layers/dense/vars/0', 'nothing')).toBeUndefined();
    expect(await file.attribute('', 'nothing')).toBeUndefined();
    expect(await rejection(file.attribute('layers/none', 'name'))).toMatch(
      /path of a group or dataset.*Received: "layers\/none"/,
    );
  });
});

describe('attributes', () => {
  test.each([
    ['variable', 'grün'],
    ['blank', ''],
    ['fixed', 'abc'],
    ['texts', ['one', 'two']],
    ['int', -5],
    ['float', 0.25],
    ['half', 0.5],
    ['double', -1e-300],
    ['list', [1, 2, 3]],
    ['int8', -128],
    ['int16', -32_768],
    ['int32', -(2 ** 31)],
    ['int64', -(2 ** 53)],
    ['uint8', 255],
    ['uint16', 65_535],
    ['uint32', 2 ** 32 - 1],
    ['uint64', 2 ** 53],
    ['spaces', 'ab'],
    ['none', []],
  ])('reads %s', async (name, value) => {
    expect(await (await open('types.h5')).attribute('integers', name)).toEqual(value);
  });

  test('reads them from continuation blocks and new-style headers', async () => {
    const types = await open('types.h5');
    expect(await types.attribute('scalar', 'note_00')).toBe('text 0');
    expect(await types.attribute('scalar', 'note_39')).toBe('text 39');
    expect(await (await open('latest.h5')).attribute('a', 'name')).toBe('layer');
  });

  test('reads them from a heap, where many of an object are', async () => {
    const latest = await open('latest.h5');
    expect(await latest.attribute('a/b', 'note_8')).toBe(8);
    expect(await latest.attribute('a/b', 'none')).toBeUndefined();
    const dense = await open('dense.h5');
    for (const i of [0, 7, 19]) expect(await dense.attribute('few', `note_${i}`)).toBe(`text ${i}`);
  });

  test('refuses attributes without a value', async () => {
    const message = await rejection((await open('types.h5')).attribute('integers', 'null'));
    expect(message).toMatch(/attribute "null" of object "integers".*an empty attribute/);
  });

  test('refuses attributes that are neither numbers nor strings', async () => {
    const message = await rejection((await open('types.h5')).attribute('integers', 'flag'));
    expect(message).toMatch(/attribute "flag" of object "integers" of "types\.h5" cannot be read.*enumeration/);
  });
});

describe('chunks', () => {
  const NAMES = [
    'matrix/all',
    'matrix/plain',
    'shapes/line',
    'shapes/cube',
    'shapes/resizable',
    'partial/fill',
    'bf16',
  ];

  test.each(NAMES)('%s is read in pieces, which need not end where elements do', async path => {
    for (const name of ['chunked.h5', 'chunked_latest.h5', 'user_block.h5']) {
      const dataset = (await open(name)).dataset(path)!;
      const all = Uint8Array.from(Buffer.from(EXPECTED[name]![path]!.hex, 'hex'));
      for (const length of [1, 7, 64, 333]) {
        const read = new Uint8Array(all.length);
        for (let start = 0; start < all.length; start += length) {
          await dataset.readInto(start, read.subarray(start, start + length));
        }
        expect(read).toEqual(all);
      }
    }
  });

  test('are each read once for an array that is read in order', async () => {
    const source = new SlowSource(hdf5Bytes('chunked.h5'));
    const dataset = (await Hdf5File.open(source)).dataset('matrix/gzip')!;
    const first = source.reads.length;
    for (let start = 0; start < dataset.byteLength; start += 17) {
      await dataset.readInto(start, new Uint8Array(Math.min(17, dataset.byteLength - start)));
    }
    const reads = source.reads.slice(first).filter(([, length]) => length < 100);
    expect(reads.length).toBe(5 * 5);
  });

  test('are kept up to 64 MiB', () => {
    const cache = new ChunkCache();
    const size = 20 * 2 ** 20;
    for (const key of ['a', 'b', 'c']) cache.add(key, new Uint8Array(size));
    cache.get('a');
    cache.add('d', new Uint8Array(size));
    expect(['a', 'b', 'c', 'd'].map(key => cache.get(key) !== undefined)).toEqual([true, false, true, true]);
    cache.add('e', new Uint8Array(5 * size));
    expect(['a', 'c', 'd', 'e'].map(key => cache.get(key) !== undefined)).toEqual([false, false, false, true]);
  });

  test('that are damaged are refused', async () => {
    const bytes = hdf5Bytes('chunked.h5');
    const reading = async (path: string, damaged: Uint8Array) =>
      rejection(bytesOf(await open('chunked.h5', damaged), path));
    // The head of the first gzip data, level 9.
    const at = Buffer.from(bytes).indexOf(Buffer.from([0x78, 0xda]));
    expect(await reading('matrix/gzip', patched(bytes, at, 0, 0))).toMatch(
      /^"chunked.h5" is a damaged HDF5 file: expected gzip data in chunk \d+ of the dataset "matrix\/gzip"\. Received: /,
    );
    // The first row of the matrix begins each unpacked copy of it; one has a checksum.
    const row = Buffer.from(EXPECTED['chunked.h5']!['matrix/plain']!.hex, 'hex').subarray(0, 16);
    const messages: string[] = [];
    for (let place = 0; (place = Buffer.from(bytes).indexOf(row, place)) >= 0; place++) {
      messages.push(await reading('matrix/fletcher32', patched(bytes, place, 1)).catch(() => 'read'));
    }
    expect(messages).toContainEqual(
      expect.stringMatching(/expected the checksum \d+ in chunk 0 of the dataset "matrix\/fletcher32"\. Received: \d/),
    );
  });
});

describe('a dataset', () => {
  test('is read in pieces', async () => {
    const file = await open('types.h5');
    const all = await bytesOf(file, 'four_dimensions');
    for (const [start, length] of [
      [0, 5],
      [7, 20],
      [48, 0],
      [47, 1],
    ] as const) {
      const piece = new Uint8Array(length);
      await file.dataset('four_dimensions')?.readInto(start, piece);
      expect(piece).toEqual(all.subarray(start, start + length));
    }
  });

  test.each([
    [45, 4],
    [-1, 2],
    [0.5, 1],
    [NaN, 1],
  ])('refuses the range from %d of %d bytes', async (start, length) => {
    for (const path of ['four_dimensions', 'compact']) {
      const dataset = (await open('types.h5')).dataset(path);
      const message = await rejection(dataset?.readInto(start, new Uint8Array(length)) ?? Promise.resolve());
      expect(message).toMatch(
        new RegExp(`"${path}" of "types.h5" has \\d+ bytes: expected a range.*Received: ${length} `),
      );
    }
  });

  test('is undefined for unknown paths, including names of object properties', async () => {
    const file = await open('types.h5');
    for (const path of ['nothing', '', '/scalar', 'floats', '__proto__', 'constructor']) {
      expect(file.dataset(path)).toBeUndefined();
    }
  });

  test('may be a scalar or empty', async () => {
    const file = await open('types.h5');
    expect(file.dataset('scalar')).toMatchObject({shape: [], byteLength: 4});
    expect(file.dataset('empty')).toMatchObject({shape: [0, 4], byteLength: 0});
  });
});

describe('reading', () => {
  /** A fixture followed by the bytes of a large tensor, which opening must not read. */
  function padded(name: string): Uint8Array {
    const bytes = new Uint8Array(2 ** 22);
    bytes.set(hdf5Bytes(name));
    return bytes;
  }

  test('opens with few reads, reading each block once and no data', async () => {
    const source = new SlowSource(padded('many.h5'));
    const file = await Hdf5File.open(source);
    const size = hdf5Bytes('many.h5').length;
    expect(source.reads.length).toBeLessThanOrEqual(Math.ceil(size / 16_384) + 1);
    expect(source.reads.reduce((sum, [, length]) => sum + length, 0)).toBeLessThanOrEqual(size + 100);
    expect(source.closed).toBe(0);
    await file.close();
    expect(source.closed).toBe(1);
  });

  test('overlaps the reads of groups that do not depend on each other', async () => {
    const source = new SlowSource(hdf5Bytes('many.h5'));
    await Hdf5File.open(source);
    expect(source.mostBusy).toBeGreaterThan(1);
  });

  test('closes the source when opening fails, after the last read', async () => {
    const source = new SlowSource(patched(hdf5Bytes('many.h5'), find(hdf5Bytes('many.h5'), 'SNOD'), 0));
    expect(await rejection(Hdf5File.open(source))).toContain('signature "SNOD"');
    expect([source.closed, source.busy]).toEqual([1, 0]);
  });

  test('passes on the error of a source', async () => {
    const source = new SlowSource(hdf5Bytes('many.h5'));
    let reads = 0;
    const readInto = source.readInto.bind(source);
    source.readInto = async (offset, target) => {
      if (++reads > 3) throw new Error('The connection was lost.');
      return readInto(offset, target);
    };
    expect(await rejection(Hdf5File.open(source))).toBe('The connection was lost.');
    expect(source.closed).toBe(1);
  });
});
