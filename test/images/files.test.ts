/** Decoding image files: pixels against TensorFlow's (test/reference/make_image_fixtures.py), and damaged files. */
import fc from 'fast-check';
import {ValueError} from '../../src';
import {readPixels} from '../../src/images/image_like';
import {decodeJpeg} from '../../src/images/jpeg';
import {crc32, decodePng, isPng} from '../../src/images/png';
import {fixtureJson} from '../support/fixtures';

interface File {
  name: string;
  file: string;
  shape: number[];
  pixels: string;
}
const files = fixtureJson<File[]>('images/files.json');
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));

test.each(files)('$name: has the pixels of TensorFlow', async ({file, shape, pixels}) => {
  const {height, width, channels, values} = await readPixels(bytesOf(file));
  expect([height, width, channels]).toEqual(shape);
  expect(Buffer.from(values).equals(Buffer.from(pixels, 'base64'))).toBe(true);
});

/** Corrects the checksums of a PNG file, so that damage must be detected in other ways. */
function seal(bytes: Uint8Array): Uint8Array {
  const view = new DataView(bytes.buffer);
  for (let at = 8; isPng(bytes) && at + 12 <= bytes.length;) {
    const end = at + 8 + view.getUint32(at);
    if (end + 4 <= bytes.length) view.setUint32(end, crc32(bytes.subarray(at + 4, end)));
    at = end + 4;
  }
  return bytes;
}

describe('a damaged file', () => {
  // Small files of every kind: with a palette, interlaced, with all sorts of restarts.
  const some = files.filter(({shape}) => shape[0]! * shape[1]! < 1000);
  const attempt = async (bytes: Uint8Array) => {
    try {
      const {height, width, values} = await readPixels(bytes);
      expect(values.length).toBe(height * width * 3);
    } catch (error) {
      expect(error).toBeInstanceOf(ValueError);
    }
  };

  test('gives pixels or a ValueError, wherever a byte is wrong', async () => {
    const cases = fc.record({
      file: fc.constantFrom(...some),
      at: fc.double({min: 0, max: 1, noNaN: true}),
      byte: fc.nat(255),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({file, at, byte}) => {
        const bytes = bytesOf(file.file);
        bytes[Math.floor(at * (bytes.length - 1))] = byte;
        // Large sizes are valid, but slow.
        const isLarge = new DataView(bytes.buffer).getUint32(16) > 4096;
        if (!isLarge) await attempt(bytes);
        if (!isLarge) await attempt(seal(bytes));
      }),
      {numRuns: 400},
    );
  });

  test.each(files)('$name: refused when it ends too early', async ({file}) => {
    const bytes = bytesOf(file);
    for (const part of [0.2, 0.5, 0.9]) {
      const short = bytes.subarray(0, Math.floor(bytes.length * part));
      await expect(readPixels(short)).rejects.toThrow(
        /^Cannot read bytes. Expected a whole (PNG|JPEG) image. Received: /,
      );
    }
  });

  test('is refused for impossible claims in its header, before memory is allocated', async () => {
    const bytes = bytesOf(files[0]!.file);
    new DataView(bytes.buffer).setUint32(16, 2 ** 23);
    await expect(decodePng(bytes)).rejects.toThrow(/a file with a wrong checksum/);
    await expect(decodePng(seal(bytes))).rejects.toThrow(/fewer pixels than its header says/);
    new DataView(bytes.buffer).setUint32(16, 0);
    await expect(decodePng(seal(bytes))).rejects.toThrow(/Received: 0 x 11 pixels/);
    expect(() => decodeJpeg(new Uint8Array([0xff, 0xd8, 0xff, 0xd9]))).toThrow(/a file without pixels/);
    const arithmetic = new Uint8Array([0xff, 0xd8, 0xff, 0xc9, 0, 2]);
    expect(() => decodeJpeg(arithmetic)).toThrow(/uncommon kind, 0xc9. Save it as an ordinary JPEG or as PNG/);
  });
});

describe('a file of too many pixels', () => {
  const message = (size: string) =>
    `Cannot read bytes. Expected an image of at most 178956970 pixels. Received: ${size} pixels. Make the image smaller.`;

  /** Sets the size in the header of a file, and how much memory is allocated while it is refused. */
  async function refusal(file: Uint8Array, at: number, size: readonly [number, number], bytes: 2 | 4): Promise<string> {
    const view = new DataView(file.buffer);
    const set = (position: number, value: number) =>
      bytes === 4 ? view.setUint32(position, value) : view.setUint16(position, value);
    set(at, size[0]);
    set(at + bytes, size[1]);
    const before = process.memoryUsage().arrayBuffers;
    const error = await readPixels(seal(file)).catch((error: unknown) => error);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 20);
    expect(error).toBeInstanceOf(ValueError);
    return (error as Error).message;
  }

  test.each([
    [20_000, 20_000],
    [178_956_971, 1],
    [2, 89_478_486],
    [2 ** 31 - 1, 2 ** 31 - 1],
  ])('PNG, %d x %d: refused before memory is allocated, as by Pillow', async (width, height) => {
    const file = bytesOf(files.find(({name}) => name.startsWith('PNG'))!.file);
    expect(await refusal(file, 16, [width, height], 4)).toBe(message(`${width} x ${height}`));
  });

  test('PNG within the limit, but larger than its compressed data can be: refused before memory is allocated', async () => {
    const file = bytesOf(files.find(({name}) => name.startsWith('PNG'))!.file);
    expect(await refusal(file, 16, [178_956_970, 1], 4)).toMatch(/fewer pixels than its header says/);
  });

  test.each(['JPEG, 4:2:0', 'JPEG, progressive', 'JPEG, CMYK'])('%s: refused', async name => {
    const file = bytesOf(files.find(one => one.name === name)!.file);
    const frame = file.findIndex((byte, i) => byte === 0xff && [0xc0, 0xc2].includes(file[i + 1]!));
    expect(await refusal(file, frame + 5, [13_378, 13_378], 2)).toBe(message('13378 x 13378'));
    expect(await refusal(file, frame + 5, [65_535, 65_535], 2)).toBe(message('65535 x 65535'));
  });
});

test('JPEG of very many scans: refused, because each can cover the whole image', async () => {
  const file = bytesOf(files.find(({name}) => name === 'JPEG of one pixel')!.file);
  const start = file.findIndex((byte, i) => byte === 0xff && file[i + 1] === 0xda);
  const scan = file.subarray(start, -2);
  const repeated = (times: number) =>
    Buffer.concat([file.subarray(0, start), ...Array.from({length: times}, () => scan), file.subarray(-2)]);
  await expect(readPixels(repeated(501))).rejects.toThrow(
    'Received: a file with more than 500 scans. Save it as an ordinary JPEG or as PNG.',
  );
  expect((await readPixels(repeated(500))).values).toEqual((await readPixels(file)).values);
});
