/** Chooses the adapter, creates the backend on it, and registers it with tfjs. */
import * as tf from '@tensorflow/tfjs';
import {chosenByDefault} from '#platform/gpu';
import {UnavailableError} from '../backend';
import {adapterName, describeAdapter, isSoftware, requestAdapter} from './adapter';
import {checkWebGpuOptions, type WebGpuOptions} from './options';
import {stockBackendClass} from './stock_backend';
import {type WebGpuBackend} from './webgpu_backend';
import {type CodeTile} from './wgsl/code_tile';

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

/** The adapter, and which variants of programs the backend has chosen, once it runs. */
export async function webGpuDetails(): Promise<string> {
  const adapter = await describeAdapter(await requestAdapter(lastOptions));
  const backend = usable();
  return backend ? `${adapter}. Variants in use: ${variantsOf(backend).join(', ') || 'none'}` : adapter;
}

const HOW: Record<CodeTile, string> = {f16: 'in float16', dot: 'by packed dot products'};

function variantsOf({lanes, codeTiles}: WebGpuBackend): string[] {
  const prompts = Object.entries(codeTiles).filter(([, tile]) => tile);
  return [
    ...(lanes ? [`tokens in subgroups of ${lanes}`] : []),
    ...prompts.map(([format, tile]) => `prompts in ${format} ${HOW[tile]}`),
  ];
}

let running: Promise<void> = Promise.resolve();
/** The options of the last backend, which its successor gets if its device is lost. */
let lastOptions: WebGpuOptions = {};

/** One call after another: if two backends were created at once, tfjs would keep only one. */
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
  } else if (!usable()) {
    await create(lastOptions);
  }
  await tf.setBackend('webgpu');
}

/** The backend, if it exists and can compute. */
function usable(): WebGpuBackend | undefined {
  if (!tf.findBackendFactory('webgpu')) return undefined;
  const backend = tf.findBackend('webgpu') as Partial<WebGpuBackend> | null;
  return backend?.isGemma3WebGpu && !backend.broken && !backend.disposed ? (backend as WebGpuBackend) : undefined;
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
