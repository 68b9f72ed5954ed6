/**
 * The `webgpu` backend: tfjs' own on a device that we create, with kernels of this package. Loaded when it is first
 * used.
 */
import * as tf from '@tensorflow/tfjs';
import {registerFault} from '../../ops/op';
import {type Backend} from '../backend';
import {type WebGpuOptions} from './options';

export {type WebGpuOptions} from './options';

// tfjs' own backend has the same name.
registerFault('webgpu', () =>
  'isGemma3WebGpu' in tf.backend()
    ? undefined
    : 'Expected the backend "webgpu" of this package. Received: the one of tfjs, which computes some operations ' +
      "wrongly. Call await useBackend('webgpu') before the model is created.",
);

const load = () => import('./use_webgpu');

export const webgpu = {
  name: 'webgpu',
  options: ['powerPreference', 'software'] satisfies (keyof WebGpuOptions)[],
  unavailable: async () => (await load()).whyNoWebGpu(),
  preferred: async () => !!(globalThis.navigator as {gpu?: object} | undefined)?.gpu && (await load()).isPreferred(),
  use: async (options: WebGpuOptions) => (await load()).useWebGpu(options),
  details: async () => (await load()).webGpuDetails(),
} as const satisfies Backend;
