/** Compares the speed of kernels at start. */

/** Milliseconds before each trial: V8 optimizes a function in the background while it is in use. */
const WAITS = [1, 1, 2, 4, 8, 8, 0, 0, 0, 0, 0, 0];
/** Only this many of the last trials count: enough that one of them runs undisturbed. */
const COUNTED = 8;

/** The shortest time of each candidate, in milliseconds. The candidates run alternately. */
export async function trials(runs: readonly (() => void)[]): Promise<number[]> {
  const times: number[][] = [];
  for (const wait of WAITS) {
    await new Promise(resolve => setTimeout(resolve, wait));
    times.push(runs.map(timeOf));
  }
  return runs.map((_, i) => Math.min(...times.slice(-COUNTED).map(all => all[i]!)));
}

function timeOf(run: () => void): number {
  const start = performance.now();
  run();
  return performance.now() - start;
}
