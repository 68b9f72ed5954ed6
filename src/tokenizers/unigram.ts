/** The most likely pieces of a text, as in SentencePiece's unigram models. */
import {type BpeVocabulary} from './bpe';
import {PieceType} from './sentence_piece_proto';
import {utf8Length} from './utf8';

/** The score of a character without a piece is this much below the lowest score. */
const UNKNOWN_PENALTY = 10;

/** The lowest and the highest score of normal pieces. The library starts from the smallest positive float. */
function scoreRange({scores, types}: BpeVocabulary): {lowest: number; highest: number} {
  let [lowest, highest] = [Infinity, 2 ** -126];
  for (let id = 0; id < scores.length; id++) {
    if (types[id] !== PieceType.normal) continue;
    lowest = Math.min(lowest, scores[id]!);
    highest = Math.max(highest, scores[id]!);
  }
  return {lowest, highest};
}

/**
 * Returns a function that splits normalized text into the pieces with the highest sum of scores, and calls `emit` for
 * each, from left to right: with its id, or with -1 for a character that is not a piece.
 *
 * User-defined pieces score better than any other segmentation of their text. Sums are float32, as in the library,
 * because ties depend on their rounding.
 */
export function unigram(
  vocabulary: BpeVocabulary,
): (text: Uint8Array, emit: (id: number, start: number, end: number) => void) => void {
  const {table, scores, types} = vocabulary;
  const {lowest, highest} = scoreRange(vocabulary);
  const unknownScore = Math.fround(lowest - UNKNOWN_PENALTY);
  return (text, emit) => {
    // The best segmentation up to each byte: its score, its last piece, and where this piece starts.
    const best = new Float32Array(text.length + 1);
    const ids = new Int32Array(text.length + 1);
    const begins = new Int32Array(text.length + 1).fill(-1);
    let size = 0;
    for (let at = 0; at < text.length; at += size) {
      size = Math.min(utf8Length(text[at]!), text.length - at);
      let hasCharacter = false;
      const offer = (id: number, end: number, score: number) => {
        const sum = score + best[at]!;
        if (begins[end] !== -1 && sum <= best[end]!) return;
        best[end] = sum;
        ids[end] = id;
        begins[end] = at;
      };
      table.forEachPrefix(text, at, (id, end) => {
        const type = types[id];
        if (type === PieceType.userDefined) offer(id, end, (end - at) * highest - 0.1);
        else if (type === PieceType.normal) offer(id, end, scores[id]!);
        else return;
        if (end - at === size) hasCharacter = true;
      });
      if (!hasCharacter) offer(-1, at + size, unknownScore);
    }
    const ends: number[] = [];
    for (let end = text.length; end > 0; end = begins[end]!) ends.push(end);
    for (const end of ends.reverse()) emit(ids[end]!, begins[end]!, end);
  };
}
