/** The pixels of an image as numbers. */
import {ValueError} from '../base/errors';

/**
 * Maximum number of pixels in an image: the limit above which Pillow raises its `DecompressionBombError`, twice its
 * `MAX_IMAGE_PIXELS`. Files of some kilobytes can claim gigabytes of pixels.
 */
export const MAX_IMAGE_PIXELS = 2 * Math.floor(2 ** 30 / 4 / 3);

/**
 * Call it before memory is allocated for the pixels.
 *
 * @param when completes the message for pixels that are not those of a file, such as " after padding".
 * @throws ValueError if there are more pixels than `MAX_IMAGE_PIXELS`.
 */
export function checkImageSize(width: number, height: number, when = ''): void {
  if (width * height > MAX_IMAGE_PIXELS) {
    throw new ValueError(
      `Expected an image of at most ${MAX_IMAGE_PIXELS} pixels. Received: ${width} x ${height} pixels${when}. ` +
        'Make the image smaller.',
    );
  }
}

/**
 * Numbers (height, width, channels), 0 to 255 unless they are floats. The array's type matters: bytes and integers stay
 * integers when they are resized, as in Keras.
 */
export interface Pixels {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly values: Uint8Array | Int32Array | Float32Array;
}

/** Pixels of a canvas (height, width, 4) without alpha, which is dropped, not blended. */
export function withoutAlpha({height, width, data}: {height: number; width: number; data: ArrayLike<number>}): Pixels {
  const values = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; to < values.length; from += 4, to += 3) {
    values[to] = data[from]!;
    values[to + 1] = data[from + 1]!;
    values[to + 2] = data[from + 2]!;
  }
  return {height, width, channels: 3, values};
}
