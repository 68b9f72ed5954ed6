/** Options of the engine, and their checks. */
import {checkArgument} from '../../../base/checks';
import {show, ValueError} from '../../../base/errors';
import {MAX_THREADS} from '../assembly/numbers';

/** Default size limit of a memory in pages of 64 kB: one page less than 4 GiB. */
export const MAXIMUM_PAGES = 65_535;

/** From 1 to 32. Any number is accepted by the compiler, such as the number of cores, and checked when it is used. */
export type ThreadCount =
  | 1
  | 2
  | 3
  | 4
  | 5
  | 6
  | 7
  | 8
  | 9
  | 10
  | 11
  | 12
  | 13
  | 14
  | 15
  | 16
  | 17
  | 18
  | 19
  | 20
  | 21
  | 22
  | 23
  | 24
  | 25
  | 26
  | 27
  | 28
  | 29
  | 30
  | 31
  | 32
  | (number & {});

/** Options of `useBackend('simd', …)`. */
export interface SimdOptions {
  /**
   * Number of threads, including the calling one: from 1 to 32. Defaults to the number of cores, at most 8, and to 1
   * where threads are refused. Always 1 where memory cannot be shared.
   */
  threads?: ThreadCount;
  /** Use relaxed SIMD. Defaults to true where it is available and passes a test at startup. */
  relaxed?: boolean;
  /**
   * Run matrix products on tiles for 256-bit vectors. On x64, Node 24 and later can compile WebAssembly to such vectors
   * with a V8 flag, which is set unless this is false. Defaults to whether these tiles are faster in a trial at
   * startup.
   */
  wide?: boolean;
}

export interface SimdEngineOptions extends SimdOptions {
  /** The memory of bank 0; several threads need a shared one. Its maximum may be 65,536 pages. */
  memory?: WebAssembly.Memory;
  /**
   * Size limit of each memory that the engine creates, in pages of 64 kB. Defaults to 65,535, one page less than 4 GiB.
   */
  maximumPages?: number;
  /**
   * The kernel for products of one row with int8, by its number in `assembly/numbers.ts`. Defaults to the fastest one
   * that gives right results here.
   */
  int8Kernel?: number;
  /** Multiply bytes in products of many rows with int8 and int4. Defaults to whether that is right and faster here. */
  byteTiles?: boolean;
  /**
   * Otherwise multiply 16-bit integers, even where there are wide tiles for float32. Defaults to whether that is faster
   * here.
   */
  wordTiles?: boolean;
  /**
   * Read the weights of products with one row ahead. Defaults to whether that is faster in the first large products, so
   * it may change meanwhile.
   */
  readAhead?: boolean;
  /** The most memories that the engine may have, including those from `addBank`. Unlimited by default. */
  maximumBanks?: number;
}

/** @throws ValueError on options that no engine can have. */
export function checkSimdOptions({threads, relaxed, wide}: SimdOptions): void {
  if (threads !== undefined && !(Number.isInteger(threads) && threads >= 1 && threads <= MAX_THREADS)) {
    throw new ValueError(
      `Backend "simd" expected \`threads\` as a whole number from 1 to ${MAX_THREADS}. Received: ` +
        `threads=${show(threads)}. Leave it out for the number of cores, at most 8.`,
    );
  }
  for (const [name, value] of Object.entries({relaxed, wide})) {
    if (value !== undefined) checkArgument('Backend "simd"', name, value, 'flag');
  }
}
