/**
 * The `simd` backend: WebAssembly SIMD on any CPU, in Node and browsers, and plain JavaScript where SIMD is missing.
 */
import * as tf from '@tensorflow/tfjs';
import {type Backend} from '../backend';
import {createSimdBackend, isUsable} from './create_backend';
import {hasSimd} from './engine/has_simd';
import {type SimdOptions} from './engine/options';
import {SimdEngine} from './engine/simd_engine';

export {type SimdOptions} from './engine/options';

export const simd = {
  name: 'simd',
  options: ['threads', 'relaxed', 'wide'] satisfies (keyof SimdOptions)[],
  unavailable: async () => undefined,
  preferred: hasSimd,
  use: async (options: SimdOptions) => {
    // One after another: of two backends that are created at once, tfjs would keep one, and the other's threads.
    const done = running.then(() => useOnce(options));
    running = done.catch(() => {});
    await done;
  },
  details: async () => {
    if (!hasSimd()) return 'without WebAssembly SIMD: plain JavaScript, one thread';
    const engine = await SimdEngine.create();
    const {threads, level, wide, shared} = engine;
    await engine.dispose();
    const instructions = level === 'relaxed' ? 'relaxed SIMD' : 'plain SIMD';
    const vectors = wide ? ' and vectors of 256 bits' : '';
    const note = shared ? '' : ' (memory cannot be shared here)';
    return `WebAssembly with ${instructions}${vectors}, ${threads} thread${threads > 1 ? 's' : ''}${note}`;
  },
} as const satisfies Backend;

let running: Promise<void> = Promise.resolve();
/** The options of the last engine, which its successor gets if it dies. */
let lastOptions: SimdOptions = {};

async function useOnce(options: SimdOptions): Promise<void> {
  if (Object.keys(options).length > 0) {
    await createWithThreads(options);
    lastOptions = options;
  } else if (!isUsable('simd')) {
    await createWithThreads(lastOptions);
  }
  await tf.setBackend('simd');
}

/** Falls back to one thread if no number of threads was given: a page may forbid workers. */
async function createWithThreads(options: SimdOptions): Promise<void> {
  try {
    await createSimdBackend(options);
  } catch (error) {
    if (options.threads !== undefined) throw error;
    await createSimdBackend({...options, threads: 1});
  }
}
