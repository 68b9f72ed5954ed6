/** The one switch between backends. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../base/errors';
import {createSimdBackend} from './simd';
import {hasSimd} from './simd/engine/has_simd';
import {SimdEngine} from './simd/engine/simd_engine';

export type BackendName = 'auto' | 'simd' | 'cpu';

/** Options of `useBackend('simd', …)`. */
export interface SimdOptions {
  /**
   * Threads, this one included. Defaults to the number of cores, at most 8; 1 where memory cannot be shared or there is
   * no WebAssembly SIMD.
   */
  threads?: number;
  /** Use relaxed SIMD. Defaults to true where it is there and passes a test at start. */
  relaxed?: boolean;
  /**
   * Run matrix products on tiles for vectors of 256 bits, which V8 makes of WebAssembly's on x64 from Node 24 on, behind a
   * flag that is set for it. Defaults to true where that is faster in a trial at start.
   */
  wide?: boolean;
}

interface BackendEntry {
  /** Options it takes. */
  readonly options: readonly string[];
  /** Why it cannot be used here; undefined if it can. */
  unavailable(): Promise<string | undefined>;
  /** False if "auto" should look further though it can be used. */
  preferred(): boolean;
  use(options: object): Promise<void>;
  /** What is worth knowing of it once it is in use: threads, instruction set. */
  details(): Promise<string>;
}

/** In order of preference for "auto". */
const backends: Record<Exclude<BackendName, 'auto'>, BackendEntry> = {
  simd: {
    options: ['threads', 'relaxed', 'wide'],
    unavailable: async () => undefined,
    preferred: hasSimd,
    use: async options => {
      const given = Object.keys(options).length > 0;
      const there = Boolean(tf.findBackendFactory('simd'));
      if (there && given) tf.removeBackend('simd');
      if (!there || given) await createWithThreads(options as SimdOptions);
      await tf.setBackend('simd');
    },
    details: async () => {
      if (!hasSimd()) return 'without WebAssembly SIMD: plain JavaScript, one thread';
      const engine = await SimdEngine.create();
      const {threads, level, wide, shared} = engine;
      await engine.dispose();
      const simd = level === 'relaxed' ? 'relaxed SIMD' : 'plain SIMD';
      const why = shared ? '' : ' (memory cannot be shared here)';
      const vectors = wide ? ' and vectors of 256 bits' : '';
      return `WebAssembly with ${simd}${vectors}, ${threads} thread${threads > 1 ? 's' : ''}${why}`;
    },
  },
  cpu: {
    options: [],
    unavailable: async () => undefined,
    preferred: () => true,
    use: async () => {
      await tf.setBackend('cpu');
    },
    details: async () => 'plain JavaScript, one thread',
  },
};

/** Names that `useBackend` accepts: "auto", then the backends, best first. */
export const backendNames: readonly BackendName[] = ['auto', ...(Object.keys(backends) as (keyof typeof backends)[])];

/** As many threads as can be had: a page may forbid workers, and then there is this one. */
async function createWithThreads(options: SimdOptions): Promise<void> {
  try {
    await createSimdBackend(options);
  } catch (error) {
    if (options.threads !== undefined) throw error;
    await createSimdBackend({...options, threads: 1});
  }
}

/**
 * Chooses what computes: call it once, before the first model. "auto" takes the best that works here: "simd" where there
 * is WebAssembly SIMD, else "cpu". With new options a backend is made anew, and tensors of the old one are lost.
 *
 * @returns the name of the backend in use.
 * @throws ValueError for a name that is not known, or a backend that cannot be used here, saying why.
 */
export async function useBackend(name: BackendName = 'auto', options: object = {}): Promise<string> {
  const names = Object.keys(backends) as (keyof typeof backends)[];
  if (name !== 'auto' && !names.includes(name)) {
    throw new ValueError(
      `Expected a backend: "auto", ${names.map(show).join(', ')}. Received: ${show(name)}. Backends of tfjs itself are chosen ` +
        'with `tf.setBackend`.',
    );
  }
  let why = '';
  for (const candidate of name === 'auto' ? names : [name]) {
    const entry = backends[candidate];
    if (name === 'auto' && !entry.preferred()) continue;
    const reason = await entry.unavailable();
    if (reason === undefined) {
      checkKeys(`Backend "${candidate}"`, options, entry.options);
      await entry.use(options);
      await tf.ready();
      return candidate;
    }
    why += ` ${candidate}: ${reason}`;
  }
  throw new ValueError(`Backend ${show(name)} cannot be used here.${why}`);
}

/** What `describeBackends` says of one. */
export interface BackendDescription {
  name: Exclude<BackendName, 'auto'>;
  available: boolean;
  /** How it would compute, or why it cannot. */
  details: string;
}

/** Which backends work here, best first, and why the others do not. */
export async function describeBackends(): Promise<BackendDescription[]> {
  const names = Object.keys(backends) as Exclude<BackendName, 'auto'>[];
  return Promise.all(
    names.map(async name => {
      const reason = await backends[name].unavailable();
      return {name, available: reason === undefined, details: reason ?? (await backends[name].details())};
    }),
  );
}
