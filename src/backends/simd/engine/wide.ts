/**
 * Chooses between narrow and wide tiles for matrix products (`assembly/parts/tile.ts`). Both give the same sums.
 * Whether the JavaScript engine compiles wide tiles to wide vectors cannot be queried, so both are timed.
 */
import {type Kernels} from './bank';

/** Repetitions in one measurement, about 0.2 ms. */
const TIMES = 20;
/** Rows of a narrow and of a wide tile. */
const ROWS = [4, 5];
/** Milliseconds before each trial: V8 optimizes a function in the background while it is in use. */
const WAITS = [1, 1, 2, 4, 8, 8, 0, 0];
/** Only this many of the last trials count. */
const COUNTED = 4;

/** Whether wide tiles are clearly faster. Takes about 30 ms. */
export async function wideIsFaster(kernels: Kernels): Promise<boolean> {
  const times: number[][] = [];
  for (const wait of WAITS) {
    await new Promise(resolve => setTimeout(resolve, wait));
    times.push(ROWS.map((rows, wide) => timeOf(() => kernels.tryTiles(wide === 1, TIMES)) / rows));
  }
  const [narrow, wide] = ROWS.map((_, i) => Math.min(...times.slice(-COUNTED).map(pair => pair[i]!)));
  return wide! < 0.8 * narrow!;
}

function timeOf(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}
