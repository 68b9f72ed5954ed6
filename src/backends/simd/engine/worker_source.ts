/**
 * What a thread of the engine runs: the text of a function of its data, given by `startThread`. It is text because a
 * package has no file of its own that every bundler would find; it imports nothing.
 */
import {BANK, COMMAND, ELSEWHERE, FAILED, GENERATION, IDLE, NAP, RECEIVE, SLEEPERS} from '../assembly/numbers';

export interface WorkerData {
  module: WebAssembly.Module;
  /** Bank 0. Further ones come as messages, each announced by the command RECEIVE. */
  memory: WebAssembly.Memory;
  thread: number;
  threads: number;
  /** How often a thread looks for a command before it sleeps. */
  polls: number;
}

export const WORKER_SOURCE = `({module, memory, thread, threads, polls}, {ready, receive, end}) => {
  const control = new Int32Array(memory.buffer, 0, 1024);
  const banks = [];
  const controls = [];
  const add = memory => {
    const words = new Int32Array(memory.buffer, 0, 1024);
    const nap = () => void Atomics.wait(words, ${NAP / 4}, 0, 0.1);
    controls.push(words);
    const kernels = new WebAssembly.Instance(module, {env: {memory}, threads: {nap}}).exports;
    kernels.start(thread, threads);
    banks.push(kernels);
  };
  const serve = () => {
    for (;;) {
      const reason = banks[0].serve(polls);
      if (reason === ${IDLE}) {
        // Whoever publishes a command looks here after it changed the generation: one of both sees the other.
        Atomics.add(control, ${SLEEPERS / 4}, 1);
        Atomics.wait(control, ${GENERATION / 4}, banks[0].seen());
        Atomics.sub(control, ${SLEEPERS / 4}, 1);
      } else if (reason === ${ELSEWHERE}) {
        banks[control[${BANK / 4}]].execute(control[${COMMAND / 4}]);
      } else {
        return reason === ${RECEIVE} ? receive(take) : end();
      }
    }
  };
  const take = memory => {
    try {
      add(memory);
      if (banks.length === 1) ready();
      serve();
    } catch (error) {
      // Whoever waits for this thread does so in one of the banks.
      for (const words of controls) Atomics.store(words, ${FAILED / 4}, 1);
      throw error;
    }
  };
  take(memory);
}`;
