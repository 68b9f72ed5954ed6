/** A bank: one WebAssembly memory of at most 4 GiB, with this thread's instance of the kernels on it. */
import {ARGUMENTS, SCRATCH, SCRATCH_BYTES, WAIT_MILLISECONDS} from '../assembly/numbers';

export const PAGE = 65536;

/** Exports of the WebAssembly module that the main thread uses. */
export interface Kernels {
  start(thread: number, threads: number): void;
  execute(command: number): void;
  selfTest(factor: number): number;
  tryTiles(wide: boolean, times: number): void;
  tryInt8Kernel(kernel: number, times: number): number;
  tryIntegerTiles(bytes: boolean, times: number): number;
}

/** Bytes at the start of a bank that belong to the engine: a control block and scratch memory for each thread. */
export function staticBytes(threads: number): number {
  return Math.ceil((SCRATCH + threads * SCRATCH_BYTES) / PAGE) * PAGE;
}

export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const control = new Int32Array(memory.buffer, 0, SCRATCH / 4);
  const wait = (word: number, value: number) => {
    try {
      Atomics.wait(control, word, value, WAIT_MILLISECONDS);
    } catch {
      // The main thread of a page may not sleep, so it polls.
      const end = performance.now() + WAIT_MILLISECONDS;
      while (Atomics.load(control, word) === value && performance.now() < end);
    }
  };
  const wake = (word: number) => void Atomics.notify(control, word);
  const imports = {env: {memory}, threads: {wait, wake}};
  return new WebAssembly.Instance(module, imports).exports as unknown as Kernels;
}

export class Bank {
  private view = new Int32Array(0);

  constructor(
    readonly memory: WebAssembly.Memory,
    readonly kernels: Kernels,
  ) {}

  /** Growing an unshared memory detaches its views, which then have length 0. */
  get control(): Int32Array {
    if (this.view.length === 0) this.view = new Int32Array(this.memory.buffer, 0, SCRATCH / 4);
    return this.view;
  }

  setArguments(args: readonly number[]): void {
    const {control} = this;
    const at = ARGUMENTS / 4;
    for (let i = 0; i < args.length; i++) control[at + i] = args[i]!;
  }
}
