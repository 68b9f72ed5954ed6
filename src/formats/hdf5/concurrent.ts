/** Reads that overlap, to hide the round trips to a remote source. */

/** Maximum number of structures read at the same time. */
const CONCURRENCY = 16;

/**
 * Runs `work` for all items, a few at a time. After a failure it starts no more items, waits for those that are
 * running, and rethrows the first error.
 */
export async function forEachConcurrently<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  let index = 0;
  const failures: unknown[] = [];
  const run = async () => {
    while (index < items.length && failures.length === 0) {
      try {
        await work(items[index++] as T);
      } catch (error) {
        failures.push(error);
      }
    }
  };
  await Promise.all(Array.from({length: Math.min(CONCURRENCY, items.length)}, run));
  if (failures.length > 0) throw failures[0];
}
