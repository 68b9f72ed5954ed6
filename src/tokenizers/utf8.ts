/** UTF-8, byte by byte: which bytes make a character. */

/** How many bytes the character has that starts with `lead`; 1 for a byte that starts none. */
export function utf8Length(lead: number): number {
  if (lead < 0xc0) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** Whether `byte` may be the `index`-th (from 1) byte after `lead`: no overlong forms, surrogates or out of range. */
function mayFollow(lead: number, index: number, byte: number): boolean {
  if (byte < 0x80 || byte > 0xbf) return false;
  if (index > 1) return true;
  if (lead === 0xe0) return byte >= 0xa0;
  if (lead === 0xed) return byte < 0xa0;
  if (lead === 0xf0) return byte >= 0x90;
  if (lead === 0xf4) return byte < 0x90;
  return true;
}

/**
 * What `bytes` start with: the length of a whole character, 0 if the bytes so far may become one with more,
 * -1 if they cannot.
 */
export function leadingCharacter(bytes: readonly number[]): number {
  const lead = bytes[0];
  if (lead === undefined) return 0;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return -1;
  const length = utf8Length(lead);
  for (let i = 1; i < length; i++) {
    const byte = bytes[i];
    if (byte === undefined) return 0;
    if (!mayFollow(lead, i, byte)) return -1;
  }
  return length;
}
