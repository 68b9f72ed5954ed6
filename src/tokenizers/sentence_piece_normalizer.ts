/** Normalization, the step before encoding in SentencePiece: text to UTF-8 bytes, with U+2581 in place of spaces. */
import {type CharacterMap} from './character_map';
import {type PrefixSet} from './prefix_set';
import {SPACE_SYMBOL} from './symbols';
import {utf8Length} from './utf8';

const SPACE = 0x20;
const SPACE_BYTES = [0xe2, 0x96, 0x81] as const;

const encoder = new TextEncoder();

/** The normalizer's settings. */
export interface NormalizerSettings {
  /** Add a space in front of the text, or behind it. */
  readonly addDummyPrefix: boolean;
  readonly treatWhitespaceAsSuffix: boolean;
  readonly removeExtraWhitespaces: boolean;
  /** Write spaces as U+2581. */
  readonly escapeWhitespaces: boolean;
}

/**
 * Normalizes a text. Lone surrogates, which UTF-8 cannot represent, become U+FFFD.
 *
 * @param map replaces characters. User-defined pieces are not changed.
 */
export function normalize(
  text: string,
  settings: NormalizerSettings,
  userDefined: PrefixSet,
  map?: CharacterMap,
): Uint8Array {
  if (!text) return new Uint8Array(0);
  if (settings.removeExtraWhitespaces || map) return normalizeParts(encoder.encode(text), settings, userDefined, map);
  const space = settings.escapeWhitespaces ? SPACE_SYMBOL : ' ';
  const added = settings.addDummyPrefix ? space : '';
  const escaped = text.replaceAll(' ', space);
  return encoder.encode(settings.treatWhitespaceAsSuffix ? escaped + added : added + escaped);
}

/** Replaces characters; if the settings say so, removes spaces at both ends and reduces runs of spaces to one. */
function normalizeParts(
  text: Uint8Array,
  settings: NormalizerSettings,
  userDefined: PrefixSet,
  map: CharacterMap | undefined,
): Uint8Array {
  const {removeExtraWhitespaces: remove, addDummyPrefix, treatWhitespaceAsSuffix} = settings;
  const space: readonly number[] = settings.escapeWhitespaces ? SPACE_BYTES : [SPACE];
  let at = 0;
  /** The next part of the text, normalized. Moves past it. */
  const next = (): Uint8Array => {
    const start = at;
    const whole = userDefined.longestAt(text, at);
    const rule = whole ? undefined : map?.longestAt(text, at);
    at += whole || rule?.length || Math.min(utf8Length(text[at]!), text.length - at);
    return rule ? rule.by : text.subarray(start, at);
  };

  // Skips leading spaces. The rest begins at `at`.
  while (remove && at < text.length) {
    const start = at;
    const part = next();
    if (part.length === 1 && part[0] === SPACE) continue;
    at = start;
    break;
  }
  if (at === text.length) return new Uint8Array(0);

  const out: number[] = addDummyPrefix && !treatWhitespaceAsSuffix ? [...space] : [];
  let afterSpace = remove;
  while (at < text.length) {
    const part = next();
    let from = 0;
    if (afterSpace) while (from < part.length && part[from] === SPACE) from++;
    for (let i = from; i < part.length; i++) {
      if (part[i] === SPACE) out.push(...space);
      else out.push(part[i]!);
    }
    if (from < part.length) afterSpace = remove && part[part.length - 1] === SPACE;
  }
  if (remove) while (space.every((byte, i) => out[out.length - space.length + i] === byte)) out.length -= space.length;
  if (addDummyPrefix && treatWhitespaceAsSuffix) out.push(...space);
  return Uint8Array.from(out);
}
