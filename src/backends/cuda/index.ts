/**
 * The `cuda` backend, in Node: tfjs' `tensorflow` backend with kernels of this package, on the TensorFlow that
 * `gemma3 setup-cuda` keeps in the cache, or on a package of tfjs that the program has. Loaded when it is first asked for.
 */
import {type Backend} from '../backend';

const load = () => import('./use_cuda');

/** A list, which is empty in browsers. */
export const cuda = [
  {
    name: 'cuda',
    tfjsName: 'tensorflow',
    options: [],
    unavailable: async () => (await load()).whyNoCuda(),
    preferred: async () => (await load()).isPreferred(),
    use: async (_options: object) => (await load()).useCuda(),
    details: async () => (await load()).cudaDetails(),
  },
] as const satisfies readonly Backend[];
