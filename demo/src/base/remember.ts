/** Small things that a browser keeps for this page: for good, or as long as the tab is open. Some keep nothing. */

/** @param of `() => localStorage` or `() => sessionStorage`: to look at them is an error where sites may keep nothing. */
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
