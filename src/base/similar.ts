/** Finds the name that a user probably meant. */

const plain = (name: string) => name.replaceAll('_', '').toLowerCase();

/** Number of characters to insert, remove or replace to get from one text to the other. */
function distance(from: string, to: string): number {
  let row = Array.from({length: to.length + 1}, (_, i) => i);
  for (let i = 0; i < from.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < to.length; j++) {
      next.push(Math.min(next[j]! + 1, row[j + 1]! + 1, row[j]! + Number(from[i] !== to[j])));
    }
    row = next;
  }
  return row.at(-1)!;
}

/** The known name that is most similar to a name, apart from casing; undefined if none is similar. */
export function similarName(name: string, known: readonly string[]): string | undefined {
  const given = plain(name);
  const ranked = known
    .map(candidate => {
      const text = plain(candidate);
      // A name that was cut short, or has too much at its end, is similar as well.
      const part = Math.min(text.length, given.length) >= 6 && (text.startsWith(given) || given.startsWith(text));
      return {candidate, cost: part ? Math.min(1, distance(given, text)) : distance(given, text)};
    })
    .sort((a, b) => a.cost - b.cost);
  const [best] = ranked;
  return best && best.cost <= Math.max(1, Math.floor(given.length / 3)) ? best.candidate : undefined;
}
