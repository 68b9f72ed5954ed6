/** The parts of tfjs' WebGPU backend that this one uses, including private ones, and how to find its class. */
import * as tf from '@tensorflow/tfjs';
import {loadTfjsBackend} from '#platform/gpu';
import {ONE_COPY} from '../../base/errors';
import {UnavailableError} from '../backend';

/** A tensor's entry in the backend's table. */
export interface GpuEntry {
  /** The values on the host; null once they are only on the GPU. */
  values: tf.TypedArray | null;
  readonly dtype: tf.DataType;
  readonly shape: number[];
  resource?: GPUBuffer | null;
}

/** Bytes of buffers in use, and including those that are kept for later. */
export interface GpuMemory {
  numBytesInGPU: number;
  numBytesAllocatedInGPU: number;
  unreliable: boolean;
}

export interface StockBackend extends tf.KernelBackend {
  readonly device: GPUDevice;
  readonly queue: GPUQueue;
  readonly tensorMap: {get(dataId: object): GpuEntry; has(dataId: object): boolean};
  readonly bufferManager: {
    acquireBuffer(size: number, usage: number, mappedAtCreation?: boolean, reuse?: boolean): GPUBuffer;
    numBytesUsed: number;
    numBytesAllocated: number;
  };
  /** What is recorded and not yet submitted. */
  commandEncoder: GPUCommandEncoder | null;
  computePassEncoder: GPUComputePassEncoder | null;
  dispatchCountInPass: number;
  /** Tensors that recorded commands use: they are freed only after these are submitted. */
  readonly commandQueueOwnedIds: WeakSet<object>;
  readonly uniformPendingDisposal: GPUBuffer[];
  disposed: boolean;
  ensureCommandEncoderReady(): void;
  endComputePassEncoder(): void;
  submitQueue(): void;
  recordAndSubmit(...args: unknown[]): void;
  memory(): GpuMemory;
  uploadToGPU(dataId: object): void;
  tensorToBinding(tensor: tf.TensorInfo | null): object | null;
  makeTensorInfo(shape: number[], dtype: tf.DataType, values?: tf.TypedArray): tf.TensorInfo;
  disposeData(dataId: object, force?: boolean): boolean;
  incRef(dataId: object): void;
}

export type StockBackendClass = new (device: GPUDevice, info?: GPUAdapterInfo) => StockBackend;

/**
 * Importing tfjs' package registers its own backend, which computes some operations wrongly. That one is removed, unless
 * the program had loaded it before.
 */
async function load(): Promise<{WebGPUBackend: StockBackendClass} | undefined> {
  const known = tf.findBackendFactory('webgpu');
  const loaded = (await loadTfjsBackend()) as {WebGPUBackend: StockBackendClass} | undefined;
  if (!known && tf.findBackendFactory('webgpu')) tf.removeBackend('webgpu');
  return loaded;
}

let loading: ReturnType<typeof load> | undefined;

/** @throws UnavailableError if tfjs' package is not installed, or belongs to another copy of tfjs. */
export async function stockBackendClass(): Promise<StockBackendClass> {
  const loaded = await (loading ??= load());
  if (!loaded) {
    loading = undefined;
    throw new UnavailableError(
      'The package "@tensorflow/tfjs-backend-webgpu" is not installed, or not in the build of this page. Run ' +
        '`npm install @tensorflow/tfjs-backend-webgpu@4`, and build again.',
    );
  }
  if (tf.getKernelsForBackend('webgpu').length === 0) {
    throw new UnavailableError(`The package "@tensorflow/tfjs-backend-webgpu" uses another copy of tfjs. ${ONE_COPY}.`);
  }
  return loaded.WebGPUBackend;
}
