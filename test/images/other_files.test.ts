/** WebP, GIF and AVIF files in Node: their kind and size, and what happens with and without the package sharp. */
import {ValueError} from '../../src/base/errors';
import {readPixels} from '../../src/images/image_like';
import {otherFile} from '../../src/images/other_files';
import {fixtureJson} from '../support/fixtures';

const files = fixtureJson<Record<string, {file: string; width: number; height: number}>>('images/other.json');
const bytesOf = (name: string) => new Uint8Array(Buffer.from(files[name]!.file, 'base64'));

const mockCalls: unknown[] = [];
let mockSharp: () => unknown = () => undefined;
// Whether or not sharp is installed.
jest.mock('sharp', () => ({__esModule: true, default: (...args: unknown[]) => mockLoaded(...args)}), {virtual: true});

/** An image that notes what is asked of it. */
function mockLoaded(...args: unknown[]): unknown {
  mockCalls.push(args.slice(1));
  const image: Record<string, unknown> = {};
  for (const name of ['rotate', 'toColourspace', 'ensureAlpha', 'raw']) {
    image[name] = (...given: unknown[]) => {
      mockCalls.push([name, ...given]);
      return image;
    };
  }
  image.toBuffer = async () => mockSharp();
  return image;
}

beforeEach(() => (mockCalls.length = 0));

test.each(Object.keys(files))('%s has its kind and its size', name => {
  const {width, height} = files[name]!;
  const [, ending] = name.split('.');
  const found = otherFile(bytesOf(name))!;
  expect([found.format.toLowerCase(), found.type]).toEqual([ending, `image/${ending}`]);
  const stored = name.startsWith('turned') ? [height, width] : [width, height];
  expect([found.width, found.height]).toEqual(stored);
});

test('other files have none, and cut ones no size', () => {
  for (const text of ['', 'GIF88a', 'RIFF1234WAVE', '\0\0\0\x18ftypheic\0\0\0\0mif1heic']) {
    expect(otherFile(new Uint8Array(Buffer.from(text, 'latin1')))).toBeUndefined();
  }
  for (const [name, length] of [
    ['plain.gif', 8],
    ['lossy.webp', 20],
    ['plain.avif', 40],
  ] as const) {
    expect(otherFile(bytesOf(name).subarray(0, length))).toMatchObject({width: 0, height: 0});
  }
});

test('sharp decodes them: turned, without a profile, alpha dropped', async () => {
  mockSharp = () => ({data: Uint8Array.of(1, 2, 3, 9, 4, 5, 6, 0), info: {width: 2, height: 1, channels: 4}});
  const expected = {height: 1, width: 2, channels: 3, values: Uint8Array.of(1, 2, 3, 4, 5, 6)};
  expect(await readPixels(bytesOf('lossy.webp'))).toEqual(expected);
  const settings = {ignoreIcc: true, limitInputPixels: false, failOn: 'error'};
  const rest = [['toColourspace', 'srgb'], ['ensureAlpha'], ['raw', {depth: 'uchar'}]];
  expect(mockCalls).toEqual([[settings], ['rotate'], ...rest]);
  mockCalls.length = 0;
  expect(await readPixels(bytesOf('lossy.webp'), 'none')).toEqual(expected);
  expect(mockCalls).toEqual([[settings], ...rest]);
  // The decoder of AVIF turns.
  mockCalls.length = 0;
  await readPixels(bytesOf('plain.avif'));
  expect(mockCalls).toEqual([[settings], ...rest]);
  await expect(readPixels(bytesOf('plain.avif'), 'none')).rejects.toThrow('expected imageOrientation "from-image"');
});

test('what sharp refuses is a ValueError', async () => {
  mockSharp = () => {
    throw new Error('Input buffer has corrupt header');
  };
  const reading = () => readPixels(bytesOf('plain.gif'));
  await expect(reading()).rejects.toThrow(ValueError);
  await expect(reading()).rejects.toThrow(
    'Cannot read bytes. Expected a GIF file that sharp decodes. Received: Input buffer has corrupt header. Fetch the',
  );
});

test('a file that claims too many pixels is not decoded', async () => {
  for (const [name, at, value] of [
    ['plain.gif', 6, [255, 255, 255, 255]],
    ['lossless.webp', 21, [255, 255, 255, 15]],
  ] as const) {
    const bytes = bytesOf(name);
    bytes.set(value, at);
    await expect(readPixels(bytes)).rejects.toThrow(/Expected an image of at most 178956970 pixels. Received: \d+ x/);
  }
  expect(mockCalls).toEqual([]);
});

test('without sharp the error names it', async () => {
  jest.resetModules();
  jest.doMock('sharp', () => {
    throw Object.assign(new Error('Cannot find module'), {code: 'MODULE_NOT_FOUND'});
  });
  const {decodeOtherFile} = await import('../../src/platform/node/images');
  await expect(decodeOtherFile(bytesOf('lossy.webp'), {format: 'WebP', type: 'image/webp'}, true)).rejects.toThrow(
    'Expected the package "sharp", which decodes WebP files in Node. Received: none is installed. ' +
      'Run `npm install sharp`, or convert the file to PNG or JPEG.',
  );
});
