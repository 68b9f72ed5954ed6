/**
 * Chooses the kernel for products of one row with int8 (`assembly/parts/int8_row.ts`). All produce the same bits where
 * the processor's instruction suits them. A trial shows whether it does, and which kernel is fastest.
 */
import {INT8_SIGNED_BYTES, INT8_UNSIGNED_BYTES, INT8_WORDS} from '../assembly/numbers';
import {type Kernels} from './bank';
import {trials} from './trials';

const KERNELS = [INT8_WORDS, INT8_UNSIGNED_BYTES, INT8_SIGNED_BYTES];
/** Repetitions in one measurement, about 0.3 ms: with other work on the machine, shorter ones show no difference. */
const TIMES = 500;
/** A kernel must take at most this fraction of the time of the 16-bit one to replace it. */
const CLEARLY = 0.9;

/** Takes about 30 ms. */
export async function fastestInt8Kernel(kernels: Kernels): Promise<number> {
  const right = new Set(KERNELS);
  const times = await trials(
    KERNELS.map(kernel => () => {
      if (right.has(kernel) && !kernels.tryInt8Kernel(kernel, TIMES)) right.delete(kernel);
    }),
  );
  const [words, ...others] = times;
  let fastest = INT8_WORDS;
  let least = CLEARLY * words!;
  others.forEach((time, i) => {
    const kernel = KERNELS[i + 1]!;
    if (!right.has(kernel) || time >= least) return;
    fastest = kernel;
    least = time;
  });
  return fastest;
}
