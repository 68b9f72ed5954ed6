/** JPEG files as pixels, the same on every platform: decoders of browsers differ from each other in the last digits. */
import jpeg from 'jpeg-js';
import {ValueError} from '../errors';
import {type Pixels} from './pixels';

export const isJpeg = (bytes: Uint8Array): boolean => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/** As much as images of a good camera need while they are read. */
const MEGABYTES = 2048;

/**
 * Grey becomes three equal channels. How the camera was held, which EXIF may tell, is not looked at, as in TensorFlow's
 * `decode_jpeg`.
 *
 * @throws ValueError if the bytes are no JPEG image, or a damaged one.
 */
export function decodeJpeg(bytes: Uint8Array): Pixels {
  try {
    const options = {useTArray: true, formatAsRGBA: false, tolerantDecoding: false, maxMemoryUsageInMB: MEGABYTES};
    const {width, height, data} = jpeg.decode(bytes, {...options, useTArray: true});
    return {height, width, channels: 3, values: data};
  } catch (error) {
    throw new ValueError(
      `Expected a whole JPEG image. Received: one that is not readable, ${(error as Error).message}. ` +
        'If the file is damaged, fetch it again; else save it as PNG.',
    );
  }
}
