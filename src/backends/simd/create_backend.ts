/** Creates the backend `simd` and registers it with tfjs. */
import * as tf from '@tensorflow/tfjs';
import {hostFloat32, registerFloat32Target} from '../../weights/float32_target';
import {registerPacking} from '../../weights/packing';
import {registerHostValues} from '../../weights/host_values';
import '../cpu';
import {cpuBackendClass, hostValues} from '../cpu/cpu_backend';
import {cpuBfloat16} from '../cpu/host_packing';
import {hasSimd} from './engine/has_simd';
import {checkSimdOptions, type SimdEngineOptions} from './engine/options';
import {SimdEngine} from './engine/simd_engine';
import {simdKernels} from './kernels';
import {SimdBackend} from './memory/simd_backend';
import {packings} from './packing/packing';

/**
 * Creates the backend and registers it with tfjs under this name. There are three levels: relaxed SIMD, plain SIMD and
 * none. Without SIMD it is tfjs' CPU backend with our JavaScript kernels, and cannot pack weights as int8 or int4.
 *
 * A backend of this name is replaced, once the new one exists: if it cannot be created, the old one stays.
 *
 * @throws ValueError on unusable options; Error if `relaxed` is true where relaxed SIMD is not available.
 */
export async function createSimdBackend(options: SimdEngineOptions, name = 'simd'): Promise<tf.KernelBackend> {
  checkSimdOptions(options);
  const backend = hasSimd() ? new SimdBackend(await SimdEngine.create(options)) : plainBackend(options);
  if (tf.findBackendFactory(name)) tf.removeBackend(name);
  tf.registerBackend(name, () => backend, 3);
  // An earlier backend of this name may have had another level. Its kernels are removed, since tfjs warns about
  // duplicates.
  for (const {kernelName} of tf.getKernelsForBackend(name)) tf.unregisterKernel(kernelName, name);
  tf.copyRegisteredKernels('cpu', name);
  registerHostValues(name, hostValues);
  if (!(backend instanceof SimdBackend)) {
    for (const packing of [cpuBfloat16, packings.int8, packings.int4]) registerPacking(name, packing);
    registerFloat32Target(name, hostFloat32);
    return backend;
  }
  for (const [kernelName, kernelFunc] of Object.entries(simdKernels)) {
    if (tf.getKernel(kernelName, name)) tf.unregisterKernel(kernelName, name);
    tf.registerKernel({kernelName, backendName: name, kernelFunc});
  }
  for (const packing of Object.values(packings)) registerPacking(name, packing);
  registerFloat32Target(name, shape => {
    const placed = backend.empty(shape);
    return {
      values: () => backend.data.get(placed.dataId).values as Float32Array,
      finish: () => tf.engine().makeTensorFromTensorInfo(placed),
      abandon: () => void backend.disposeData(placed.dataId),
    };
  });
  return backend;
}

/**
 * Whether a backend of this name exists and can compute. One that a thread's death, `tf.engine().reset()` or a call of
 * `dispose` has ended cannot, although tfjs still returns it.
 */
export function isUsable(name: string): boolean {
  if (!tf.findBackendFactory(name)) return false;
  const {engine} = (tf.findBackend(name) ?? {}) as Partial<SimdBackend>;
  return engine === undefined || engine.alive;
}

function plainBackend({relaxed}: SimdEngineOptions): tf.KernelBackend {
  if (relaxed) throw new Error('Relaxed SIMD is not available here: this machine has no WebAssembly SIMD.');
  const backend = new (cpuBackendClass())();
  // Suppresses the CPU backend's advice to install another package.
  (backend as unknown as {firstUse: boolean}).firstUse = false;
  return backend as unknown as tf.KernelBackend;
}
