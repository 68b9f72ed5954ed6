/** Runs WebAssembly kernels on a memory, on several threads if the memory can be shared. Commands: `./commands.ts`. */
import {coreCount, enableRelaxedSimd, startThread, type Thread} from '#platform';
import {
  ARGUMENTS,
  COMMAND,
  END,
  FAILED,
  GENERATION,
  MAX_ARGUMENTS,
  MAX_THREADS,
  NAP,
  PATIENCE,
  SCRATCH,
  SCRATCH_BYTES,
  SLEEPERS,
} from './assembly/numbers';
import {WASM_BINARIES} from './generated/wasm_binaries';
import {WORKER_SOURCE, type WorkerData} from './worker_source';

export interface SimdEngineOptions {
  /** Defaults to the number of cores, at most 8; always 1 where memory cannot be shared. */
  threads?: number;
  /** Use relaxed SIMD. Defaults to true where it is there and passes a test. */
  relaxed?: boolean;
  /** A memory to work on, shared if more than one thread is wanted. Its maximum may be 65,536 pages. */
  memory?: WebAssembly.Memory;
  /** How far a memory of the engine's own may grow, in pages of 64 kB. Defaults to 65,535: all but the last of 4 GiB. */
  maximumPages?: number;
}

interface Kernels {
  start(thread: number, threads: number): void;
  execute(command: number): void;
  selfTest(): number;
}

const PAGE = 65536;
/** A worker polls about a millisecond for the next command, then sleeps. */
const IDLE_POLLS = 1_000_000;
/** Naps: about a minute. */
const DEFAULT_PATIENCE = 300_000;

export class SimdEngine {
  readonly level: 'relaxed' | 'plain';
  readonly shared: boolean;
  /** Bytes at the start of the memory that belong to the engine; everything behind is the user's. */
  readonly staticBytes: number;
  private disposed = false;

  private constructor(
    readonly memory: WebAssembly.Memory,
    readonly threads: number,
    {level, shared}: {level: 'relaxed' | 'plain'; shared: boolean},
    private readonly kernels: Kernels,
    private readonly workers: Thread[],
  ) {
    this.level = level;
    this.shared = shared;
    this.staticBytes = staticBytes(threads);
  }

  static async create(options: SimdEngineOptions = {}): Promise<SimdEngine> {
    const shared = options.memory ? isShared(options.memory) : typeof SharedArrayBuffer !== 'undefined';
    const wanted = options.threads ?? Math.min(coreCount(), 8);
    const threads = shared ? Math.max(1, Math.min(MAX_THREADS, Math.floor(wanted))) : 1;
    const memory = options.memory ?? newMemory(shared, options.maximumPages ?? PAGE - 1);
    const missing = staticBytes(threads) - memory.buffer.byteLength;
    if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
    new Uint8Array(memory.buffer, 0, SCRATCH).fill(0);
    const {module, level} = await chooseModule(shared, memory, options.relaxed);
    const control = new Int32Array(memory.buffer, 0, SCRATCH / 4);
    control[PATIENCE / 4] = DEFAULT_PATIENCE;

    const workers: Thread[] = [];
    for (let thread = 1; thread < threads; thread++) {
      const data: WorkerData = {module, memory, thread, threads, polls: IDLE_POLLS};
      workers.push(startThread(WORKER_SOURCE, data));
    }
    // A thread that ends on its own will not come to the next barrier.
    for (const worker of workers) void worker.ended.then(() => Atomics.store(control, FAILED / 4, 1));
    try {
      await Promise.all(workers.map(worker => worker.ready));
    } catch (error) {
      await Promise.all(workers.map(worker => worker.stop()));
      throw error;
    }
    const kernels = instantiate(module, memory);
    kernels.start(0, threads);
    return new SimdEngine(memory, threads, {level, shared}, kernels, workers);
  }

  /**
   * Runs a command on all threads and returns when it is done. The arguments are 32-bit words: pointers and counts as
   * they are, floats by `floatBits`.
   *
   * @throws Error if a thread has died: the engine is of no use then, and memory may hold half a result.
   */
  run(command: number, args: readonly number[]): void {
    if (this.disposed) throw new Error('This SIMD engine has been disposed.');
    if (args.length > MAX_ARGUMENTS)
      throw new RangeError(`At most ${MAX_ARGUMENTS} arguments. Received: ${args.length}.`);
    const control = this.control();
    if (control[FAILED / 4] !== 0) throw new Error(DEAD);
    const at = ARGUMENTS / 4;
    for (let i = 0; i < args.length; i++) control[at + i] = args[i]!;
    if (this.threads > 1) this.publish(control, command);
    try {
      this.kernels.execute(command);
    } catch (error) {
      const another = control[FAILED / 4] !== 0;
      control[FAILED / 4] = 1;
      throw new Error(another ? DEAD : `SIMD command ${command} failed: ${(error as Error).message}`, {cause: error});
    }
  }

  private publish(control: Int32Array, command: number): void {
    control[COMMAND / 4] = command;
    Atomics.add(control, GENERATION / 4, 1);
    if (Atomics.load(control, SLEEPERS / 4) > 0) Atomics.notify(control, GENERATION / 4);
  }

  /** Growth replaces the buffer of a memory, so that a view is not to be kept. */
  private control(): Int32Array {
    if (this.view.buffer !== this.memory.buffer) this.view = new Int32Array(this.memory.buffer, 0, SCRATCH / 4);
    return this.view;
  }
  private view = new Int32Array(0);

  /** Ends all threads. Without it they end with the process, which they do not keep alive. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    if (this.workers.length === 0) return;
    const failed = this.control()[FAILED / 4] !== 0;
    if (!failed) this.publish(this.control(), END);
    await Promise.all(this.workers.map(worker => (failed ? worker.kill() : worker.stop())));
  }
}

const DEAD = 'A thread of the SIMD engine died or does not answer. Dispose the engine and make a new one.';

function staticBytes(threads: number): number {
  return Math.ceil((SCRATCH + threads * SCRATCH_BYTES) / PAGE) * PAGE;
}

function isShared(memory: WebAssembly.Memory): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && memory.buffer instanceof SharedArrayBuffer;
}

function newMemory(shared: boolean, maximum: number): WebAssembly.Memory {
  return new WebAssembly.Memory({initial: 1, maximum, shared});
}

function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory): Kernels {
  const control = new Int32Array(memory.buffer, 0, SCRATCH / 4);
  const nap = () => {
    try {
      Atomics.wait(control, NAP / 4, 0, 0.1);
    } catch {
      // A browser's main thread must not sleep.
      for (const end = performance.now() + 0.1; performance.now() < end;);
    }
  };
  return new WebAssembly.Instance(module, {env: {memory}, threads: {nap}}).exports as unknown as Kernels;
}

function bytesOf(name: keyof typeof WASM_BINARIES): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(WASM_BINARIES[name]), char => char.charCodeAt(0));
}

async function chooseModule(
  shared: boolean,
  memory: WebAssembly.Memory,
  relaxed: boolean | undefined,
): Promise<{module: WebAssembly.Module; level: 'relaxed' | 'plain'}> {
  if (relaxed !== false) {
    const bytes = bytesOf(shared ? 'sharedRelaxed' : 'unsharedRelaxed');
    if (!WebAssembly.validate(bytes)) enableRelaxedSimd();
    if (WebAssembly.validate(bytes)) {
      const module = await WebAssembly.compile(bytes);
      if (instantiate(module, memory).selfTest()) return {module, level: 'relaxed'};
    }
    if (relaxed)
      throw new Error('Relaxed SIMD is not available here. Leave `relaxed` out to do without where it is missing.');
  }
  const bytes = bytesOf(shared ? 'sharedPlain' : 'unsharedPlain');
  if (!WebAssembly.validate(bytes)) throw new Error('WebAssembly SIMD is not available here.');
  return {module: await WebAssembly.compile(bytes), level: 'plain'};
}
