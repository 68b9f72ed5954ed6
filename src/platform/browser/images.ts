/** Images in browsers: elements, canvases and bitmaps. */
import {show, ValueError} from '../../base/errors';
import {type Images} from '../contract';

/** @throws ValueError always: browsers have no paths. */
export async function readImageFile(path: string): Promise<Uint8Array> {
  throw new ValueError(
    `Expected an image. Received: the path ${show(path)}, which browsers cannot open. ` +
      'Pass a Blob, such as `await (await fetch(address)).blob()`, or an image element.',
  );
}

export function drawnPixels(image: object): ImageData | undefined {
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
  const context = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true})!;
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

void ({readImageFile, drawnPixels} satisfies Images);
