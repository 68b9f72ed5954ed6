/**
 * Runs the WebAssembly kernels, on several threads where memory can be shared. `./command.ts` describes the commands.
 */
import {enableRelaxedSimd, enableWideSimd} from '#platform/features';
import {coreCount, startThread} from '#platform/threads';
import {type Thread} from '../../../platform/contract';
import {
  BANK,
  BYTE_TILES,
  COMMAND,
  END,
  FAILED,
  GENERATION,
  INT8_KERNEL,
  MAX_ARGUMENTS,
  NOTHING,
  PATIENCE,
  READ_AHEAD,
  RECEIVE,
  SCRATCH,
  SLEEPERS,
  WAIT_MILLISECONDS,
  WIDE,
  WORD_TILES,
} from '../assembly/numbers';
import {hasRelaxedSimd} from './available';
import {Bank, instantiate, PAGE, staticBytes} from './bank';
import {loadBinary} from './binaries';
import {type Choices, chooseKernels} from './choices';
import {checkSimdOptions, MAXIMUM_PAGES, type SimdEngineOptions} from './options';
import {ReadingTrial} from './reading_trial';
import {WORKER_SOURCE, type WorkerData} from './worker_source';

/** A worker polls for about a millisecond before it sleeps. */
const IDLE_POLLS = 1_000_000;
/** How many times a thread sleeps at a barrier before it gives up: about a minute. */
const DEFAULT_PATIENCE = 60_000 / WAIT_MILLISECONDS;

export {type SimdEngineOptions, type SimdOptions} from './options';

/** A thread could not be started. */
export class ThreadError extends Error {}

export class SimdEngine {
  readonly shared: boolean;
  /** Bytes at the start of each memory that belong to the engine; the rest belongs to the user. */
  readonly staticBytes: number;
  /** Bank 0 exists from the start, and its control block carries the commands to the threads. */
  readonly banks: Bank[] = [];
  /** What the platform refused and what to do, in sentences that begin with "It" or "Its". */
  readonly limits: string[] = [];
  private disposed = false;

  private constructor(
    readonly threads: number,
    readonly level: 'relaxed' | 'plain',
    private choices: Choices,
    private readonly module: WebAssembly.Module,
    private readonly options: Required<Pick<SimdEngineOptions, 'memory' | 'maximumPages' | 'maximumBanks'>>,
    private readonly workers: Thread[],
    private readonly reading?: ReadingTrial,
  ) {
    this.shared = isShared(options.memory);
    this.staticBytes = staticBytes(threads);
    this.addInstance(options.memory);
    // A thread that ends unexpectedly never reaches the next barrier.
    for (const worker of workers) void worker.ended.then(() => this.fail());
  }

  /**
   * @throws ValueError on unusable options; ThreadError if a thread cannot be started; Error if `relaxed` is true where
   * relaxed SIMD is not available.
   */
  static async create(options: SimdEngineOptions = {}): Promise<SimdEngine> {
    checkSimdOptions(options);
    const shared = options.memory ? isShared(options.memory) : typeof SharedArrayBuffer !== 'undefined';
    const wanted = options.threads ?? Math.min(coreCount(), 8);
    const threads = shared ? wanted : 1;
    const {maximumPages = MAXIMUM_PAGES, maximumBanks = Infinity} = options;
    const memory = options.memory ?? new WebAssembly.Memory({initial: 1, maximum: maximumPages, shared});
    reserve(memory, staticBytes(threads));
    initialize(memory, DEFAULT_PATIENCE);
    const compiling = chooseModule(shared, memory, options.relaxed);
    const workers: Thread[] = [];
    try {
      // They start while the module is compiled, and during the trials.
      for (let thread = 1; thread < threads; thread++) {
        const data: WorkerData = {memory, thread, threads, polls: IDLE_POLLS};
        workers.push(startThread(WORKER_SOURCE, data));
      }
      const ready = Promise.all(workers.map(worker => worker.ready));
      // It may reject before anything waits for it.
      ready.catch(() => {});
      const {module, level} = await compiling;
      for (const worker of workers) worker.send(module);
      // Wide tiles need V8's flag, also if the caller asked for them.
      const enabled = options.wide !== false && enableWideSimd();
      // Threads read the choices whenever they run a command.
      const choices = await chooseKernels(instantiate(module, memory), level, enabled, options);
      setChoices(memory, choices);
      const limits = {memory, maximumPages, maximumBanks};
      const reading = options.readAhead === undefined ? new ReadingTrial() : undefined;
      const engine = new SimdEngine(threads, level, choices, module, limits, workers, reading);
      await ready;
      return engine;
    } catch (error) {
      // Threads that are ended before they are ready reject.
      for (const worker of workers) worker.ready.catch(() => {});
      await Promise.all(workers.map(worker => worker.kill()));
      // The error of the module, if there is one, is no refusal of threads.
      await compiling;
      throw new ThreadError((error as Error).message, {cause: error});
    }
  }

  /** Whether products run on tiles for 256-bit vectors. */
  get wide(): boolean {
    return this.choices.wide;
  }

  /** The memory of bank 0. */
  get memory(): WebAssembly.Memory {
    return this.banks[0]!.memory;
  }

  /** Bytes that a bank may grow to. */
  get maximumBytes(): number {
    return this.options.maximumPages * PAGE;
  }

  /**
   * Adds another memory, on all threads.
   *
   * @returns undefined if the engine has reached its limit or the memory cannot be allocated.
   * @throws Error under the same conditions as `run`.
   */
  addBank(): Bank | undefined {
    this.checkAlive();
    const {maximumPages: maximum, maximumBanks} = this.options;
    if (this.banks.length >= maximumBanks) return undefined;
    let memory: WebAssembly.Memory;
    try {
      memory = new WebAssembly.Memory({initial: 1, maximum, shared: this.shared});
      reserve(memory, this.staticBytes);
      initialize(memory, this.control[PATIENCE / 4]!);
      setChoices(memory, this.choices);
    } catch {
      return undefined;
    }
    const bank = this.addInstance(memory);
    for (const worker of this.workers) worker.send(memory);
    if (this.workers.length > 0) {
      this.run(RECEIVE, []);
      // Waits until every thread has the memory: in V8, a thread that receives a memory while it grows may see its old
      // size.
      this.run(NOTHING, [], this.banks.length - 1);
    }
    return bank;
  }

  private addInstance(memory: WebAssembly.Memory): Bank {
    const bank = new Bank(memory, instantiate(this.module, memory));
    bank.kernels.start(0, this.threads);
    this.banks.push(bank);
    return bank;
  }

  /**
   * Runs a command in a bank, on all threads, and returns when it is done. The arguments are 32-bit words: pointers and
   * counts as they are, floats converted by `floatBits`.
   *
   * @throws Error if a thread has died. The engine is unusable from then on, and the result may be incomplete.
   */
  run(command: number, args: readonly number[], bank = 0): void {
    if (this.reading && !this.reading.done && ReadingTrial.shows(command, args)) {
      const start = performance.now();
      this.execute(command, args, bank);
      this.reading.add(performance.now() - start);
      this.choices = {...this.choices, readAhead: this.reading.ahead};
      for (const {memory} of this.banks) setChoices(memory, this.choices);
    } else {
      this.execute(command, args, bank);
    }
  }

  private execute(command: number, args: readonly number[], bank: number): void {
    this.checkAlive();
    if (args.length > MAX_ARGUMENTS) {
      throw new RangeError(`Expected at most ${MAX_ARGUMENTS} arguments. Received: ${args.length}.`);
    }
    const target = this.banks[bank]!;
    target.setArguments(args);
    if (this.threads > 1) this.publish(command, bank);
    try {
      target.kernels.execute(command);
    } catch (error) {
      const anotherFailed = target.control[FAILED / 4] !== 0;
      this.fail();
      throw new Error(
        anotherFailed ? DEAD : `SIMD command ${command} failed: ${(error as Error).message}. ${RESTART}`,
        {
          cause: error,
        },
      );
    }
  }

  private publish(command: number, bank: number): void {
    const {control} = this;
    control[COMMAND / 4] = command;
    control[BANK / 4] = bank;
    Atomics.add(control, GENERATION / 4, 1);
    if (Atomics.load(control, SLEEPERS / 4) > 0) Atomics.notify(control, GENERATION / 4);
  }

  private get control(): Int32Array {
    return this.banks[0]!.control;
  }

  private get failed(): boolean {
    return this.control[FAILED / 4] !== 0;
  }

  /** Makes every thread give up, in whichever bank it is waiting. */
  private fail(): void {
    for (const {control} of this.banks) Atomics.store(control, FAILED / 4, 1);
  }

  /** False once the engine has failed or has been disposed of: it never runs a command again. */
  get alive(): boolean {
    return !this.disposed && !this.failed;
  }

  private checkAlive(): void {
    if (this.disposed) throw new Error(DISPOSED);
    if (this.failed) throw new Error(DEAD);
  }

  /** Ends all threads. Without this call they end with the process, which they do not keep alive. */
  async dispose(): Promise<void> {
    if (this.disposed) return;
    this.disposed = true;
    if (this.workers.length === 0) return;
    const {failed} = this;
    if (!failed) this.publish(END, 0);
    await Promise.all(this.workers.map(worker => (failed ? worker.kill() : worker.stop())));
  }
}

const RESTART = 'Call `await useBackend()` to start a new engine.';
const DEAD = `A thread of the SIMD engine died or does not respond. ${RESTART}`;
const DISPOSED =
  'The SIMD engine has been disposed of, by `tf.removeBackend`, `tf.engine().reset()` or `useBackend` with options. ' +
  RESTART;

/** Grows a memory to at least this size. */
function reserve(memory: WebAssembly.Memory, bytes: number): void {
  const missing = bytes - memory.buffer.byteLength;
  if (missing > 0) memory.grow(Math.ceil(missing / PAGE));
}

/** Writes the initial control block. */
function initialize(memory: WebAssembly.Memory, patience: number): void {
  const control = new Int32Array(memory.buffer, 0, SCRATCH / 4).fill(0);
  control[PATIENCE / 4] = patience;
}

function setChoices(memory: WebAssembly.Memory, choices: Choices): void {
  const {wide, int8Kernel, byteTiles, wordTiles, readAhead} = choices;
  const control = new Int32Array(memory.buffer, 0, SCRATCH / 4);
  control[WIDE / 4] = Number(wide);
  control[INT8_KERNEL / 4] = int8Kernel;
  control[BYTE_TILES / 4] = Number(byteTiles);
  control[WORD_TILES / 4] = Number(wordTiles);
  control[READ_AHEAD / 4] = Number(readAhead);
}

function isShared(memory: WebAssembly.Memory): boolean {
  return typeof SharedArrayBuffer !== 'undefined' && memory.buffer instanceof SharedArrayBuffer;
}

async function chooseModule(
  shared: boolean,
  memory: WebAssembly.Memory,
  relaxed: boolean | undefined,
): Promise<{module: WebAssembly.Module; level: 'relaxed' | 'plain'}> {
  if (relaxed !== false) {
    if (!hasRelaxedSimd()) enableRelaxedSimd();
    if (hasRelaxedSimd()) {
      const module = await WebAssembly.compile(await loadBinary(shared, 'relaxed'));
      if (instantiate(module, memory).selfTest(3)) return {module, level: 'relaxed'};
    }
    if (relaxed) {
      throw new Error('Relaxed SIMD is not available here. Omit `relaxed` to use it only where it is available.');
    }
  }
  return {module: await WebAssembly.compile(await loadBinary(shared, 'plain')), level: 'plain'};
}
