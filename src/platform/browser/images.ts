/** Images in browsers: elements, canvases and bitmaps. */
import {show, ValueError} from '../../base/errors';
import {type CanvasPixels, type Drawable, type Images, type OtherImage} from '../contract';

/** @throws ValueError always: browsers have no paths. */
export async function readImageFile(path: string): Promise<Uint8Array> {
  throw new ValueError(
    `Expected an image. Received: the path ${show(path)}, which browsers cannot open. ` +
      'Pass its http(s) address, such as `new URL(path, location.href)`, a Blob, or an image element.',
  );
}

export async function decodeOtherFile(
  bytes: Uint8Array,
  {format, type}: OtherImage,
  turn: boolean,
): Promise<CanvasPixels> {
  if (!turn && format !== 'GIF') {
    throw new Error(
      `Browsers turn ${format} files as their metadata says, and nothing can undo it: expected imageOrientation ` +
        '"from-image". Received: "none". Convert the file to PNG or JPEG.',
    );
  }
  const file = new Blob([bytes as Uint8Array<ArrayBuffer>], {type});
  let bitmap: ImageBitmap;
  try {
    bitmap = await createImageBitmap(file, {colorSpaceConversion: 'none', premultiplyAlpha: 'none'});
  } catch (error) {
    throw new Error(
      `Expected a ${format} file that this browser decodes. Received: ${(error as Error).message} ` +
        'Fetch the file again, or convert it to PNG or JPEG.',
    );
  }
  try {
    return await drawnPixels(bitmap);
  } finally {
    bitmap.close();
  }
}

export function drawable(image: object): Drawable | undefined {
  // Workers have no elements.
  const element = typeof HTMLImageElement !== 'undefined' && image instanceof HTMLImageElement;
  const page = typeof HTMLCanvasElement !== 'undefined' && image instanceof HTMLCanvasElement;
  if (!element && !page && !(image instanceof ImageBitmap) && !(image instanceof OffscreenCanvas)) return undefined;
  const width = element ? image.naturalWidth : image.width;
  const height = element ? image.naturalHeight : image.height;
  if (width === 0 || height === 0) {
    throw new ValueError(
      `Expected an image with pixels. Received: ${width} x ${height}. ` +
        'Wait for `image.decode()` before you use an image element.',
    );
  }
  if (element) return {width, height, upright: true, pixels: () => elementPixels(image)};
  return {width, height, upright: false, pixels: () => drawnPixels(image as Exclude<typeof image, HTMLImageElement>)};
}

/** The pixels of an element, with the stored values of its file: a canvas would apply its colour profile. */
async function elementPixels(element: HTMLImageElement): Promise<ImageData> {
  const bitmap = await createImageBitmap(element, {colorSpaceConversion: 'none'});
  try {
    return await drawnPixels(bitmap);
  } finally {
    bitmap.close();
  }
}

async function drawnPixels(image: HTMLCanvasElement | OffscreenCanvas | ImageBitmap): Promise<ImageData> {
  const {width, height} = image;
  const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true})!;
  context.drawImage(image, 0, 0);
  try {
    return context.getImageData(0, 0, width, height);
  } catch (error) {
    if ((error as DOMException).name !== 'SecurityError') throw error;
    throw new ValueError(
      'Expected an image whose pixels this page may read. Received: an image from another origin. ' +
        'Set `crossOrigin = "anonymous"` on the element before its `src`, if that server allows it, or serve the file yourself.',
    );
  }
}

void ({readImageFile, decodeOtherFile, drawable} satisfies Images);
