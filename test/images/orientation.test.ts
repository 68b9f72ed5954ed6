/**
 * Files with EXIF metadata: rotated as Chromium and Pillow rotate them (test/reference/make_orientation_fixtures.py),
 * or read as they are stored.
 */
import {createHash} from 'node:crypto';
import fc from 'fast-check';
import {Gemma3ImageConverter} from '../../src';
import {readPixels} from '../../src/images/image_like';
import {exifOrientation} from '../../src/images/orientation';
import {type Pixels} from '../../src/images/pixels';
import {fixtureJson} from '../support/fixtures';
import {take} from '../support/numbers';

interface File {
  name: string;
  file: string;
  orientation: number;
  shape: number[];
  upright: string;
  stored: string;
}
const files = fixtureJson<File[]>('images/orientation.json');
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));
const sha256 = (values: Pixels['values']) => createHash('sha256').update(values).digest('hex');

test.each(files)('$name: turned as browsers turn it', async ({file, shape, upright}) => {
  const {height, width, channels, values} = await readPixels(bytesOf(file));
  expect([height, width, channels]).toEqual(shape);
  expect(sha256(values)).toBe(upright);
});

test.each(files)('$name: as stored with "none"', async ({file, orientation, shape, stored}) => {
  const {height, width, channels, values} = await readPixels(bytesOf(file), 'none');
  expect([height, width, channels]).toEqual(orientation >= 5 ? [shape[1], shape[0], 3] : shape);
  expect(sha256(values)).toBe(stored);
});

test.each(fixtureJson<Omit<File, 'orientation' | 'upright'>[]>('images/profiles.json'))(
  '$name: the numbers of the file, as in TensorFlow and Pillow',
  async ({file, shape, stored}) => {
    const {height, width, channels, values} = await readPixels(bytesOf(file));
    expect([height, width, channels]).toEqual(shape);
    expect(sha256(values)).toBe(stored);
  },
);

test('any bytes as metadata: an orientation, never an error', () => {
  const starts = fc
    .constantFrom('', 'II*\0', 'MM\0*', 'II*\0\x08\0\0\0', 'MM\0*\0\0\0\x08')
    .map(text => Buffer.from(text));
  fc.assert(
    fc.property(starts, fc.uint8Array({maxLength: 60}), (start, rest) => {
      const {buffer, byteOffset, byteLength} = Buffer.concat([start, rest]);
      const orientation = exifOrientation(new DataView(buffer, byteOffset, byteLength));
      expect([1, 2, 3, 4, 5, 6, 7, 8]).toContain(orientation);
    }),
    {numRuns: 2000},
  );
});

describe('of the image converter', () => {
  const {file} = files.find(({name}) => name === 'JPEG, 6, 4:2:0')!;
  const bytes = bytesOf(file);
  const plain = {imageSize: [6, 10], cropToAspectRatio: false} as const;

  test.each([
    ['stretching', {}],
    ['cropping', {cropToAspectRatio: true}],
    ['padding', {padToAspectRatio: true}],
  ])('an image is turned before %s', async (_, args) => {
    const {height, width, values} = await readPixels(bytes);
    const data = new Uint8ClampedArray(height * width * 4);
    values.forEach((value, i) => (data[Math.floor(i / 3) * 4 + (i % 3)] = value));
    const converter = new Gemma3ImageConverter({...plain, ...args});
    const upright = await take(await converter.call({height, width, data} as ImageData));
    for (const image of [bytes, new Blob([bytes])]) expect(await take(await converter.call(image))).toEqual(upright);
    const stored = new Gemma3ImageConverter({...plain, ...args, imageOrientation: 'none'});
    expect(await take(await stored.call(bytes))).not.toEqual(upright);
  });
});
