/** Kinds of images that are accepted, and how their pixels are read. */
import * as tf from '@tensorflow/tfjs';
import {drawnPixels, readImageFile} from '#platform/images';
import {describeValue, show, ValueError} from '../base/errors';
import {decodeJpeg, isJpeg} from './jpeg';
import {type Pixels, withoutAlpha} from './pixels';
import {decodePng, isPng} from './png';

/**
 * An image: a tensor (height, width, channels) of numbers 0 to 255; `ImageData`; the bytes of a PNG or JPEG file; in
 * Node the path of one; in a browser an image element that has loaded, a canvas or an `ImageBitmap`.
 *
 * Alpha is dropped. Files are not rotated by their EXIF orientation; elements are oriented as the browser draws them.
 */
export type ImageLike =
  | tf.Tensor3D
  | ImageData
  | Uint8Array
  | ArrayBuffer
  | Blob
  | string
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap;

const EXPECTED =
  'Expected an image: a tensor (height, width, channels), ImageData, the bytes of a PNG or JPEG file, its path in ' +
  'Node, or a loaded image element, a canvas or an ImageBitmap in a browser.';

const isImageData = (value: object): value is ImageData => {
  const {data, width, height} = value as Partial<Omit<ImageData, 'data'>> & {data?: unknown};
  const bytes = data instanceof Uint8ClampedArray || data instanceof Uint8Array;
  return bytes && data.length === 4 * Number(width) * Number(height);
};

/** Includes Node's Buffer. Arrays of another realm fail `instanceof`, but have the same tag. */
const isBytes = (value: object): value is Uint8Array<ArrayBuffer> =>
  value instanceof Uint8Array || /^\[object (ArrayBuffer|Uint8Array)\]$/.test(Object.prototype.toString.call(value));

/**
 * The pixels of an image. Do not write to them: they may be the values of a tensor.
 *
 * @throws ValueError for anything else, for files that do not exist or cannot be read, and for images without pixels.
 */
export async function readPixels(image: ImageLike): Promise<Pixels> {
  if (image instanceof tf.Tensor) {
    if ((image as tf.Tensor).rank === 3) return tensorReaders(image)[0]!();
    throw new ValueError(`${EXPECTED} Received: a tensor of shape [${(image as tf.Tensor).shape.join(', ')}].`);
  }
  if (typeof image === 'string') return decode(await readImageFile(image), `"${image}"`);
  if (typeof image !== 'object' || image === null) throw new ValueError(`${EXPECTED} Received: ${show(image)}.`);
  if (isBytes(image)) return decode(new Uint8Array(image), 'bytes');
  if (image instanceof Blob) return decode(new Uint8Array(await image.arrayBuffer()), 'a Blob');
  const data = isImageData(image) ? image : drawnPixels(image);
  if (!data) {
    const received = Array.isArray(image) ? `an array of length ${image.length}` : describeValue(image);
    throw new ValueError(`${EXPECTED} Received: ${received}.`);
  }
  if (data.width === 0 || data.height === 0) {
    throw new ValueError(`Expected an image with pixels. Received: ${data.width} x ${data.height} pixels.`);
  }
  return withoutAlpha(data);
}

/**
 * One reader per image of a tensor (height, width, channels) or (images, height, width, channels). The values are
 * fetched only once.
 *
 * @throws ValueError unless the tensor has pixels and is float32 or int32.
 */
export function tensorReaders(tensor: tf.Tensor): (() => Promise<Pixels>)[] {
  const {dtype, rank, shape} = tensor;
  const [height, width, channels] = shape.slice(-3) as [number, number, number];
  if (rank < 3 || height * width * channels === 0 || (dtype !== 'float32' && dtype !== 'int32')) {
    throw new ValueError(
      'Expected pixels as a float32 or int32 tensor (height, width, channels) with numbers from 0 to 255. ' +
        `Received: ${dtype} of shape [${shape.join(', ')}].`,
    );
  }
  let data: Promise<Pixels['values']> | undefined;
  const size = height * width * channels;
  return Array.from({length: tensor.size / size}, (_, i) => async () => {
    data ??= tensor.data() as Promise<Pixels['values']>;
    return {height, width, channels, values: (await data).subarray(i * size, (i + 1) * size)};
  });
}

async function decode(bytes: Uint8Array, name: string): Promise<Pixels> {
  try {
    if (isPng(bytes)) return await decodePng(bytes);
    if (isJpeg(bytes)) return decodeJpeg(bytes);
  } catch (error) {
    throw new ValueError(`Cannot read ${name}. ${(error as Error).message}`);
  }
  const start = Array.from(bytes.subarray(0, 8), byte => byte.toString(16).padStart(2, '0')).join(' ');
  throw new ValueError(
    `Expected ${name} to be a PNG or JPEG image. Received: ${start ? `bytes that start with ${start}` : 'no bytes'}. ` +
      'Convert it to one of these formats.',
  );
}
