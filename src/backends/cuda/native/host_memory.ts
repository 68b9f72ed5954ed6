/** Host memory that TensorFlow's CPU device uses without a copy. */

/** Larger arrays get pages of their own. */
const PAGES = 2 ** 16;

/** Missing in the types of the oldest JavaScript version that this package is compiled for. */
type Resizable = new (bytes: number, options: {maxByteLength: number}) => ArrayBuffer;

/**
 * Bytes for a tensor. TensorFlow copies an array unless it begins at a multiple of 64 bytes, and large arrays of Node
 * never do. A resizable buffer has pages of its own, so it does, and a weight is in memory only once while a model loads.
 */
export function tensorBuffer(bytes: number): ArrayBuffer {
  return bytes < PAGES ? new ArrayBuffer(bytes) : new (ArrayBuffer as Resizable)(bytes, {maxByteLength: bytes});
}

/** An array for a tensor, of its whole buffer. */
export const tensorFloats = (count: number): Float32Array => new Float32Array(tensorBuffer(4 * count), 0, count);
