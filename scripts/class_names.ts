/**
 * Gives classes their own names again, which users see in stacks and as `constructor.name`. esbuild calls a class that
 * refers to itself `_Name`, and one whose name is taken `Name2`. Its option `keepNames` would not change stacks, and
 * costs time for every function that is created.
 */
export function ownClassNames(code: string): string {
  const own = [...code.matchAll(/ = class _(\w+)/g)].map(([, name]) => name);
  const named = code
    // A space in place of the underscore, so that the source map stays exact.
    .replace(/(?<![\w$.])_(\w+)/g, (found, name) => (own.includes(name as string) ? ` ${name}` : found))
    // Also those without a number: tsup's translation to CommonJS would call them `_class1` and so on. A class whose
    // base has its name keeps the number, because it could not name the base.
    .replace(/^(var ([A-Z]\w*[A-Za-z])\d* = class)(?= extends (?!\2\b)| \{)/gm, '$1 $2');
  return withoutNumbers(named);
}

/**
 * Takes away the number that esbuild adds to the name inside of a class, as in `var Layer = class Layer2`, when it reads
 * a class that refers to itself. It is only valid inside, so the name without the number means the same class.
 */
function withoutNumbers(code: string): string {
  const numbered = new Map<string, string>();
  for (const [, name, number] of code.matchAll(/^var ([A-Z]\w*[A-Za-z]) = class \1(\d+)(?= extends (?!\1\b)| \{)/gm)) {
    const inner = name! + number!;
    const declared = new RegExp(`\\b(?:var|let|const|function|as) ${inner}\\b`);
    if (!declared.test(code)) numbered.set(inner, name! + ' '.repeat(number!.length));
  }
  return code.replace(/(?<![\w$.])[A-Z]\w*\d\b/g, found => numbered.get(found) ?? found);
}

/** Removes the names that {@link ownClassNames} gives, before esbuild reads its own code again. */
export const withoutClassNames = (code: string): string =>
  code.replace(/^(var ([A-Z]\w*[A-Za-z])\d* = class) \2(?= extends | \{)/gm, '$1');
