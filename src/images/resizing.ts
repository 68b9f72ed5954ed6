/**
 * Keras' `Resizing`: resizes an image, optionally after cropping or padding it to the aspect ratio of the new size.
 * Integers stay integers.
 */
import {checkImageSize, type Pixels} from './pixels';
import {type Interpolation} from './choices';
import {resample} from './resample';

export interface ResizingOptions {
  /** Height and width. */
  size: readonly [number, number];
  interpolation: Interpolation;
  antialias: boolean;
  /** Crop the image to the aspect ratio of `size`, evenly on both sides. */
  cropToAspectRatio: boolean;
  /** Pad the image with zeros to the aspect ratio of `size`. */
  padToAspectRatio: boolean;
}

const f = Math.fround;

/** The length that matches `other` in the aspect ratio of the target, truncated in float32 as in Keras. */
const lengthFor = (other: number, target: number, otherTarget: number) =>
  Math.trunc(f(f(other * target) / f(otherTarget)));
/** Half a length, rounded down in float32 as in Keras. */
const half = (length: number) => Math.trunc(f(length) / 2);

/** @throws ValueError if padding needs more pixels than `MAX_IMAGE_PIXELS`. */
export function resizePixels(image: Pixels, options: ResizingOptions): Pixels {
  const {size, interpolation, antialias, cropToAspectRatio, padToAspectRatio} = options;
  const {height, width} = image;
  // First crop or pad the original pixels to the aspect ratio, then resize.
  const fitting = [lengthFor(width, size[0], size[1]), lengthFor(height, size[1], size[0])] as const;
  let fitted = image;
  if (cropToAspectRatio) fitted = crop(image, fitting);
  else if (padToAspectRatio) {
    // The same on both sides, so one row or column is missing if the total is odd.
    fitted = pad(image, half(Math.max(height, fitting[0]) - height), half(Math.max(width, fitting[1]) - width));
  }
  const resized = resample(fitted, size, interpolation, antialias);
  return image.values instanceof Float32Array ? resized : roundPixels(resized, image.values);
}

function crop(image: Pixels, fitting: readonly [number, number]): Pixels {
  const {channels, values} = image;
  const height = Math.max(1, Math.min(image.height, fitting[0]));
  const width = Math.max(1, Math.min(image.width, fitting[1]));
  const top = half(image.height - height);
  const left = half(image.width - width);
  const output = like(values, height * width * channels);
  for (let row = 0; row < height; row++) {
    const from = ((top + row) * image.width + left) * channels;
    output.set(values.subarray(from, from + width * channels), row * width * channels);
  }
  return {height, width, channels, values: output};
}

function pad(image: Pixels, vertical: number, horizontal: number): Pixels {
  const {channels, values} = image;
  const [height, width] = [image.height + 2 * vertical, image.width + 2 * horizontal];
  checkImageSize(width, height, ' after padding to the aspect ratio');
  const output = like(values, height * width * channels);
  for (let row = 0; row < image.height; row++) {
    const from = row * image.width * channels;
    const to = ((vertical + row) * width + horizontal) * channels;
    output.set(values.subarray(from, from + image.width * channels), to);
  }
  return {height, width, channels, values: output};
}

const like = (values: Pixels['values'], length: number): Pixels['values'] =>
  new (values.constructor as Uint8ArrayConstructor)(length);

/** Rounds to integers, ties to even, and clamps bytes to 0 to 255. */
function roundPixels(image: Pixels, original: Pixels['values']): Pixels {
  const values = like(original, image.values.length);
  const highest = original instanceof Uint8Array ? 255 : Infinity;
  const lowest = original instanceof Uint8Array ? 0 : -Infinity;
  for (let i = 0; i < values.length; i++) {
    const value = image.values[i]!;
    let whole = Math.round(value);
    if (whole - value === 0.5 && whole % 2 !== 0) whole -= 1;
    values[i] = Math.min(highest, Math.max(lowest, whole));
  }
  return {...image, values};
}
