/** Structures read at the same time, so that round trips to a remote source overlap. */
const CONCURRENCY = 16;

/** Runs `work` for all items, a few at a time; after a failure starts no more, and waits for those that run. */
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
