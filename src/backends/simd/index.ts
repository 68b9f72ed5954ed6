/** The backend `simd`: any CPU with WebAssembly SIMD, in Node and browsers. */
import * as tf from '@tensorflow/tfjs';
import {registerFloat32Target, registerPacking} from '../../weights/packing';
import '../cpu';
import {simdKernels} from './kernels';
import {packings} from './packing';
import {SimdBackend} from './simd_backend';
import {SimdEngine, type SimdEngineOptions} from './simd_engine';

export {type SimdEngineOptions} from './simd_engine';

/** Makes the backend and registers it with tfjs under its name. */
export async function createSimdBackend(options: SimdEngineOptions, name = 'simd'): Promise<SimdBackend> {
  const backend = new SimdBackend(await SimdEngine.create(options));
  tf.registerBackend(name, () => backend, 3);
  // Once: kernels that the CPU backend gets later are not seen, and tfjs warns of each that is there already.
  if (tf.getKernelsForBackend(name).length === 0) tf.copyRegisteredKernels('cpu', name);
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
    };
  });
  return backend;
}
