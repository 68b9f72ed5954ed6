/** The `simd` backend: WebAssembly SIMD on any CPU, in Node and browsers. Loaded when it is first asked for. */
import {type Backend} from '../backend';
import {type SimdOptions} from './engine/options';

export {type SimdOptions, type ThreadCount} from './engine/options';

const load = () => import('./use_simd');

export const simd = {
  name: 'simd',
  options: ['threads', 'relaxed', 'wide'] satisfies (keyof SimdOptions)[],
  unavailable: async () => (await load()).whyNoSimd(),
  preferred: () => true,
  use: async (options: SimdOptions) => (await load()).useSimd(options),
  details: async () => (await load()).simdDetails(),
} as const satisfies Backend;
