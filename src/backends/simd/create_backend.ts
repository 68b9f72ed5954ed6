/** Creates the backend `simd` and registers it with tfjs. */
import * as tf from '@tensorflow/tfjs';
import {registerFloat32Target} from '../../weights/float32_target';
import {registerPacking} from '../../weights/packing';
import {registerHostValues} from '../../weights/host_values';
import '../cpu';
import {hostValues} from '../cpu/cpu_backend';
import {type SimdEngineOptions} from './engine/options';
import {startEngine} from './engine/start_engine';
import {simdKernels} from './kernels';
import {SimdBackend} from './memory/simd_backend';
import {float32Target} from './packing/float32_target';
import {packings, registerP8Kernels} from './packing/packing';

/**
 * Creates the backend and registers it with tfjs under this name. A backend of this name is replaced, once the new one
 * exists: if it cannot be created, the old one stays.
 *
 * @throws ValueError on unusable options, and where the platform refuses what it needs; Error if `relaxed` is true where
 * relaxed SIMD is not available.
 */
export async function createSimdBackend(options: SimdEngineOptions, name = 'simd'): Promise<SimdBackend> {
  const backend = new SimdBackend(await startEngine(options));
  if (tf.findBackendFactory(name)) tf.removeBackend(name);
  tf.registerBackend(name, () => backend, 3);
  // tfjs warns about duplicates of kernels.
  for (const {kernelName} of tf.getKernelsForBackend(name)) tf.unregisterKernel(kernelName, name);
  tf.copyRegisteredKernels('cpu', name);
  registerHostValues(name, hostValues);
  for (const [kernelName, kernelFunc] of Object.entries(simdKernels)) {
    if (tf.getKernel(kernelName, name)) tf.unregisterKernel(kernelName, name);
    tf.registerKernel({kernelName, backendName: name, kernelFunc});
  }
  for (const packing of Object.values(packings)) registerPacking(name, packing);
  registerP8Kernels(name);
  registerFloat32Target(name, shape => float32Target(backend, shape));
  return backend;
}

/**
 * Whether a backend of this name exists and can compute. One that a thread's death, `tf.engine().reset()` or a call of
 * `dispose` has ended cannot, although tfjs still returns it.
 */
export function isUsable(name: string): boolean {
  if (!tf.findBackendFactory(name)) return false;
  const {engine} = (tf.findBackend(name) ?? {}) as Partial<SimdBackend>;
  return engine?.alive ?? false;
}
