/** The one switch between backends. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../errors';

export type BackendName = 'auto' | 'cpu';

interface BackendEntry {
  /** Options it takes. */
  readonly options: readonly string[];
  /** Why it cannot be used here; undefined if it can. */
  unavailable(): Promise<string | undefined>;
  use(options: object): Promise<void>;
}

/** In order of preference for "auto". */
const backends: Record<Exclude<BackendName, 'auto'>, BackendEntry> = {
  cpu: {
    options: [],
    unavailable: async () => undefined,
    use: async () => {
      await tf.setBackend('cpu');
    },
  },
};

/**
 * Chooses what computes: call it once, before the first model. "auto" takes the best that works here.
 *
 * @returns the name of the backend in use.
 * @throws ValueError for a name that is not known, or a backend that cannot be used here, saying why.
 */
export async function useBackend(name: BackendName = 'auto', options: object = {}): Promise<string> {
  const names = Object.keys(backends) as (keyof typeof backends)[];
  if (name !== 'auto' && !names.includes(name)) {
    throw new ValueError(`Expected a backend: "auto", ${names.map(show).join(', ')}. Received: ${show(name)}.`);
  }
  let why = '';
  for (const candidate of name === 'auto' ? names : [name]) {
    const entry = backends[candidate];
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
