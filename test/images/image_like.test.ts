/** Values that are accepted as an image, and values that are refused. */
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {type ImageLike, readPixels, tensorReaders} from '../../src/images/image_like';
import {tinyPicture} from '../support/fixtures';

const PNG = tinyPicture('red_circle');

describe('accepted, all giving the same picture', () => {
  const bytes = new Uint8Array(readFileSync(PNG));
  test.each<[string, ImageLike]>([
    ['bytes', bytes],
    ['a Buffer', readFileSync(PNG)],
    ['bytes within others', new Uint8Array([0, ...bytes, 0]).subarray(1, -1)],
    ['an ArrayBuffer', bytes.buffer],
    ['a Blob', new Blob([bytes])],
    ['a path', PNG],
  ])('%s', async (_, image) => {
    const {height, width, channels, values} = await readPixels(image);
    expect([height, width, channels]).toEqual([64, 64, 3]);
    // The background, and the middle of the circle.
    expect(Array.from(values.subarray(0, 3))).toEqual([110, 110, 110]);
    expect(Array.from(values.subarray((30 * 64 + 40) * 3, (30 * 64 + 40) * 3 + 3))).toEqual([255, 4, 0]);
  });

  test('ImageData, without alpha', async () => {
    const image = {width: 2, height: 1, data: new Uint8ClampedArray([1, 2, 3, 0, 5, 6, 7, 128])} as ImageData;
    expect(await readPixels(image)).toEqual({
      width: 2,
      height: 1,
      channels: 3,
      values: new Uint8Array([1, 2, 3, 5, 6, 7]),
    });
  });

  test('tensors, with unchanged numbers', async () => {
    const floats = tf.tensor3d([0.5, 255, -1], [1, 1, 3]);
    expect(await readPixels(floats)).toEqual({
      height: 1,
      width: 1,
      channels: 3,
      values: new Float32Array([0.5, 255, -1]),
    });
    const several = tf.tensor4d([1, 2, 3, 4, 5, 6], [2, 1, 1, 3], 'int32');
    const [, second] = await Promise.all(tensorReaders(several).map(read => read()));
    expect(second!.values).toEqual(new Int32Array([4, 5, 6]));
    tf.dispose([floats, several]);
  });
});

describe('refused', () => {
  let folder: string;
  beforeAll(() => (folder = mkdtempSync(join(tmpdir(), 'gemma3-images-'))));
  afterAll(() => rmSync(folder, {recursive: true}));

  test.each<[unknown, RegExp]>([
    [3, /^Expected an image: a tensor .* Received: 3\.$/],
    [null, /Received: null\.$/],
    [{}, /Received: \{\}\.$/],
    [{width: 1, height: 2}, /Received: \{"width":1,"height":2\}\.$/],
    [[[[1, 2, 3]]], /Received: an array of length 1\.$/],
    [new Map(), /Received: Map\.$/],
    [new Uint8Array(0), /Expected bytes to be a PNG or JPEG image. Received: no bytes/],
    [new Uint8Array([71, 73, 70, 56]), /Received: bytes that start with 47 49 46 38. Convert it/],
    [{width: 0, height: 0, data: new Uint8ClampedArray(0)}, /Received: 0 x 0 pixels/],
    ['no/such/file.png', /Expected an image file at "no\/such\/file.png". Received: no such file. Check the path.$/],
    ['/', /Received: a folder/],
  ])('%p', async (image, message) => {
    await expect(readPixels(image as ImageLike)).rejects.toThrow(message);
  });

  test('names files that are not images', async () => {
    const path = join(folder, 'text.png');
    writeFileSync(path, 'not a picture');
    await expect(readPixels(path)).rejects.toThrow(/Expected ".*text.png" to be a PNG or JPEG image/);
  });

  test('tensors of other ranks and dtypes', async () => {
    const tensors = [tf.zeros([2, 3]), tf.zeros([1, 2, 2, 3]), tf.zeros([2, 0, 3]), tf.zeros([2, 2, 3], 'bool')];
    const messages = [/shape \[2, 3\]/, /shape \[1, 2, 2, 3\]/, /float32 of shape \[2, 0, 3\]/, /bool of shape/];
    for (const [i, tensor] of tensors.entries()) {
      await expect(readPixels(tensor as tf.Tensor3D)).rejects.toThrow(messages[i]);
    }
    tf.dispose(tensors);
  });
});
