/**
 * Chooses the kernel for products of many rows with int8 and int4: in bytes (`assembly/parts/byte_tile.ts`), in 16-bit
 * integers (`assembly/parts/integer_tile.ts`), or in float32 on wide tiles. Bytes are fast only where the processor has
 * an instruction for them, and some compilers get that wrong.
 */
import {type Kernels} from './bank';
import {trials} from './trials';

/** Repetitions in one measurement, about 0.2 ms. */
const TIMES = 500;
// Products in a repetition, relative to each other.
/** Tiles of 5 rows by 8 columns. */
const BYTE_TILE = 40;
/** Five rows take two tiles of 4 by 8. */
const WORD_TILES = 64;
/** Tiles of 5 rows by 16 columns. */
const WIDE_TILE = 80;
/**
 * Bytes may take this much longer. Without a dedicated instruction, they take twice as long. With one, they gain more
 * than a trial shows: the trial runs alone, but two threads on one core share its multiplication units.
 */
const MOST = 1.1;

/** See `SimdEngineOptions`. */
export interface IntegerTiles {
  readonly byteTiles: boolean;
  readonly wordTiles: boolean;
}

/** Finds the fastest kernel that gives correct results. Without wide tiles, float32 is never faster. Takes about 30 ms. */
export async function fastestTiles(kernels: Kernels, wide: boolean | Promise<boolean>): Promise<IntegerTiles> {
  let right = true;
  const times = await trials([
    () => kernels.tryTiles(true, TIMES),
    () => void kernels.tryIntegerTiles(false, TIMES),
    () => {
      if (right && !kernels.tryIntegerTiles(true, TIMES)) right = false;
    },
  ]);
  const floats = (await wide) ? times[0]! / WIDE_TILE : Infinity;
  const words = times[1]! / WORD_TILES;
  const bytes = times[2]! / BYTE_TILE;
  return {wordTiles: words < floats, byteTiles: right && bytes < MOST * Math.min(words, floats)};
}
