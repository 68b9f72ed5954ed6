/** The backend `webgpu` in tests: on any adapter, also one that computes on the CPU. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src/backends/use_backend';
import {type WebGpuBackend} from '../../src/backends/webgpu/webgpu_backend';

/** Whether this machine has an adapter: where it is set, a missing one is an error. */
const WANTED = Boolean(process.env.TEST_WEBGPU);

/** The backend in use. */
export const gpuBackend = () => tf.backend() as unknown as WebGpuBackend;

const NAN_BITS = 0x7fc00000;
const filling = new WeakSet<WebGpuBackend>();

/** Memory of new tensors is full of NaN: a program that did not run, or left out a part of its result, cannot pass. */
function fillWithNaN(backend: WebGpuBackend): void {
  if (filling.has(backend)) return;
  filling.add(backend);
  const {bufferManager, queue} = backend;
  const {acquireBuffer} = bufferManager;
  bufferManager.acquireBuffer = function (size, usage, ...rest) {
    const buffer = acquireBuffer.call(this, size, usage, ...rest);
    if (usage & GPUBufferUsage.STORAGE && buffer.mapState === 'unmapped') {
      queue.writeBuffer(buffer, 0, new Uint32Array(size / 4).fill(NAN_BITS));
    }
    return buffer;
  };
}

/** Uses the backend. All operations run on the GPU, also those on a few values. */
export async function useWebGpu(): Promise<WebGpuBackend> {
  await useBackend('webgpu', {software: true});
  tf.env().set('WEBGPU_CPU_FORWARD', false);
  fillWithNaN(gpuBackend());
  return gpuBackend();
}

/** Waits for what was recorded, and throws the first error of the GPU. */
export async function throwGpuErrors(): Promise<void> {
  const backend = gpuBackend();
  if (backend.disposed) return;
  backend.endComputePassEncoder();
  if (backend.commandEncoder) backend.submitQueue();
  await backend.queue.onSubmittedWorkDone();
  await new Promise(resolve => setTimeout(resolve));
  if (backend.broken) throw backend.broken;
}

/** Defines tests that need an adapter. Afterwards the backend is gone, and the previous one in use again. */
export function describeWebGpu(title: string, define: () => void): void {
  if (!WANTED) {
    describe.skip(`${title}: set TEST_WEBGPU=1 to run on the adapter of this machine`, define);
    return;
  }
  describe(title, () => {
    let previous: string;
    beforeAll(() => {
      previous = tf.getBackend();
    });
    define();
    afterAll(async () => {
      await tf.setBackend(previous);
      tf.removeBackend('webgpu');
    });
  });
}
