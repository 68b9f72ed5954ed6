/** Chooses the adapter, creates the backend on it, and registers it with tfjs. */
import * as tf from '@tensorflow/tfjs';
import {chosenByDefault} from '#platform/gpu';
import {UnavailableError} from '../backend';
import {adapterName, describeAdapter, isSoftware, requestAdapter} from './adapter';
import {checkWebGpuOptions, type WebGpuOptions} from './options';
import {stockBackendClass} from './stock_backend';
import {type WebGpuBackend} from './webgpu_backend';

/** The reason why no adapter can be used here; undefined if one can. */
export async function whyNoWebGpu(): Promise<string | undefined> {
  try {
    await requestAdapter();
    await stockBackendClass();
    return undefined;
  } catch (error) {
    if (error instanceof UnavailableError) return error.message;
    throw error;
  }
}

/** Only a real GPU, in a browser, whose page has tfjs' package. */
export async function isPreferred(): Promise<boolean> {
  if (!chosenByDefault || (await whyNoWebGpu()) !== undefined) return false;
  return !isSoftware(await requestAdapter());
}

export const webGpuDetails = async (): Promise<string> => describeAdapter(await requestAdapter());

let running: Promise<void> = Promise.resolve();
/** The options of the last backend, which its successor gets if its device is lost. */
let lastOptions: WebGpuOptions = {};

/** One call after another: of two backends that are created at once, tfjs would keep one. */
export async function useWebGpu(options: WebGpuOptions): Promise<void> {
  const done = running.then(() => useOnce(options));
  running = done.catch(() => {});
  await done;
}

async function useOnce(options: WebGpuOptions): Promise<void> {
  if (Object.keys(options).length > 0) {
    checkWebGpuOptions(options);
    await create(options);
    lastOptions = options;
  } else if (!isUsable()) {
    await create(lastOptions);
  }
  await tf.setBackend('webgpu');
}

/** Whether the backend exists and can compute. */
function isUsable(): boolean {
  if (!tf.findBackendFactory('webgpu')) return false;
  const backend = tf.findBackend('webgpu') as Partial<WebGpuBackend> | null;
  return backend?.isGemma3WebGpu === true && !backend.broken && !backend.disposed;
}

async function create(options: WebGpuOptions): Promise<void> {
  const adapter = await requestAdapter(options);
  if (isSoftware(adapter) && !options.software) {
    throw new UnavailableError(
      `The only adapter is ${adapterName(adapter)}, which computes on the CPU. Use the backend "simd", which is faster ` +
        "there, or accept this one: await useBackend('webgpu', {software: true}).",
    );
  }
  const {createWebGpuBackend} = await import('./create_backend');
  await createWebGpuBackend(adapter);
}
