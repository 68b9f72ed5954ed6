/** WebGPU in browsers. */
import {type Gpu} from '../contract';

export const findGpu = async (): Promise<object | undefined> =>
  (globalThis.navigator as {gpu?: object} | undefined)?.gpu;

export const whyNoGpu =
  'This page has no WebGPU. Update the browser, or switch WebGPU on in it; the page must come from https or localhost.';

/** If a bundler does not find an optional package, it only warns if the import is in a `try` block. */
export async function loadTfjsBackend(): Promise<object | undefined> {
  try {
    return await import('@tensorflow/tfjs-backend-webgpu');
  } catch {
    return undefined;
  }
}

export const chosenByDefault = true;

void ({findGpu, whyNoGpu, loadTfjsBackend, chosenByDefault} satisfies Gpu);
