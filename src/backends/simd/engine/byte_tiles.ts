/**
 * Chooses the kernel for products of many rows with int8 and int4: in bytes (`assembly/parts/byte_tile.ts`), or else on
 * wide tiles in float32, or in 16-bit integers. Bytes are fast only where the processor has an instruction for them,
 * and some compilers get that wrong.
 */
import {type Kernels} from './bank';
import {trials} from './trials';

/** Repetitions in one measurement, about 0.2 ms. */
const TIMES = 500;
/** Products in a repetition, relative to each other: 5 rows by 8 columns, or by 16 on wide tiles. */
const BYTE_TILE = 40;
const WIDE_TILE = 80;
/**
 * Bytes may take this much longer. Without a dedicated instruction, they take twice as long. With one, they gain more
 * than a trial shows: the trial runs alone, but two threads on one core share its multiplication units.
 */
const MOST = 1.1;

/**
 * Whether bytes give correct results and are no slower than the other kernel, which depends on `wide`. Takes about 30
 * ms.
 */
export async function bytesAreFaster(kernels: Kernels, wide: boolean | Promise<boolean>): Promise<boolean> {
  let right = true;
  const [wideTime, words, bytes] = await trials([
    () => kernels.tryTiles(true, TIMES),
    () => void kernels.tryIntegerTiles(false, TIMES),
    () => {
      if (right && !kernels.tryIntegerTiles(true, TIMES)) right = false;
    },
  ]);
  const other = (await wide) ? wideTime! / WIDE_TILE : words! / BYTE_TILE;
  return right && bytes! / BYTE_TILE < MOST * other;
}
