/** Reads the pixels of everything that counts as an image. Loaded on demand: see `image_like.ts`. */
import * as tf from '@tensorflow/tfjs';
import {decodeOtherFile, drawable, readImageFile} from '#platform/images';
import {describeValue, show, ValueError} from '../base/errors';
import {arrayRank, isShapedArray, type NestedArray, readNumbers, type ShapedArray} from '../base/nested_array';
import {decodeJpeg, isJpeg} from './jpeg';
import {fetchImage, type ImageRequest, imageRequest, isAddress, isRequest, shownAddress} from './image_address';
import {type ImageOrientation} from './choices';
import {otherFile} from './other_files';
import {checkImageSize, type Pixels, withoutAlpha} from './pixels';
import {decodePng, isPng} from './png';
import {tensorReaders} from './tensor_readers';

/**
 * An image: a tensor (height, width, channels) of numbers 0 to 255, or the same as nested arrays or as `{data, shape}`;
 * `ImageData`; the bytes of an image file, or the address of one (http, https, data, blob), also with headers (`{url,
 * headers}`); in Node the path or `file:` address of one; in a browser an image element that has loaded, a canvas or an
 * `ImageBitmap`.
 *
 * Files are PNG or JPEG, the same on every platform. Browsers also decode WebP, GIF and AVIF; in Node the package "sharp"
 * does, if it is installed. Files are rotated as their EXIF metadata says, as browsers rotate image elements. Alpha is
 * dropped.
 */
export type ImageLike =
  | tf.Tensor3D
  | readonly NestedArray[]
  | ShapedArray
  | ImageData
  | Uint8Array
  | ArrayBuffer
  | Blob
  | string
  | URL
  | ImageRequest
  | HTMLImageElement
  | HTMLCanvasElement
  | OffscreenCanvas
  | ImageBitmap;

/** Reads an image when it is needed. */
export type ImageReader = (imageOrientation: ImageOrientation) => Promise<Pixels>;

const EXPECTED =
  'Expected an image: a tensor or array of numbers (height, width, channels), ImageData, the bytes of an image file, ' +
  'its address, its path in Node, or a loaded image element, a canvas or an ImageBitmap in a browser.';

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
 * @param imageOrientation how files are oriented. Other images have no metadata.
 * @throws ValueError for anything else, for files that do not exist or cannot be read, for images without pixels, and for
 * image elements with "none".
 */
export async function readPixels(image: ImageLike, imageOrientation: ImageOrientation = 'from-image'): Promise<Pixels> {
  if (image instanceof tf.Tensor) {
    if ((image as tf.Tensor).rank === 3) return tensorReaders(image)[0]!();
    throw new ValueError(`${EXPECTED} Received: a tensor of shape [${(image as tf.Tensor).shape.join(', ')}].`);
  }
  const rank = Array.isArray(image) || isShapedArray(image) ? arrayRank(image) : undefined;
  if (rank !== undefined) {
    if (rank === 3) return arrayPixels(image as NumbersOfImage);
    throw new ValueError(`${EXPECTED} Received: an array with ${rank} ${rank === 1 ? 'axis' : 'axes'}.`);
  }
  if (image instanceof URL) return readPixels(image.href, imageOrientation);
  if (isRequest(image)) {
    const {url, options} = imageRequest(image);
    return decode(await fetchImage(url, options), shownAddress(url), imageOrientation);
  }
  if (typeof image === 'string') {
    const bytes = await (isAddress(image) ? fetchImage(image) : readImageFile(image));
    return decode(bytes, shownAddress(image), imageOrientation);
  }
  if (typeof image !== 'object' || image === null) throw new ValueError(`${EXPECTED} Received: ${show(image)}.`);
  if (isBytes(image)) return decode(new Uint8Array(image), 'bytes', imageOrientation);
  if (image instanceof Blob) return decode(new Uint8Array(await image.arrayBuffer()), 'a Blob', imageOrientation);
  const data = isImageData(image) ? image : await readDrawable(image, imageOrientation);
  if (!data) {
    const received = Array.isArray(image) ? `an array of length ${image.length}` : describeValue(image);
    throw new ValueError(`${EXPECTED} Received: ${received}.`);
  }
  if (data.width === 0 || data.height === 0) {
    throw new ValueError(`Expected an image with pixels. Received: ${data.width} x ${data.height} pixels.`);
  }
  return withoutAlpha(data);
}

/** The pixels of an element, a canvas or a bitmap; undefined for anything else. */
async function readDrawable(image: object, imageOrientation: ImageOrientation): Promise<ImageData | undefined> {
  const found = drawable(image);
  if (!found) return undefined;
  if (found.upright && imageOrientation === 'none') {
    throw new ValueError(
      'Expected a file for imageOrientation "none". Received: an image element, which the browser has already ' +
        'rotated. Pass the bytes of its file or a Blob, such as `await (await fetch(image.src)).blob()`.',
    );
  }
  checkImageSize(found.width, found.height);
  return found.pixels();
}

type NumbersOfImage = readonly NestedArray[] | ShapedArray;

/**
 * The pixels of an array (height, width, channels). Bytes and integers of typed arrays with a shape stay integers; other
 * numbers are floats.
 *
 * @throws ValueError on rows of different lengths, on anything but numbers, and without pixels.
 */
function arrayPixels(image: NumbersOfImage): Pixels {
  const given = isShapedArray(image) ? image.data : undefined;
  const whole = given instanceof Uint8Array || given instanceof Uint8ClampedArray || given instanceof Int32Array;
  const {values, shape} = readNumbers('images', image, whole ? 'int32' : 'float32');
  const [height, width, channels] = shape as [number, number, number];
  if (values.length > 0) return {height, width, channels, values};
  throw new ValueError(
    `Expected pixels as numbers (height, width, channels) from 0 to 255. Received: shape [${shape.join(', ')}].`,
  );
}

async function decode(bytes: Uint8Array, name: string, imageOrientation: ImageOrientation): Promise<Pixels> {
  try {
    if (isPng(bytes)) return await decodePng(bytes, imageOrientation);
    if (isJpeg(bytes)) return decodeJpeg(bytes, imageOrientation);
    const other = otherFile(bytes);
    if (other) {
      checkImageSize(other.width, other.height);
      return withoutAlpha(await decodeOtherFile(bytes, other, imageOrientation === 'from-image'));
    }
  } catch (error) {
    throw new ValueError(`Cannot read ${name}. ${(error as Error).message}`);
  }
  const start = Array.from(bytes.subarray(0, 8), byte => byte.toString(16).padStart(2, '0')).join(' ');
  throw new ValueError(
    `Expected ${name} to be a PNG or JPEG image, or WebP, GIF or AVIF. Received: ` +
      `${start ? `bytes that start with ${start}` : 'no bytes'}. Convert it to one of these formats.`,
  );
}
