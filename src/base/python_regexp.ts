/** Python's regular expressions, as far as JavaScript can express them. */

/** Escapes, classes, special groups and `{,n}`: the parts of a pattern that the two languages write differently. */
const PARTS = /\\([^]?)|\[\^?\]?(?:\\[^]|[^\]\\])*\]?|\(\?(?:P<(\w+)>|#[^)]*\)|[:=!]|<[=!])?|\{,(\d*)\}/g;

/** Letters after a backslash with one meaning in both languages. Others are errors in Python, or references to groups. */
const ESCAPES = /^[dDwWsSbBnrtfv]$/;

function translateEscape(char: string): string | undefined {
  if (char === 'A') return '^';
  if (char === 'Z') return '$';
  return ESCAPES.test(char) || /^[^A-Za-z0-9]$/.test(char) ? `\\${char}` : undefined;
}

/** In Python, a bracket that comes first in a class is one of its characters. */
function translateClass(text: string): string | undefined {
  const [, open, first, rest] = /^(\[\^?)(\]?)([^]*)$/.exec(text)!;
  for (const [, char] of rest!.matchAll(/\\([^])/g)) {
    if (/[ABZ]/.test(char!) || translateEscape(char!) === undefined) return undefined;
  }
  return open! + (first && '\\]') + rest!;
}

/**
 * The JavaScript source of a pattern that Python's `re` reads, for use inside another pattern. Undefined if JavaScript
 * has no equivalent, or if it is not a valid pattern: flags such as `(?i)`, references to groups, conditions, atomic
 * groups and possessive quantifiers are not translated.
 */
export function translatePattern(pattern: string): string | undefined {
  let known = true;
  const source = pattern.replace(PARTS, (part: string, escaped?: string, group?: string, most?: string) => {
    let result: string | undefined = part;
    if (escaped !== undefined) result = translateEscape(escaped);
    else if (part.startsWith('[')) result = translateClass(part);
    else if (group !== undefined) result = `(?<${group}>`;
    else if (part.startsWith('(?#')) result = '';
    else if (part === '(?') result = undefined;
    else if (part.startsWith('{')) result = `{0,${most}}`;
    known &&= result !== undefined;
    return result ?? '';
  });
  try {
    if (known) new RegExp(source);
    return known ? source : undefined;
  } catch {
    return undefined;
  }
}
