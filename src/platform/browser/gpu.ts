/** WebGPU in browsers. */
import {type Gpu} from '../contract';

export const findGpu = async (): Promise<object | undefined> =>
  (globalThis.navigator as {gpu?: object} | undefined)?.gpu;

export const whyNoGpu =
  'This page has no WebGPU. Update the browser, or switch WebGPU on in it; the page must come from https or localhost.';

/** Bundlers that do not find an optional package only warn about it if its import is in a `try` block. */
export async function loadTfjsBackend(): Promise<object | undefined> {
  try {
    return await import('@tensorflow/tfjs-backend-webgpu');
  } catch {
    return undefined;
  }
}

export const chosenByDefault = true;

void ({findGpu, whyNoGpu, loadTfjsBackend, chosenByDefault} satisfies Gpu);
