/**
 * Chooses between narrow and wide tiles for matrix products (`assembly/parts/tile.ts`). Both compute the same sums.
 * Whether the JavaScript engine compiles wide tiles to wide vectors cannot be queried, so both are timed.
 */
import {type Kernels} from './bank';
import {trials} from './trials';

/** Repetitions in one measurement, about 0.2 ms. */
const TIMES = 20;
/** Rows of a narrow and of a wide tile. */
const ROWS = [4, 5];

/** Whether wide tiles are clearly faster. Takes about 30 ms. */
export async function wideIsFaster(kernels: Kernels): Promise<boolean> {
  const times = await trials(ROWS.map((_, wide) => () => kernels.tryTiles(wide === 1, TIMES)));
  const [narrow, wide] = times.map((time, i) => time / ROWS[i]!);
  return wide! < 0.8 * narrow!;
}
