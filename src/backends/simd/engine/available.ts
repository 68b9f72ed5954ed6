/** Detects WebAssembly SIMD. */

/** A module with one function that uses a vector: `i32.const 0, i8x16.splat, drop`. */
const VECTOR_MODULE = [
  0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7, 0, 65, 0, 253, 15, 26, 11,
];

/** The same with a relaxed instruction: `i32.const 0, i8x16.splat` twice, `i8x16.relaxed_swizzle, drop`. */
const RELAXED_MODULE = [
  ...[0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0],
  ...[10, 16, 1, 14, 0, 65, 0, 253, 15, 65, 0, 253, 15, 253, 128, 2, 26, 11],
];

/** Whether relaxed SIMD can be compiled, which in Node may take a flag. */
export const hasRelaxedSimd = (): boolean => WebAssembly.validate(new Uint8Array(RELAXED_MODULE));

/** The reason why WebAssembly SIMD cannot be used here, and what to do; undefined if it can. */
export function whyNoSimd(): string | undefined {
  if (typeof WebAssembly === 'undefined') {
    return (
      'WebAssembly is switched off. Start Node without --jitless; in a browser, check its settings, such as the ' +
      'lockdown mode of iOS.'
    );
  }
  const bytes = new Uint8Array(VECTOR_MODULE);
  if (!WebAssembly.validate(bytes)) {
    return (
      'This machine or JavaScript engine has no WebAssembly SIMD. Update the browser or Node, or use another ' +
      'machine.'
    );
  }
  try {
    // A Content-Security-Policy may forbid compiling what is valid.
    new WebAssembly.Module(bytes);
  } catch (error) {
    return (
      `WebAssembly cannot be compiled: ${(error as Error).message.replace(/\.$/, '')}. If the page has a ` +
      "Content-Security-Policy, add 'wasm-unsafe-eval' to its script-src."
    );
  }
  return undefined;
}
