/** Warnings that are the same each time, such as those about the platform. */

const said = new Set<string>();

/** Prints a warning, unless it was printed before. */
export function warnOnce(text: string): void {
  if (said.has(text)) return;
  said.add(text);
  console.warn(text);
}
