/** Selects and describes backends. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../base/errors';
import {backends} from './all';
import {type Backend, UnavailableError} from './backend';
import {chosenWhile} from './choice';
import {warnOnce} from '../base/warn_once';

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
 * Selects the backend. Call it once, before creating the first model. "auto" selects the best one that works here, and
 * warns if that is not the fastest because the platform refuses something: WebAssembly, memory, threads. If options are
 * given, an existing backend is recreated and its tensors are lost. A backend that can no longer compute,
 * because a thread died or `tf.engine().reset()` ended it, is also recreated, with its old options.
 *
 * @returns the name of the backend in use.
 * @throws ValueError for an unknown name, an unknown or invalid option, or a backend that cannot be used here, with the
 * reason. The backend in use then stays as it is.
 */
export async function useBackend<Name extends BackendName = 'auto'>(
  name: Name = 'auto' as Name,
  options: BackendOptions<Name> = {} as BackendOptions<Name>,
): Promise<OwnName> {
  return chosenWhile(() => select(name, options as object));
}

async function select(name: BackendName, options: object): Promise<OwnName> {
  if (!backendNames.includes(name)) {
    throw new ValueError(
      `Expected a backend: "auto", ${names.map(show).join(', ')}. Received: ${show(name)}. To choose a backend of tfjs ` +
        'itself, use `tf.setBackend`.',
    );
  }
  const candidates: readonly (Backend & {readonly name: OwnName})[] = backends.filter(
    one => name === 'auto' || one.name === name,
  );
  const known = [...new Set(candidates.flatMap(one => one.options))];
  checkKeys(name === 'auto' ? 'useBackend' : `Backend "${name}"`, options, known);
  let reasons = '';
  let others = '';
  for (const backend of candidates) {
    if (name === 'auto' && !(await backend.preferred())) continue;
    const lacking = unknownOptions(backend, options);
    if (name === 'auto' && lacking) {
      // "auto" with options selects a backend that has these options, so other backends need no warning.
      others += ` ${backend.name}: ${lacking}`;
      continue;
    }
    const reason = (await whyNot(backend, options)) ?? (await tryToUse(backend, options));
    if (reason === undefined) {
      await tf.ready();
      if (reasons) warnOnce(`The backend is ${show(backend.name)}, because faster ones cannot be used here.${reasons}`);
      return backend.name;
    }
    reasons += ` ${backend.name}: ${reason}`;
  }
  throw new ValueError(`Backend ${show(name)} cannot be used here.${reasons}${others}`);
}

/** The reason why a backend cannot take these options; undefined if it can. */
function unknownOptions(backend: Backend, options: object): string | undefined {
  const unknown = Object.keys(options).filter(key => !backend.options.includes(key));
  return unknown.length ? `it has no option ${unknown.join(', ')}.` : undefined;
}

const whyNot = async (backend: Backend, options: object): Promise<string | undefined> =>
  (await backend.unavailable()) ?? unknownOptions(backend, options);

/** Uses a backend. Returns the reason if it cannot be used here. */
async function tryToUse(backend: Backend, options: object): Promise<string | undefined> {
  try {
    await backend.use(options);
    return undefined;
  } catch (error) {
    if (error instanceof UnavailableError) return error.message;
    throw error;
  }
}

/** The backend in use; undefined if it is not one of this package's. */
export function backendInUse(): OwnName | undefined {
  const inUse = tf.getBackend();
  return (backends as readonly (Backend & {readonly name: OwnName})[]).find(
    ({name, tfjsName = name}) => tfjsName === inUse,
  )?.name;
}

/** A backend as `describeBackends` reports it. */
export interface BackendDescription {
  name: OwnName;
  available: boolean;
  /** How it would compute, or why it cannot. */
  details: string;
}

/** Describes all backends, best first: which work here, and why the others do not. Never throws. */
export async function describeBackends(): Promise<BackendDescription[]> {
  return Promise.all(
    backends.map(async backend => {
      try {
        const reason = await backend.unavailable();
        return {name: backend.name, available: reason === undefined, details: reason ?? (await backend.details())};
      } catch (error) {
        return {name: backend.name, available: false, details: (error as Error).message};
      }
    }),
  );
}
