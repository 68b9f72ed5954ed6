/** The GPU's bandwidth: products of single tokens cannot be faster than a plain copy. */
import {type WebGpuBackend} from './webgpu_backend';
import {COPIED_VECTORS, copy} from './wgsl/copy';

/** Bytes of a buffer: larger than the caches of GPUs. */
const BYTES = 2 ** 27;
/** Minimum milliseconds of a measurement, and maximum number of copies in one. */
const LONG_ENOUGH = 50;
const MOST_COPIES = 256;
const ROUNDS = 3;

/** Bytes per second, read and written together: the best of some rounds. */
export async function copySpeed(backend: WebGpuBackend): Promise<number> {
  const {maxStorageBufferBindingSize, maxBufferSize} = backend.device.limits;
  const bytes = Math.min(BYTES, maxStorageBufferBindingSize, maxBufferSize);
  const count = Math.floor(bytes / 16);
  const [x, y] = [backend.empty([4 * count]), backend.empty([4 * count])];
  const groups = Math.ceil(count / (COPIED_VECTORS * copy.size));
  const seconds = async (copies: number) => {
    const start = performance.now();
    for (let i = 0; i < copies; i++) backend.run(copy, {tensors: [x, y], numbers: {count}, groups});
    backend.flush();
    await backend.arrived(backend.queue.onSubmittedWorkDone());
    return (performance.now() - start) / 1000;
  };
  try {
    // Memory and program are ready after the first one.
    await seconds(1);
    let copies = 1;
    while (copies < MOST_COPIES && (await seconds(copies)) * 1000 < LONG_ENOUGH) copies *= 2;
    let best = Infinity;
    for (let round = 0; round < ROUNDS; round++) best = Math.min(best, await seconds(copies));
    return (copies * count * 32) / best;
  } finally {
    for (const {dataId} of [x, y]) backend.disposeData(dataId);
  }
}
