/** Creates the backend, or keeps the existing one, and makes it tfjs' current one. */
import * as tf from '@tensorflow/tfjs';
import {warnOnce} from '../../base/warn_once';
import {createSimdBackend, isUsable} from './create_backend';
import {type SimdOptions} from './engine/options';
import {startEngine} from './engine/start_engine';
import {type SimdBackend} from './memory/simd_backend';

export {whyNoSimd} from './engine/available';

let running: Promise<void> = Promise.resolve();
/** The options of the last engine, which its successor gets if it dies. */
let lastOptions: SimdOptions = {};

/**
 * One call after another: if two backends were created at once, tfjs would keep only one, but the threads of both would
 * run.
 */
export async function useSimd(options: SimdOptions): Promise<void> {
  const done = running.then(() => useOnce(options));
  running = done.catch(() => {});
  await done;
}

async function useOnce(options: SimdOptions): Promise<void> {
  if (Object.keys(options).length > 0) {
    await create(options);
    lastOptions = options;
  } else if (!isUsable('simd')) {
    await create(lastOptions);
  }
  await tf.setBackend('simd');
}

async function create(options: SimdOptions): Promise<void> {
  const {engine} = await createSimdBackend(options);
  if (engine.limits.length) warnOnce(`The backend "simd" is limited here. ${engine.limits.join(' ')}`);
}

export async function simdDetails(): Promise<string> {
  const engine = isUsable('simd') ? undefined : await startEngine();
  const {threads, level, wide, shared, limits} = engine ?? (tf.findBackend('simd') as unknown as SimdBackend).engine;
  await engine?.dispose();
  const instructions = level === 'relaxed' ? 'relaxed SIMD' : 'plain SIMD';
  const vectors = wide ? ' and 256-bit vectors' : '';
  const note = shared || limits.length ? '' : ' (memory cannot be shared here)';
  const count = `${threads} thread${threads > 1 ? 's' : ''}`;
  return [`WebAssembly with ${instructions}${vectors}, ${count}${note}`, ...limits].join('. ');
}
