/** The pixels of an image as numbers. */

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
