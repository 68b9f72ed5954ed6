/** Creates the backend `webgpu` and registers it with tfjs, instead of tfjs' own. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../base/shapes';
import {registerTokenPrograms} from '../../ops/token_program';
import {registerFloat32Target} from '../../weights/float32_target';
import {registerHostValues} from '../../weights/host_values';
import {registerPacking} from '../../weights/packing';
import {mergeKernels} from '../kernel_map';
import {Packer} from '../simd/packing/packer';
import {registerP8Kernels} from '../simd/packing/packing';
import {hasPackedDots, isSoftware, requestDevice} from './adapter';
import {copySpeed} from './copy_speed';
import {attentionKernels} from './kernels/attention';
import {decoderBlockKernels} from './kernels/decoder_block';
import {layerKernels} from './kernels/layers';
import {productKernels} from './kernels/products';
import {samplingKernels} from './kernels/sampling';
import {stockKernels} from './kernels/stock';
import {visionLayerKernels} from './kernels/vision_layer';
import {checkWeightFits} from './memory';
import {webGpuPacking} from './packing';
import {stockBackendClass} from './stock_backend';
import {createTokenProgram, MOST_STEPS} from './token_program';
import {codeTilesOf, lanesOf, tryCodeTiles, tryLanes} from './trial';
import {type WebGpuBackend, webGpuBackendClass} from './webgpu_backend';

const NAME = 'webgpu';

/** tfjs' own kernels, by name, which ours replace. */
const stock = new Map<string, tf.KernelFunc>();

function stockKernel(name: string): tf.KernelFunc {
  let known = stock.get(name);
  if (!known) stock.set(name, (known = tf.getKernel(name, NAME)!.kernelFunc));
  return known;
}

let kernelsAreRegistered = false;

/** Once: kernels are told which backend they run on. */
function registerKernels(): void {
  if (kernelsAreRegistered) return;
  kernelsAreRegistered = true;
  const kernels = mergeKernels([
    productKernels,
    layerKernels,
    attentionKernels,
    decoderBlockKernels,
    samplingKernels,
    visionLayerKernels,
    stockKernels(stockKernel),
  ]);
  for (const [kernelName, kernelFunc] of Object.entries(kernels)) {
    // tfjs warns about duplicates.
    if (tf.getKernel(kernelName, NAME)) tf.unregisterKernel(kernelName, NAME);
    tf.registerKernel({kernelName, backendName: NAME, kernelFunc});
  }
}

/**
 * Creates the backend and registers it with tfjs. The backend of this name is replaced once the new one exists: if that
 * cannot be created, the old one stays.
 *
 * @throws UnavailableError if the adapter provides no device, or a package is missing.
 */
export async function createWebGpuBackend(adapter: GPUAdapter): Promise<WebGpuBackend> {
  const Stock = await stockBackendClass();
  const packer = await Packer.start();
  const device = await requestDevice(adapter);
  const backend = new (webGpuBackendClass(Stock))(device, adapter.info);
  backend.copySpeed = () => copySpeed(backend);
  // Skipped in software, where it would slow down every start of a test.
  if (!isSoftware(adapter)) {
    await tryLanes(backend, lanesOf(device, adapter.info));
    await tryCodeTiles(backend, codeTilesOf(device, await hasPackedDots()));
  }
  void device.lost.then(() => packer.dispose());
  registerKernels();
  if (tf.findBackendFactory(NAME)) tf.removeBackend(NAME);
  tf.registerBackend(NAME, () => backend, 3);
  registerP8Kernels(NAME);
  registerHostValues(NAME, ({dataId}) => backend.tensorMap.get(dataId).values ?? undefined);
  for (const format of ['bfloat16', 'int8', 'int4'] as const) registerPacking(NAME, webGpuPacking(format, packer));
  registerTokenPrograms(NAME, {
    mostSteps: MOST_STEPS,
    create: (choice, rows) => createTokenProgram(backend, choice, rows),
  });
  registerFloat32Target(NAME, shape => {
    backend.checkUsable();
    checkWeightFits(backend.device, shape, 'float32');
    const values = new Float32Array(sizeOf(shape));
    return {
      values: () => values,
      // Uploaded at once, so that not all weights are in host memory together.
      finish: () => {
        const info = backend.makeTensorInfo(shape, 'float32', values);
        if (values.length > 0) backend.uploadToGPU(info.dataId);
        return tf.engine().makeTensorFromTensorInfo(info);
      },
      abandon: () => {},
    };
  });
  return backend;
}
