/**
 * Damaged and rare image files that TensorFlow and Pillow both read, or both refuse: the same pixels, or a ValueError
 * (test/reference/make_damaged_image_fixtures.py).
 */
import {createHash} from 'node:crypto';
import {ValueError} from '../../src';
import {readPixels} from '../../src/images/image_like';
import {fixtureJson} from '../support/fixtures';

interface File {
  name: string;
  file: string;
  sha256: string | null;
}
const files = fixtureJson<File[]>('images/damaged.json');
const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'base64'));

test.each(files.filter(({sha256}) => sha256))('$name: has the same pixels', async ({file, sha256}) => {
  const {values} = await readPixels(bytesOf(file));
  expect(createHash('sha256').update(values).digest('hex')).toBe(sha256);
});

test.each(files.filter(({sha256}) => !sha256))('$name: refused', async ({file}) => {
  const error = await readPixels(bytesOf(file)).catch((error: unknown) => error);
  expect(error).toBeInstanceOf(ValueError);
  expect((error as Error).message).toMatch(/^Cannot read bytes. Expected a whole (PNG|JPEG) image. Received: a? ?/);
});
