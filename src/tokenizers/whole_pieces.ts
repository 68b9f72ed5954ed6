/** SentencePiece's word and character models: text is cut in a fixed way, and each part is looked up. */
import {type BpeVocabulary} from './bpe';
import {utf8Length} from './utf8';

type Emit = (id: number, start: number, end: number) => void;

const isSpaceSymbol = (text: Uint8Array, at: number) =>
  text[at] === 0xe2 && text[at + 1] === 0x96 && text[at + 2] === 0x81;

/** Calls `emit` for each word of normalized text, which begins with U+2581: with its id, or with -1. */
export function words(text: Uint8Array, {table}: BpeVocabulary, emit: Emit): void {
  let start = 0;
  for (let at = 1; at <= text.length; at++) {
    if (at < text.length && !isSpaceSymbol(text, at)) continue;
    if (at > start) emit(table.find(text, start, at), start, at);
    start = at;
  }
}

/** Calls `emit` for each character and user-defined piece of normalized text: with its id, or with -1. */
export function characters(text: Uint8Array, {table, userDefined}: BpeVocabulary, emit: Emit): void {
  for (let at = 0; at < text.length;) {
    const size = userDefined.longestAt(text, at) || Math.min(utf8Length(text[at]!), text.length - at);
    emit(table.find(text, at, at + size), at, at + size);
    at += size;
  }
}
