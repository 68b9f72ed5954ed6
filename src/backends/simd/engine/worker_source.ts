/**
 * The code of the engine's worker threads, as text for `startThread`. It is text because not every bundler would find a
 * separate file of this package. It imports nothing.
 */
import {
  BANK,
  COMMAND,
  ELSEWHERE,
  FAILED,
  GENERATION,
  IDLE,
  RECEIVE,
  SCRATCH,
  SLEEPERS,
  WAIT_MILLISECONDS,
} from '../assembly/numbers';

/** The module follows as a message: a thread starts while it is compiled. */
export interface WorkerData {
  /** Bank 0. Further banks arrive as messages, each announced by the command RECEIVE. */
  memory: WebAssembly.Memory;
  thread: number;
  threads: number;
  /** How many times a thread polls for a command before it sleeps, while that finds commands. */
  polls: number;
}

/**
 * Where other programs keep the cores busy, a thread can share a core with the one that gives the commands: no command
 * can come while it polls. So once it has polled in vain, it sleeps at once, and polls again only every so many times, to
 * find out whether that has changed.
 */
const RETRY = 32;

export const WORKER_SOURCE = `({memory, thread, threads, polls}, {ready, receive, end}) => {
  const control = new Int32Array(memory.buffer, 0, ${SCRATCH / 4});
  let module;
  const banks = [];
  const controls = [];
  const add = memory => {
    const words = new Int32Array(memory.buffer, 0, ${SCRATCH / 4});
    const wait = (word, value) => void Atomics.wait(words, word, value, ${WAIT_MILLISECONDS});
    const wake = word => void Atomics.notify(words, word);
    controls.push(words);
    const kernels = new WebAssembly.Instance(module, {env: {memory}, threads: {wait, wake}}).exports;
    kernels.start(thread, threads);
    banks.push(kernels);
  };
  let last = 0;
  // How many times in a row polling found nothing.
  let vain = 0;
  const serve = () => {
    for (;;) {
      const reason = banks[0].serve(vain % ${RETRY} === 0 ? polls : 1);
      if (reason === ${IDLE}) {
        // The first command since the last sleep ended that sleep. The others were found by polling.
        vain = ((banks[0].seen() - last) | 0) > 1 ? 0 : vain + 1;
        last = banks[0].seen();
        // The publisher reads SLEEPERS after it changes the generation, so either it sees this thread or the wait
        // returns.
        Atomics.add(control, ${SLEEPERS / 4}, 1);
        Atomics.wait(control, ${GENERATION / 4}, banks[0].seen());
        Atomics.sub(control, ${SLEEPERS / 4}, 1);
      } else if (reason === ${ELSEWHERE}) {
        banks[control[${BANK / 4}]].execute(control[${COMMAND / 4}]);
      } else {
        return reason === ${RECEIVE} ? receive(addAndServe) : end();
      }
    }
  };
  const addAndServe = memory => {
    try {
      add(memory);
      if (banks.length === 1) ready();
      serve();
    } catch (error) {
      // Another thread may be waiting for this one in any of the banks.
      for (const words of controls) Atomics.store(words, ${FAILED / 4}, 1);
      throw error;
    }
  };
  receive(compiled => {
    module = compiled;
    addAndServe(memory);
  });
}`;
