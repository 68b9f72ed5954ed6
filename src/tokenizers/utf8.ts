/** UTF-8, byte by byte: which bytes form a character. */

/** Number of bytes of the character that starts with `lead`; 1 for a byte that cannot start one. */
export function utf8Length(lead: number): number {
  if (lead < 0xc0) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/**
 * Whether `byte` may be the `index`-th byte (from 1) after `lead`. Excludes overlong forms, surrogates and values out
 * of range.
 */
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
 * The length in bytes of the complete character at the start of `bytes`. 0 if more bytes may complete it, -1 if they
 * cannot.
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
