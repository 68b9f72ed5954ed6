/**
 * Which tiles matrix products run on (assembly/tile.ts). Both give the same sums, but whether an engine has vectors for the
 * wide ones cannot be asked, so that both are tried.
 */
import {type Kernels} from './bank';

/** About 0.2 ms. */
const TIMES = 20;
/** Rows of a tile. */
const ROWS = [4, 5];
/** V8 optimizes a function beside while it is used; between the trials it gets these milliseconds for it. */
const WAITS = [1, 1, 2, 4, 8, 8, 0, 0];
/** Only the last trials count. */
const COUNTED = 4;

/** Whether wide tiles are faster, clearly. Takes about 30 ms. */
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
