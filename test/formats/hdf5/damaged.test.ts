/** HDF5 files that are damaged, truncated or not HDF5 at all: every error names the file. */
import fc from 'fast-check';
import {type ByteSource, MemorySource} from '../../../src/base/byte_source';
import {Hdf5File} from '../../../src/formats/hdf5';
import {hdf5Bytes, open, patched, rejection} from '../../support/hdf5_files';

const text = (value: string) => new TextEncoder().encode(value);
const u64 = (value: number) => [...new Uint8Array(BigUint64Array.of(BigInt(value)).buffer)];
const UNDEFINED = new Array<number>(8).fill(255);

describe('a file that is not HDF5', () => {
  test.each([
    ['nothing', new Uint8Array(0), 'an empty file'],
    ['a short text', text('abc'), '"abc"'],
    ['a zip archive', text('PK\u0003\u0004rest'), 'bytes 50 4b 03 04 72 65 73 74 (a zip archive'],
    [
      'a Git LFS pointer',
      text('version https://git-lfs.github.com/spec/v1\n'),
      '"version https://" (a Git LFS pointer',
    ],
    ['a web page', text('<!doctype html><html>'), '"<!doctype html><" (a web page'],
    [
      'safetensors',
      text('\u0008\0\0\0\0\0\0\0{"a":{}}'),
      'bytes 08 00 00 00 00 00 00 00 7b 22 61 22 3a 7b 7d 7d (a safetensors file',
    ],
  ])('is recognized: %s', async (_, bytes, received) => {
    const message = await rejection(open('model.weights.h5', bytes));
    expect(message).toContain(`"model.weights.h5" is not an HDF5 file: expected it to start with bytes 89 48 44 46`);
    expect(message).toContain(`Received: ${received}`);
    expect(message).toContain('Pass a weights file that Keras 3 saved');
  });
});

describe('a truncated file', () => {
  test.each(['keras_float32.weights.h5', 'latest.h5'])('is refused at every length (%s)', async name => {
    const bytes = hdf5Bytes(name);
    for (let length = 8; length < bytes.length; length += length < 120 ? 1 : 97) {
      const message = await rejection(open(name, bytes.subarray(0, length)));
      expect(message).toMatch(/is truncated: expected .* Received: \d+ bytes\. Fetch the file again\.$/);
      expect(message).toContain(`"${name}"`);
    }
  });

  test('whose recorded length was corrected has datasets beyond its end', async () => {
    const bytes = hdf5Bytes('types.h5');
    const short = patched(bytes, 40, ...u64(bytes.length - 8)).subarray(0, -8);
    expect(await rejection(open('types.h5', short))).toMatch(/"types\.h5" is a damaged HDF5 file.*inside the file/);
  });
});

/** Damage in the first structures of an old-style file. The superblock says where they are. */
describe('a damaged file', () => {
  const name = 'keras_float32.weights.h5';
  const bytes = hdf5Bytes(name);
  const view = new DataView(bytes.buffer);
  const tree = Number(view.getBigUint64(80, true));
  const heap = Number(view.getBigUint64(88, true));
  const node = Number(view.getBigUint64(tree + 32, true));
  const names = Number(view.getBigUint64(heap + 24, true));
  const size = bytes.length;

  test.each<[string, Uint8Array, RegExp]>([
    ['unknown superblock', patched(bytes, 8, 9), /superblock of ".*" cannot be read.*Received: version 9/],
    ['short addresses', patched(bytes, 13, 4), /addresses of 4 and lengths of 8/],
    ['base address', patched(bytes, 24, 8), /expected the base address 0\. Received: 8\./],
    ['no end', patched(bytes, 40, ...UNDEFINED), /end-of-file address/],
    ['no root', patched(bytes, 64, ...UNDEFINED), /the address of the root group/],
    ['root out of range', patched(bytes, 64, ...u64(size)), /object header at byte \d+ to lie inside the file/],
    ['root far out of range', patched(bytes, 64, ...u64(2 ** 60)), /below 2\^53/],
    ['root is a tree', patched(bytes, 64, ...u64(tree)), /signature "OHDR".*Received: "TREE"/],
    [
      'tree signature',
      patched(bytes, tree, 0),
      /signature "TREE" in the B-tree node at byte \d+\. Received: bytes 00 52/,
    ],
    ['tree of chunks', patched(bytes, tree + 4, 1), /a node of a group \(type 0\).*Received: type 1/],
    ['level of a leaf', patched(bytes, tree + 5, 1), /signature "TREE".*Received: "SNOD"/],
    [
      'too many entries',
      patched(bytes, tree + 6, 255, 255),
      /B-tree node entries at byte \d+ to lie inside|a loop|address/,
    ],
    ['heap signature', patched(bytes, heap, 0), /signature "HEAP"/],
    ['huge heap', patched(bytes, heap + 8, ...u64(2 ** 50)), /local heap segment.*inside the file/],
    ['node signature', patched(bytes, node, 0), /signature "SNOD"/],
    ['node version', patched(bytes, node + 4, 2), /version 1 in the symbol table node.*Received: version 2/],
    ['name out of range', patched(bytes, node + 8, ...u64(9e6)), /a name at position 9000000/],
    ['empty name', patched(bytes, node + 8, ...u64(0)), /the name of a link.*Received: ""/],
    ['name with a slash', patched(bytes, names + 8, 47), /the name of a link/],
    ['name not UTF-8', patched(bytes, names + 8, 255), /UTF-8 text in the local heap segment.*Received: bytes ff/],
    ['same name twice', patched(bytes, node + 8 + 40, ...bytes.subarray(node + 8, node + 16)), /distinct names.*twice/],
  ])('%s', async (_, damaged, message) => {
    const received = await rejection(open(name, damaged));
    expect(received).toMatch(message);
    expect(received).toContain(`"${name}"`);
  });

  test('a link to the group itself is not followed', async () => {
    expect((await open(name, patched(bytes, node + 16, ...u64(96)))).paths()).toEqual([]);
  });

  test('a tree of names in two groups', async () => {
    const links = hdf5Bytes('links.h5');
    const trees = [...Buffer.from(links).toString('latin1').matchAll(/TREE/g)].map(({index}) => index);
    const entry = (tree: number) => Buffer.from(links).indexOf(Buffer.from(u64(tree)));
    const [first, second] = [entry(trees[0]!), entry(trees[1]!)];
    expect(await rejection(open('links.h5', patched(links, second, ...links.subarray(first, first + 8))))).toMatch(
      /damaged HDF5 file: expected .*linked once|names|signature/,
    );
  });

  test('a writer that never closed the file', async () => {
    expect(await rejection(open('latest.h5', patched(hdf5Bytes('latest.h5'), 11, 1)))).toMatch(/open for writing/);
  });

  test('structures of an absurd size, even if the file is long enough', async () => {
    const length = 2 ** 40;
    const huge: ByteSource = {
      name: 'huge.h5',
      size: length,
      async readInto(offset, target) {
        if (target.length > 2 ** 24) throw new Error('Too much at once.');
        const file = patched(patched(bytes, 40, ...u64(length)), heap + 8, ...u64(2 ** 30));
        target.set(file.subarray(offset, offset + target.length));
      },
      async close() {},
    };
    expect(await rejection(Hdf5File.open(huge))).toMatch(
      /local heap segment.*at most 16777216 bytes\. Received: 1073741824/,
    );
  });

  test('a continuation block that points to itself', async () => {
    const types = hdf5Bytes('types.h5');
    const data = new DataView(types.buffer);
    // A continuation message: type 16, length 16, flags and reserved bytes zero, then address and length.
    let changed = 0;
    for (let at = 0; at + 24 <= types.length; at += 8) {
      if (data.getUint32(at, true) !== 0x00100010 || data.getUint32(at + 4, true) !== 0) continue;
      const target = Number(data.getBigUint64(at + 8, true));
      if (target === 0 || target + 24 > types.length) continue;
      types.set(types.slice(at, at + 24), target);
      changed++;
    }
    expect(changed).toBeGreaterThan(0);
    expect(await rejection(open('types.h5', types))).toMatch(
      /blocks that follow each other.*Received: a loop of blocks/,
    );
  });

  test('a dataset beyond the end', async () => {
    const latest = hdf5Bytes('latest.h5');
    // The layout message of a contiguous dataset: type 8, length 18, flags, then version 3 or 4, class 1, address.
    const at = [3, 4]
      .map(version => [0x08, 0x12, 0x00, 0x00, version, 0x01])
      .map(bytes => String.fromCharCode(...bytes));
    const place = at.map(pattern => Buffer.from(latest).indexOf(pattern, 0, 'latin1')).filter(i => i >= 0)[0] ?? -1;
    expect(place).toBeGreaterThan(0);
    const message = await rejection(open('latest.h5', patched(latest, place + 6, ...u64(latest.length - 1))));
    expect(message).toMatch(
      /the dataset "[a-z0-9/]+" to lie inside the file\. Received: \d+ bytes at byte \d+ in a file of/,
    );
    const wrongSize = await rejection(open('latest.h5', patched(latest, place + 14, ...u64(1))));
    expect(wrongSize).toMatch(/expected \d+ bytes for the dataset ".*Received: 1 bytes/);
  });
});

describe('any damage to the bytes', () => {
  const names = [
    'keras_bfloat16.weights.h5',
    'types.h5',
    'latest.h5',
    'unreadable.h5',
    'unreadable_latest.h5',
    'deep.h5',
    'chunked.h5',
    'chunked_latest.h5',
    'links.h5',
  ];
  const files = new Map(names.map(name => [name, hdf5Bytes(name)]));

  /** Opens a file and checks that the result is one of our errors, or datasets that can be read completely. */
  async function check(name: string, bytes: Uint8Array): Promise<void> {
    const limit = 4 * 2 ** 20;
    let read = 0;
    const memory = new MemorySource('mutated.h5', bytes);
    const source: ByteSource = {
      name: memory.name,
      size: memory.size,
      readInto: (offset, target) => {
        read += target.length;
        if (read > limit) throw new RangeError(`Read ${read} bytes of a file of ${bytes.length}.`);
        return memory.readInto(offset, target);
      },
      close: () => memory.close(),
    };
    const start = performance.now();
    let file: Hdf5File | undefined;
    try {
      file = await Hdf5File.open(source);
    } catch (error) {
      expect((error as Error).message).toMatch(/"mutated\.h5".*expected .*Received: /s);
    }
    expect(performance.now() - start).toBeLessThan(5000);
    if (!file) return;
    read = -Infinity;
    for (const path of file.paths()) {
      try {
        const dataset = file.dataset(path);
        if (!dataset) throw new TypeError('A listed dataset is missing.');
        const product = dataset.shape.reduce((a, b) => a * b, dataset.itemSize);
        expect(dataset.byteLength).toBe(product);
        // Chunks may be compressed, or missing: the size follows from the shape alone.
        if (dataset.byteLength > limit && /chunked|many_chunks/.test(name)) continue;
        if (!/chunk/.test(name)) expect(dataset.byteLength).toBeLessThanOrEqual(bytes.length);
        await dataset.readInto(0, new Uint8Array(dataset.byteLength));
      } catch (error) {
        expect((error as Error).message).toMatch(
          /^The dataset ".*" of "mutated\.h5" cannot be read: expected |^"mutated\.h5" is .* expected .*Received: /s,
        );
      }
    }
  }

  const file = fc.constantFrom(...names);
  /** Arbitrary bytes, and often bytes that are likely to do harm. */
  const value = fc.oneof(fc.constantFrom(0, 1, 2, 3, 8, 16, 127, 128, 255), fc.integer({min: 0, max: 255}));
  const place = fc.double({min: 0, max: 1, maxExcluded: true, noNaN: true});

  test('single bytes', async () => {
    const changes = fc.array(fc.tuple(place, value), {minLength: 1, maxLength: 8});
    await fc.assert(
      fc.asyncProperty(file, changes, async (name, list) => {
        const bytes = (files.get(name) as Uint8Array).slice();
        for (const [at, byte] of list) bytes[Math.floor(at * bytes.length)] = byte;
        await check(name, bytes);
      }),
      {numRuns: 400},
    );
  });

  test('whole fields, often addresses that point elsewhere in the file', async () => {
    const field = fc.oneof(
      fc.double({min: 0, max: 1, noNaN: true}),
      fc.constantFrom(2 ** 32, 2 ** 52, 2 ** 60, Infinity),
    );
    const changes = fc.array(fc.tuple(place, field), {minLength: 1, maxLength: 4});
    await fc.assert(
      fc.asyncProperty(file, changes, async (name, list) => {
        const bytes = (files.get(name) as Uint8Array).slice();
        for (const [at, target] of list) {
          const offset = Math.floor((at * (bytes.length - 8)) / 8) * 8;
          const content =
            target === Infinity ? UNDEFINED : u64(target <= 1 ? Math.floor((target * bytes.length) / 8) * 8 : target);
          bytes.set(content, offset);
        }
        await check(name, bytes);
      }),
      {numRuns: 400},
    );
  });

  test('structures copied over others', async () => {
    await fc.assert(
      fc.asyncProperty(file, place, place, fc.integer({min: 1, max: 600}), async (name, from, to, length) => {
        const bytes = (files.get(name) as Uint8Array).slice();
        const source = Math.floor((from * bytes.length) / 8) * 8;
        bytes.copyWithin(Math.floor((to * bytes.length) / 8) * 8, source, source + length);
        await check(name, bytes);
      }),
      {numRuns: 300},
    );
  });

  test('a truncated file whose length in the superblock was corrected', async () => {
    await fc.assert(
      fc.asyncProperty(file, place, async (name, cut) => {
        const original = files.get(name) as Uint8Array;
        const bytes = original.slice(0, Math.max(100, Math.floor(cut * original.length)));
        bytes.set(u64(bytes.length), (original[8] ?? 0) >= 2 ? 28 : 40);
        await check(name, bytes);
      }),
      {numRuns: 200},
    );
  });

  test('noise after the signature', async () => {
    const start = hdf5Bytes('types.h5').subarray(0, 9);
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({maxLength: 400}), noise =>
        check('types.h5', Uint8Array.from([...start, ...noise])),
      ),
      {numRuns: 200},
    );
  });
});
