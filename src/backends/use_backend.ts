/** Selects and describes backends. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../base/errors';
import {backends} from './all';

type OwnName = (typeof backends)[number]['name'];
export type BackendName = 'auto' | OwnName;

/** Options that `useBackend` takes for a backend; for "auto" those of any backend. */
export type BackendOptions<Name extends BackendName = 'auto'> = Name extends OwnName
  ? Parameters<Extract<(typeof backends)[number], {name: Name}>['use']>[0]
  : object;

const names: readonly OwnName[] = backends.map(({name}) => name);

/** Names that `useBackend` accepts: "auto", then the backends, best first. */
export const backendNames: readonly BackendName[] = ['auto', ...names];

/**
 * Selects the backend. Call it once, before creating the first model. "auto" selects the best one that works here. If
 * options are given, an existing backend is recreated and its tensors are lost. A backend that can no longer compute,
 * because a thread died or `tf.engine().reset()` ended it, is also recreated, with its old options.
 *
 * @returns the name of the backend in use.
 * @throws ValueError for an unknown name, an unknown or invalid option, or a backend that cannot be used here, with the
 * reason. The backend in use then stays as it is.
 */
export async function useBackend<Name extends BackendName = 'auto'>(
  name: Name = 'auto' as Name,
  options: BackendOptions<Name> = {} as BackendOptions<Name>,
): Promise<string> {
  if (!backendNames.includes(name)) {
    throw new ValueError(
      `Expected a backend: "auto", ${names.map(show).join(', ')}. Received: ${show(name)}. To choose a backend of tfjs ` +
        'itself, use `tf.setBackend`.',
    );
  }
  let reasons = '';
  for (const backend of backends) {
    if (name === 'auto' ? !backend.preferred() : backend.name !== name) continue;
    const reason = await backend.unavailable();
    if (reason === undefined) {
      checkKeys(`Backend "${backend.name}"`, options as object, backend.options);
      await backend.use(options as object);
      await tf.ready();
      return backend.name;
    }
    reasons += ` ${backend.name}: ${reason}`;
  }
  throw new ValueError(`Backend ${show(name)} cannot be used here.${reasons}`);
}

/** A backend as `describeBackends` reports it. */
export interface BackendDescription {
  name: OwnName;
  available: boolean;
  /** How it would compute, or why it cannot. */
  details: string;
}

/** Describes all backends, best first: which work here, and why the others do not. */
export async function describeBackends(): Promise<BackendDescription[]> {
  return Promise.all(
    backends.map(async backend => {
      const reason = await backend.unavailable();
      return {name: backend.name, available: reason === undefined, details: reason ?? (await backend.details())};
    }),
  );
}
