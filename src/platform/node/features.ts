/** WebAssembly features that Node enables with V8 flags. */
import {setFlagsFromString} from 'node:v8';
import {type Features} from '../contract';

/** Node 20 has relaxed SIMD behind a flag, which must be set before a module is compiled; later versions need none. */
export function enableRelaxedSimd(): void {
  if (process.versions.node.startsWith('20.')) setFlagsFromString('--experimental-wasm-relaxed-simd');
}

/**
 * From Node 24 on, V8 on x64 can merge two 128-bit instructions into one of 256 bits. This is behind a flag; it affects
 * functions optimized after it is set.
 */
export function enableWideSimd(): boolean {
  if (process.arch !== 'x64' || Number(process.versions.node.split('.')[0]) < 24) return false;
  setFlagsFromString('--experimental-wasm-revectorize');
  return true;
}

void ({enableRelaxedSimd, enableWideSimd} satisfies Features);
