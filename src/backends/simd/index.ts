/**
 * The `simd` backend: WebAssembly SIMD on any CPU, in Node and browsers. Its engine and kernels are loaded when it is
 * first used.
 */
import {registerPacking} from '../../weights/packing';
import {type Backend} from '../backend';
import {type SimdOptions} from './engine/options';
import {packings} from './packing/packing';

export {type SimdOptions, type ThreadCount} from './engine/options';

// A model may be built, and described, before a backend is chosen. Other backends can hold packed weights and read small
// ones through the references, but cannot pack.
registerPacking(null, packings.int8);
registerPacking(null, packings.int4);

const load = () => import('./use_simd');

export const simd = {
  name: 'simd',
  options: ['threads', 'relaxed', 'wide'] satisfies (keyof SimdOptions)[],
  unavailable: async () => (await load()).whyNoSimd(),
  preferred: () => true,
  use: async (options: SimdOptions) => (await load()).useSimd(options),
  details: async () => (await load()).simdDetails(),
} as const satisfies Backend;
