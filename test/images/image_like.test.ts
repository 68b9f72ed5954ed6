/** Values that are accepted as an image, and values that are refused. */
import {once} from 'node:events';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {type AddressInfo} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {pathToFileURL} from 'node:url';
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/base/errors';
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
    ['a file address', pathToFileURL(PNG).href],
    ['a URL', pathToFileURL(PNG)],
    ['a data address', `data:image/png;base64,${readFileSync(PNG).toString('base64')}`],
    ['a blob address', URL.createObjectURL(new Blob([bytes]))],
  ])('%s', async (_, image) => {
    const {height, width, channels, values} = await readPixels(image);
    expect([height, width, channels]).toEqual([64, 64, 3]);
    // The background, and the middle of the circle.
    expect(Array.from(values.subarray(0, 3))).toEqual([110, 110, 110]);
    expect(Array.from(values.subarray((30 * 64 + 40) * 3, (30 * 64 + 40) * 3 + 3))).toEqual([255, 4, 0]);
  });

  test('an http address', async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.url === '/red.png' ? 200 : 404;
      response.end(request.url === '/red.png' ? bytes : '<html>');
    }).listen(0);
    await once(server, 'listening');
    const root = `http://localhost:${(server.address() as AddressInfo).port}`;
    const expected = await readPixels(PNG);
    expect(await readPixels(`${root}/red.png`)).toEqual(expected);
    expect(await readPixels(new URL('red.png', root))).toEqual(expected);
    const refusal = (image: string) => readPixels(image).catch((error: Error) => error);
    expect(await refusal(`${root}/x.png`)).toEqual(
      new ValueError(`Expected an image at "${root}/x.png". Received: HTTP 404. Check the address.`),
    );
    server.close();
    await once(server, 'close');
    expect(String(await refusal(`${root}/red.png`))).toMatch(
      /^ValueError: Expected an image at ".*Check that the server/,
    );
    const long = `data:image/png;base64,${'?'.repeat(10_000)}`;
    expect(String(await refusal(long))).toMatch(/^ValueError: Expected an image at "data:image.{40,80}…". Received: /);
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

test('numbers are read as those of a tensor', async () => {
  const rows = [
    [
      [0, 1, 2],
      [3, 4, 5.5],
    ],
  ];
  const tensor = tf.tensor3d(rows);
  const expected = await readPixels(tensor);
  expect(await readPixels(rows)).toEqual(expected);
  expect(await readPixels({data: rows.flat(2), shape: [1, 2, 3]})).toEqual(expected);
  expect(await readPixels([[Float32Array.of(0, 1, 2), Float32Array.of(3, 4, 5.5)]])).toEqual(expected);
  // Bytes stay whole numbers when they are resized, as int32 tensors do.
  const bytes = await readPixels({data: Uint8ClampedArray.of(0, 1, 2, 3, 4, 5), shape: [1, 2, 3]});
  expect(bytes).toEqual({height: 1, width: 2, channels: 3, values: Int32Array.of(0, 1, 2, 3, 4, 5)});
  tensor.dispose();
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
    [[['a.png']], /Received: an array of length 1\.$/],
    [[[1, 2, 3]], /Received: an array with 2 axes\.$/],
    [{data: new Uint8Array(6), shape: [1, 1, 2, 3]}, /Received: an array with 4 axes\.$/],
    [
      [
        [
          [1, 2, 3],
          [1, 2],
        ],
      ],
      /Received: images\[0\]\[0\] of length 3, but images\[0\]\[1\] of length 2\./,
    ],
    [
      [
        [
          [1, NaN, 3],
          [1, '2', 3],
        ],
      ],
      /Received: "2" at images\[0\]\[1\]\[1\]\./,
    ],
    [{data: new Uint8Array(5), shape: [1, 2, 3]}, /Received: 5 elements and the shape \[1,2,3\]\./],
    [{data: new Uint8Array(0), shape: [0, 2, 3]}, /Received: shape \[0, 2, 3\]\.$/],
    [new Map(), /Received: Map\.$/],
    [new Uint8Array(0), /Expected bytes to be a PNG or JPEG image, or WebP, GIF or AVIF. Received: no bytes/],
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
