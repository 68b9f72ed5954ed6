import {setFlagsFromString} from 'node:v8';

/** Node 20 has relaxed SIMD behind a flag, which works if it is set before a module is compiled; later ones need none. */
export function enableRelaxedSimd(): void {
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/**
 * From Node 24 on V8 can make one instruction of 256 bits of two of 128, on x64 and behind a flag, which counts for
 * functions that are optimized after it is set. Returns whether it may be hoped for.
 */
export function enableWideSimd(): boolean {
  if (process.arch !== 'x64' || Number(process.versions.node.split('.')[0]) < 24) return false;
  setFlagsFromString('--experimental-wasm-revectorize');
  return true;
}
