/**
 * Whether the program has chosen a backend. tfjs does not tell: it selects a default at the first tensor, under the
 * same name as one that was set.
 */
import * as tf from '@tensorflow/tfjs';

/** Private parts of tfjs' engine. */
interface Engine {
  /** Empty until a backend is in use; null after it was removed. */
  backendName: string | null;
  backendInstance: {firstUse?: boolean} | null;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  initializeBackendsAndReturnBest(): object;
}

const engine = tf.engine() as unknown as Engine;
const {setBackend, ready, initializeBackendsAndReturnBest} = engine;

/** A backend that is in use before this file is imported may have been set. */
let chosen = Boolean(engine.backendName);
/** Whether the next call of `setBackend` is tfjs' own, for its default. */
let isDefault = false;
/** Calls of `tf.ready` that are running: it may set tfjs' default. */
let readying = 0;
let choosing: Promise<unknown> = Promise.resolve();

engine.setBackend = name => {
  if (!isDefault && readying === 0) chosen = true;
  isDefault = false;
  const done = setBackend.call(engine, name);
  // On its first use in Node, tfjs' CPU backend recommends another package, which would not help here.
  if (engine.backendInstance?.firstUse) engine.backendInstance.firstUse = false;
  return done;
};
engine.initializeBackendsAndReturnBest = () => {
  const best = initializeBackendsAndReturnBest.call(engine);
  isDefault = true;
  return best;
};
engine.ready = async () => {
  readying++;
  try {
    await ready.call(engine);
  } finally {
    readying--;
  }
};

/** Runs a function that chooses a backend. */
export function chosenWhile<T>(choose: () => Promise<T>): Promise<T> {
  const running = choose();
  choosing = running.catch(() => {});
  return running;
}

/**
 * Whether the program has chosen a backend, by `useBackend` or `tf.setBackend`, that is still there. Waits for a call of
 * `useBackend` that is running.
 */
export async function hasChosen(): Promise<boolean> {
  await choosing;
  return chosen && Boolean(engine.backendName);
}
