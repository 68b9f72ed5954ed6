/** Normalization, the step before encoding in SentencePiece: text to UTF-8 bytes, with U+2581 in place of spaces. */
import {type PrefixSet} from './prefix_set';
import {utf8Length} from './utf8';

/** Stands for a space in SentencePiece. */
export const SPACE_SYMBOL = '\u2581';

const SPACE = 0x20;
const SPACE_BYTES = [0xe2, 0x96, 0x81] as const;

const encoder = new TextEncoder();

/** The identity normalizer's settings. */
export interface NormalizerSettings {
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
}

/** Normalizes a text. Lone surrogates, which UTF-8 cannot represent, become U+FFFD. */
export function normalize(text: string, settings: NormalizerSettings, userDefined: PrefixSet): Uint8Array {
  if (settings.removeExtraWhitespaces) return removeExtraSpaces(encoder.encode(text), settings, userDefined);
  if (!text) return new Uint8Array(0);
  return encoder.encode((settings.addDummyPrefix ? SPACE_SYMBOL : '') + text.replaceAll(' ', SPACE_SYMBOL));
}

/** Removes spaces at both ends and reduces runs of spaces to one. User-defined pieces are not changed. */
function removeExtraSpaces(text: Uint8Array, settings: NormalizerSettings, userDefined: PrefixSet): Uint8Array {
  const chunkEnd = (at: number): number => {
    const size = userDefined.longestAt(text, at) || utf8Length(text[at]!);
    return Math.min(at + size, text.length);
  };
  let at = 0;
  while (at < text.length && text[at] === SPACE && chunkEnd(at) === at + 1) at++;
  if (at === text.length) return new Uint8Array(0);

  const out: number[] = settings.addDummyPrefix ? [...SPACE_BYTES] : [];
  let afterSpace = true;
  while (at < text.length) {
    const end = chunkEnd(at);
    let from = at;
    if (afterSpace) while (from < end && text[from] === SPACE) from++;
    for (let i = from; i < end; i++) {
      if (text[i] === SPACE) out.push(...SPACE_BYTES);
      else out.push(text[i]!);
    }
    if (from < end) afterSpace = text[end - 1] === SPACE;
    at = end;
  }
  while (SPACE_BYTES.every((byte, i) => out[out.length - 3 + i] === byte)) out.length -= 3;
  return Uint8Array.from(out);
}
