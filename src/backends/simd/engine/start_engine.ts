/** Starts the best engine that the platform allows: with less memory or one thread where more is refused. */
import {coreCount, spaceLeft} from '#platform/threads';
import {UnavailableError} from '../../backend';
import {whyNoSimd} from './available';
import {PAGE, staticBytes} from './bank';
import {checkSimdOptions, MAXIMUM_PAGES, type SimdEngineOptions} from './options';
import {SimdEngine, ThreadError} from './simd_engine';

const GIB = 2 ** 30 / PAGE;
/** Size limits of a memory that are tried one after another, in pages. */
const SIZES = [MAXIMUM_PAGES, 2 * GIB, GIB, GIB / 2, GIB / 4, GIB / 8];
/** Larger memories on one thread are worth more than several threads on smaller ones: a tensor must fit into one. */
const SMALLEST_SHARED = GIB;

/** Bytes of address space that JavaScript needs in addition to a memory. Without them, the process dies. */
const BESIDE = 2 ** 28;

const FREE =
  'Close other programs or tabs. In Node, raise the limit of the address space (ulimit -v), or start it with ' +
  '--disable-wasm-trap-handler.';
const SHARE =
  'A page must be served with the headers Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy: ' +
  'require-corp.';

/** No memory of this kind is granted. */
class MemoryError extends Error {}
/** No memory at all is granted. */
class NoMemoryError extends MemoryError {}

/** The resources of an engine. */
interface Wanted {
  readonly threads: number;
  readonly shared: boolean;
}

/**
 * Starts an engine. Unless `threads` asks for more than one, it has one thread where threads or shared memory are
 * refused. `SimdEngine.limits` says what it lacks.
 *
 * @throws ValueError on unusable options; UnavailableError where no such engine can run; Error if `relaxed` is true
 * where relaxed SIMD is not available.
 */
export async function startEngine(options: SimdEngineOptions = {}): Promise<SimdEngine> {
  checkSimdOptions(options);
  const reason = whyNoSimd();
  if (reason !== undefined) throw new UnavailableError(reason);
  if (options.memory) return SimdEngine.create(options);
  const canShare = typeof SharedArrayBuffer !== 'undefined';
  const threads = canShare ? (options.threads ?? Math.min(coreCount(), 8)) : 1;
  const required = (options.threads ?? 1) > 1;
  try {
    try {
      const smallest = required || !canShare ? 0 : SMALLEST_SHARED;
      const engine = await startOn({threads, shared: canShare}, smallest, options);
      if (required && !canShare) {
        engine.limits.push(
          `It has one thread instead of ${options.threads}, because memory cannot be shared. ${SHARE}`,
        );
      }
      return engine;
    } catch (error) {
      if (required || !canShare || !isRefusal(error) || error instanceof NoMemoryError) throw error;
      const engine = await startOn({threads: 1, shared: false}, 0, options);
      if (threads > 1) engine.limits.push(`It has one thread. ${error.message}`);
      return engine;
    }
  } catch (error) {
    if (!isRefusal(error)) throw error;
    const otherwise =
      required && !(error instanceof NoMemoryError)
        ? ' Leave out `threads` to use one thread where several are impossible.'
        : '';
    throw new UnavailableError(`${error.message}${otherwise}`, {cause: error});
  }
}

/** Whether the platform refused memory or threads. */
const isRefusal = (error: unknown): error is Error => error instanceof MemoryError || error instanceof ThreadError;

/** @param smallest limits below this number of pages are not tried. */
async function startOn(wanted: Wanted, smallest: number, options: SimdEngineOptions): Promise<SimdEngine> {
  const {threads} = wanted;
  const {memory, maximumPages} = allocate(wanted, smallest, options.maximumPages);
  const engine = await SimdEngine.create({...options, threads, memory, maximumPages});
  if (maximumPages < MAXIMUM_PAGES && options.maximumPages === undefined) {
    engine.limits.push(
      `Its memories have at most ${(maximumPages / GIB) * 1024} MiB each instead of 4 GiB, because larger ones were ` +
        `refused. A tensor must fit into one of them. ${FREE}`,
    );
  }
  return engine;
}

/** @throws MemoryError if no size is granted. */
function allocate({threads, shared}: Wanted, smallest: number, most = MAXIMUM_PAGES): Memory {
  const initial = staticBytes(threads) / PAGE;
  let reason = '';
  for (const maximumPages of [most, ...SIZES.filter(size => size < most && size >= smallest)]) {
    try {
      const memory = new WebAssembly.Memory({initial, maximum: maximumPages, shared});
      const left = spaceLeft();
      if (left >= BESIDE) return {memory, maximumPages};
      reason = `it would leave ${Math.floor(left / 2 ** 20)} MiB of the address space`;
    } catch (error) {
      reason = (error as Error).message;
      // Before it refuses, V8 collects all garbage, which takes a second if much memory is in use.
      if (maximumPages === most) requireAnyMemory(initial);
    }
  }
  throw new MemoryError(`${shared ? 'Shared memory' : 'Memory'} is refused: ${reason}. ${FREE}`);
}

/** @throws NoMemoryError if memory of no size and kind is granted. */
function requireAnyMemory(initial: number): void {
  try {
    new WebAssembly.Memory({initial, maximum: initial});
  } catch (error) {
    throw new NoMemoryError(`Memory is refused: ${(error as Error).message}. ${FREE}`);
  }
}

type Memory = Required<Pick<SimdEngineOptions, 'memory' | 'maximumPages'>>;
