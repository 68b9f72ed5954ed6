/** Detects WebAssembly SIMD. */

/** A module with one function that uses a vector: `i32.const 0, i8x16.splat, drop`. */
const VECTOR_MODULE = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11,
];

/** Whether this machine has WebAssembly SIMD. */
export const hasSimd = (): boolean =>
  typeof WebAssembly !== 'undefined' && WebAssembly.validate(new Uint8Array(VECTOR_MODULE));
