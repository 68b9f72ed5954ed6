/** Memory of the host that TensorFlow's CPU device uses as it is. */

/** Larger arrays get pages of their own. */
const PAGES = 2 ** 16;

/** Not in the types of the oldest version of JavaScript that this package is compiled for. */
type Resizable = new (bytes: number, options: {maxByteLength: number}) => ArrayBuffer;

/**
 * Bytes for a tensor. TensorFlow copies an array that does not begin at a multiple of 64 bytes, and those of large arrays
 * never do. Those of a buffer that could change its size do, since it has pages of its own: with it a weight is in memory
 * only once while a model loads.
 */
export function tensorBuffer(bytes: number): ArrayBuffer {
  return bytes < PAGES ? new ArrayBuffer(bytes) : new (ArrayBuffer as Resizable)(bytes, {maxByteLength: bytes});
}

/** An array for a tensor, of its whole buffer. */
export const tensorFloats = (count: number): Float32Array => new Float32Array(tensorBuffer(4 * count), 0, count);
