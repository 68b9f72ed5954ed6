/**
 * The `simd` backend: WebAssembly SIMD on any CPU, in Node and browsers, and plain JavaScript where SIMD is missing.
 */
import * as tf from '@tensorflow/tfjs';
import {type Backend} from '../backend';
import {createSimdBackend} from './create_backend';
import {hasSimd} from './engine/has_simd';
import {SimdEngine, type SimdOptions} from './engine/simd_engine';

export {type SimdOptions} from './engine/simd_engine';

export const simd = {
  name: 'simd',
  options: ['threads', 'relaxed', 'wide'] satisfies (keyof SimdOptions)[],
  unavailable: async () => undefined,
  preferred: hasSimd,
  use: async (options: SimdOptions) => {
    const hasOptions = Object.keys(options).length > 0;
    const exists = Boolean(tf.findBackendFactory('simd'));
    if (exists && hasOptions) tf.removeBackend('simd');
    if (!exists || hasOptions) await createWithThreads(options);
    await tf.setBackend('simd');
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

/** Falls back to one thread if no number of threads was given: a page may forbid workers. */
async function createWithThreads(options: SimdOptions): Promise<void> {
  try {
    await createSimdBackend(options);
  } catch (error) {
    if (options.threads !== undefined) throw error;
    await createSimdBackend({...options, threads: 1});
  }
}
