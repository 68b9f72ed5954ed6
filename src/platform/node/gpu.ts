/** WebGPU in Node, from the optional package "webgpu", which is Dawn, the implementation of Chrome. */
import {type Gpu} from '../contract';

/** The parts of the package that are used here. */
interface Dawn {
  create(options: string[]): object;
  globals: object;
}

/** Loads an optional package by name. A parameter hides the name from bundlers. */
async function load<T>(name: string): Promise<T | undefined> {
  let loaded: T & {default?: T};
  try {
    loaded = (await import(/* webpackIgnore: true */ /* @vite-ignore */ name)) as T & {default?: T};
  } catch (error) {
    const {code, message} = error as NodeJS.ErrnoException;
    const missing = code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND';
    if (missing && message.includes(`'${name}'`)) return undefined;
    throw error;
  }
  // Node finds some exports of a CommonJS package only in the default export.
  return loaded.default ? {...loaded.default, ...loaded} : loaded;
}

/** Creates `navigator.gpu` the first time: tfjs' backend looks for it there. */
export async function findGpu(): Promise<object | undefined> {
  const known = (globalThis.navigator as {gpu?: object} | undefined)?.gpu;
  if (known) return known;
  const dawn = await load<Dawn>('webgpu');
  if (!dawn) return undefined;
  const gpu = dawn.create([]);
  Object.assign(globalThis, dawn.globals);
  // Node 20 has no navigator.
  if (!globalThis.navigator) Object.defineProperty(globalThis, 'navigator', {value: {}, configurable: true});
  Object.defineProperty(globalThis.navigator, 'gpu', {value: gpu, configurable: true});
  return gpu;
}

export const whyNoGpu = 'Node has no WebGPU of its own. Run `npm install webgpu`.';

export const loadTfjsBackend = () => load<object>('@tensorflow/tfjs-backend-webgpu');

/**
 * Whether programs that do not choose a backend may get one on a GPU. In Node, the package would keep these programs
 * from ending.
 */
export const chosenByDefault = false;

void ({findGpu, whyNoGpu, loadTfjsBackend, chosenByDefault} satisfies Gpu);
