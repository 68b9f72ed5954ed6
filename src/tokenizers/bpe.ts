/** Byte pair encoding with scores, as in SentencePiece. */
import {type PieceTable} from './piece_table';
import {type PrefixSet} from './prefix_set';
import {PieceType} from './sentence_piece_proto';
import {utf8Length} from './utf8';

/** The parts of a vocabulary that merging needs. */
export interface BpeVocabulary {
  readonly table: PieceTable;
  readonly userDefined: PrefixSet;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly scores: Float32Array;
  readonly types: Uint8Array;
  readonly hasUnused: boolean;
}

/** Possible merges, best first: by score, and for equal scores from left to right. */
class MergeQueue {
  size = 0;
  /** After `pop`: the piece that the best merge gives, and the index of its left symbol. */
  id = 0;
  left = 0;
  private ids: Int32Array;
  private lefts: Int32Array;

  constructor(
    private readonly scores: Float32Array,
    capacity: number,
  ) {
    this.ids = new Int32Array(capacity);
    this.lefts = new Int32Array(capacity);
  }

  push(id: number, left: number): void {
    if (this.size === this.ids.length) this.grow();
    const {ids, lefts} = this;
    let at = this.size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!this.precedes(id, left, ids[parent]!, lefts[parent]!)) break;
      ids[at] = ids[parent]!;
      lefts[at] = lefts[parent]!;
      at = parent;
    }
    ids[at] = id;
    lefts[at] = left;
  }

  pop(): void {
    const {ids, lefts} = this;
    this.id = ids[0]!;
    this.left = lefts[0]!;
    const size = --this.size;
    const id = ids[size]!;
    const left = lefts[size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && this.precedes(ids[child + 1]!, lefts[child + 1]!, ids[child]!, lefts[child]!)) child++;
      if (!this.precedes(ids[child]!, lefts[child]!, id, left)) break;
      ids[at] = ids[child]!;
      lefts[at] = lefts[child]!;
      at = child;
    }
    ids[at] = id;
    lefts[at] = left;
  }

  private precedes(id: number, left: number, otherId: number, otherLeft: number): boolean {
    const score = this.scores[id]!;
    const otherScore = this.scores[otherId]!;
    return score > otherScore || (score === otherScore && left < otherLeft);
  }

  private grow(): void {
    const ids = new Int32Array(this.ids.length * 2);
    ids.set(this.ids);
    this.ids = ids;
    const lefts = new Int32Array(ids.length);
    lefts.set(this.lefts);
    this.lefts = lefts;
  }
}

/**
 * Splits normalized text into pieces and calls `emit` for each, from left to right: with its id, or with -1 for a
 * character that is not a piece.
 *
 * Starts with characters and user-defined pieces. User-defined pieces are matched first, the longest one wins, and they
 * are never merged. Then the best adjacent pair is merged until no pair is a piece. Takes O(n log n) time.
 */
export function bpe(
  text: Uint8Array,
  vocabulary: BpeVocabulary,
  emit: (id: number, start: number, end: number) => void,
): void {
  const {table, userDefined, starts, ends, scores, types} = vocabulary;

  // Control, unknown and byte pieces never match text, even if the piece is a single character.
  const find = (start: number, end: number): number => {
    const id = table.find(text, start, end);
    if (id < 0) return -1;
    const type = types[id]!;
    return type === PieceType.normal || type === PieceType.userDefined || type === PieceType.unused ? id : -1;
  };

  // A symbol is a span of the text. A merge extends the left symbol and empties the right one.
  const begin = new Int32Array(text.length);
  const length = new Int32Array(text.length);
  const ids = new Int32Array(text.length);
  const isFrozen = new Uint8Array(text.length);
  let count = 0;
  for (let at = 0; at < text.length; count++) {
    const whole = userDefined.longestAt(text, at);
    const size = whole || Math.min(utf8Length(text[at]!), text.length - at);
    begin[count] = at;
    length[count] = size;
    ids[count] = find(at, at + size);
    isFrozen[count] = whole ? 1 : 0;
    at += size;
  }

  // The neighbours of each symbol; -1 at both ends.
  const previous = new Int32Array(count);
  const next = new Int32Array(count);
  for (let i = 0; i < count; i++) {
    previous[i] = i - 1;
    next[i] = i + 1 < count ? i + 1 : -1;
  }

  const queue = new MergeQueue(scores, Math.max(count, 1));
  const splits = vocabulary.hasUnused ? new Map<number, number>() : undefined;
  const offer = (left: number, right: number): void => {
    if (left < 0 || right < 0 || isFrozen[left] || isFrozen[right]) return;
    const start = begin[left]!;
    const id = find(start, start + length[left]! + length[right]!);
    if (id < 0) return;
    queue.push(id, left);
    if (types[id] === PieceType.unused) splits?.set(id, length[left]!);
  };
  for (let i = 1; i < count; i++) offer(i - 1, i);

  while (queue.size) {
    queue.pop();
    const {id, left} = queue;
    const right = next[left]!;
    // A merge is outdated if either side has been merged since: then a side is empty, or the total length differs.
    if (!length[left] || right < 0 || length[left]! + length[right]! !== ends[id]! - starts[id]!) continue;
    length[left]! += length[right]!;
    length[right] = 0;
    ids[left] = id;
    const after = next[right]!;
    next[left] = after;
    if (after >= 0) previous[after] = left;
    offer(previous[left]!, left);
    offer(left, after);
  }

  // An unused piece is only a step towards longer ones: it is split again into the pieces it was merged from.
  const emitUsed = (id: number, start: number, end: number): void => {
    const split = id >= 0 && types[id] === PieceType.unused ? splits?.get(id) : undefined;
    if (split === undefined) emit(id, start, end);
    else {
      const middle = start + split;
      emitUsed(find(start, middle), start, middle);
      emitUsed(find(middle, end), middle, end);
    }
  };
  for (let i = 0; i >= 0 && i < count; i = next[i]!) emitUsed(ids[i]!, begin[i]!, begin[i]! + length[i]!);
}
