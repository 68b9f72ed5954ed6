/** Browsers have no flags that a page could set. */
export const enableWideSimd = (): boolean => false;

/** Browsers have it or have it not. */
export function enableRelaxedSimd(): void {}
