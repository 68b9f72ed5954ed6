/**
 * What a thread of the engine runs: the text of a function of its data, given by `startThread`. It is text because a
 * package has no file of its own that every bundler would find; it imports nothing.
 */
import {FAILED, GENERATION, NAP, SLEEPERS} from './assembly/numbers';

export interface WorkerData {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  thread: number;
  threads: number;
  /** How often a thread looks for a command before it sleeps. */
  polls: number;
}

export const WORKER_SOURCE = `(data, ready) => {
  const {module, memory, thread, threads, polls} = data;
  const control = new Int32Array(memory.buffer, 0, 1024);
  try {
    const nap = () => void Atomics.wait(control, ${NAP / 4}, 0, 0.1);
    const kernels = new WebAssembly.Instance(module, {env: {memory}, threads: {nap}}).exports;
    kernels.start(thread, threads);
    ready();
    while (kernels.serve(polls)) {
      // Whoever publishes a command looks here after it changed the generation: one of both sees the other.
      Atomics.add(control, ${SLEEPERS / 4}, 1);
      Atomics.wait(control, ${GENERATION / 4}, kernels.seen());
      Atomics.sub(control, ${SLEEPERS / 4}, 1);
    }
  } catch (error) {
    Atomics.store(control, ${FAILED / 4}, 1);
    throw error;
  }
}`;
