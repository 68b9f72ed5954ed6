/** Makes tfjs' backend `tensorflow` this package's backend `cuda`: its kernels, packings and ways to read values. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../base/shapes';
import {registerTokenPrograms} from '../../ops/token_program';
import {registerFloat32Target} from '../../weights/float32_target';
import {registerHostValues} from '../../weights/host_values';
import {registerPacking} from '../../weights/packing';
import {mergeKernels} from '../kernel_map';
import {type Packer} from '../simd/packing/packer';
import {packings} from '../simd/packing/packing';
import {copySpeed} from './copy_speed';
import {BFLOAT16, Device, FLOAT, INT32, INT8, type Rest} from './device';
import {readIntegers} from './integers';
import {attentionKernels} from './kernels/attention';
import {cacheKernels} from './kernels/cache_update';
import {decoderBlockKernels} from './kernels/decoder_block';
import {feedForwardKernels} from './kernels/feed_forward';
import {headLossKernels} from './kernels/head_loss';
import {layerKernels} from './kernels/layers';
import {plainKernels} from './kernels/plain';
import {productKernels} from './kernels/products';
import {guarded} from './native/binding';
import {tensorFloats} from './native/host_memory';
import {type StockBackend} from './native/tfjs_node';
import {integersPacking, nativePacking, packingKernels, refusingPacking} from './packing';
import {createTokenProgram, MOST_STEPS} from './token_program';

/** The name of the backend in tfjs. */
export const NAME = 'tensorflow';

/** tfjs' own kernels, which take what those of this package leave to them. */
const stock = new Map<string, tf.KernelFunc>();

function stockKernel(name: string): tf.KernelFunc {
  if (!stock.has(name)) stock.set(name, tf.getKernel(name, NAME)!.kernelFunc);
  return stock.get(name)!;
}

function registerKernels(device: Device): void {
  const kernels = mergeKernels([
    packingKernels(device, stockKernel('Slice')),
    plainKernels(device, stockKernel('Reshape')),
    productKernels(device),
    layerKernels(device),
    feedForwardKernels(device),
    headLossKernels(device),
    attentionKernels(device),
    cacheKernels(device),
    decoderBlockKernels(device),
  ]);
  for (const [kernelName, kernelFunc] of Object.entries(kernels)) {
    // tfjs warns about duplicates.
    if (tf.getKernel(kernelName, NAME)) tf.unregisterKernel(kernelName, NAME);
    tf.registerKernel({kernelName, backendName: NAME, kernelFunc});
  }
}

/** Reading an int8 matrix gives its bits in the order of files. */
function readsIntegers(backend: StockBackend): void {
  const {readSync} = backend;
  backend.readSync = dataId => {
    const device = devices.get(backend)!;
    return device.matrices.get(dataId)?.type === INT8
      ? readIntegers(device, {dataId, shape: [], dtype: 'int32'})
      : readSync.call(backend, dataId);
  };
}

/** Backends that are this package's already. */
const devices = new WeakMap<object, Device>();

export const deviceOf = (backend: object): Device | undefined => devices.get(backend);

/**
 * Prepares a backend of tfjs-node, which is registered under {@link NAME}.
 *
 * @param packer of int8 weights. Defaults to the one it has.
 * @param rest how bfloat16 weights rest. Defaults to what is fast on the device.
 */
export function prepareBackend(
  backend: StockBackend,
  packer?: Packer,
  rest: Rest = backend.isUsingGpuDevice ? BFLOAT16 : FLOAT,
): Device {
  const known = devices.get(backend);
  if (known?.rest === rest) return known;
  if (!known) {
    backend.binding = guarded(backend.binding);
    readsIntegers(backend);
  }
  const device = new Device(backend, rest, packer ?? known?.packer);
  devices.set(backend, device);
  // For `gemma3 bench`.
  Object.assign(backend, {counts: device.binding.counts, copySpeed: async () => copySpeed(device)});
  registerKernels(device);
  registerPacking(NAME, nativePacking(device));
  registerPacking(
    NAME,
    device.packer ? integersPacking(device, device.packer) : refusingPacking('int8', packings.int8),
  );
  registerPacking(NAME, refusingPacking('int4', packings.int4));
  registerTokenPrograms(NAME, {
    mostSteps: MOST_STEPS,
    create: (choice, rows) => createTokenProgram(device, choice, rows),
  });
  registerHostValues(NAME, ({dataId}) => {
    const {values, dtype} = backend.tensorMap.get(dataId);
    if (values) return values as tf.TypedArray;
    // The binding keeps int32 tensors in the memory of the host. Others would have to wait for a GPU.
    const isHere = dtype === INT32 || !backend.isUsingGpuDevice;
    return isHere ? (backend.readSync(dataId) as tf.TypedArray) : undefined;
  });
  registerFloat32Target(NAME, shape => {
    const values = tensorFloats(sizeOf(shape));
    return {
      values: () => values,
      // At once, so that not all weights are in host memory together.
      finish: () =>
        tf.engine().makeTensorFromTensorInfo(device.adopt(device.binding.createTensor(shape, FLOAT, values), shape)),
      abandon: () => {},
    };
  });
  return device;
}
