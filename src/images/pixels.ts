/** An image as numbers, before anything is done to it. */

/**
 * Numbers (height, width, channels), 0 to 255 unless they are floats. What they are stored as matters: bytes and whole
 * numbers stay whole when they are resized, as in Keras.
 */
export interface Pixels {
  readonly height: number;
  readonly width: number;
  readonly channels: number;
  readonly values: Uint8Array | Int32Array | Float32Array;
}

/** Pixels of the canvas, (height, width, 4), without their alpha, which is dropped and not blended. */
export function withoutAlpha({height, width, data}: {height: number; width: number; data: ArrayLike<number>}): Pixels {
  const values = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; to < values.length; from += 4, to += 3) {
    values[to] = data[from]!;
    values[to + 1] = data[from + 1]!;
    values[to + 2] = data[from + 2]!;
  }
  return {height, width, channels: 3, values};
}
