/** The image that test/reference/make_image_fixtures.py draws. */
import {type Pixels} from '../../src/images/pixels';

const ARRAYS = {uint8: Uint8Array, int32: Int32Array, float32: Float32Array};

export function picture(height: number, width: number, dtype: keyof typeof ARRAYS = 'uint8', channels = 3): Pixels {
  const values = new ARRAYS[dtype](height * width * channels);
  let i = 0;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < channels; c++) {
        const value = (y * 73 + x * 151 + c * 87 + ((y * x) % 97) * 31) % 256;
        values[i++] = value + (dtype === 'float32' ? 0.3125 : 0);
      }
    }
  }
  return {height, width, channels, values};
}
