/**
 * Small values that a browser keeps for this page: permanently, or as long as the tab is open. Some browsers keep
 * nothing.
 */

/**
 * @param of `() => localStorage` or `() => sessionStorage`: accessing these throws where sites may not store anything.
 */
const memoryOf = (of: () => Storage) => ({
  get(key: string): string | undefined {
    try {
      return of().getItem(key) ?? undefined;
    } catch {
      return undefined;
    }
  },
  /** @returns whether it is kept. */
  set(key: string, value: string): boolean {
    try {
      of().setItem(key, value);
      return true;
    } catch {
      return false;
    }
  },
});

export const keptForGood = memoryOf(() => localStorage);
export const keptInTab = memoryOf(() => sessionStorage);
