/** Turns ids into text one by one. */

import {leadingCharacter} from './utf8';

/** What a decoder needs to know of a vocabulary. */
export interface DecodablePieces {
  /** The byte that the piece stands for, or -1 if it is no byte piece. */
  byteOf(id: number): number;
  /** Whether the piece is a control piece, which has no text. */
  isControl(id: number): boolean;
  /** The text of any other piece, with spaces as spaces. */
  textOf(id: number): string;
  /** Whether the piece begins with a space. */
  startsWithSpace(id: number): boolean;
  /** Whether the encoder puts a space in front of a text, which the first piece's text must lose again. */
  readonly stripsFirstSpace: boolean;
  /** Whether the first piece with text loses its space, and those after it too while they are nothing else. */
  readonly stripsAllFirstSpaces: boolean;
}

/**
 * Decodes a sequence as it is generated. What `push` returns is final: bytes that are only the beginning of a
 * character wait for the rest. The pieces of text returned, joined, are what `decode` makes of the whole sequence.
 */
export class StreamingDecoder {
  private pending: number[] = [];
  private atStart = true;
  private firstSpaceTaken = false;
  private anyText = false;

  constructor(private readonly pieces: DecodablePieces) {}

  /**
   * Takes the next id and returns the text that it completes, '' if none.
   *
   * @throws ValueError if the id is not in the vocabulary.
   */
  push(id: number): string {
    const byte = this.pieces.byteOf(id);
    if (byte >= 0) {
      this.pending.push(byte);
      return this.note(this.takePending(false));
    }
    const before = this.flush();
    return before + this.note(this.decodePiece(id));
  }

  /** Ends the sequence: returns U+FFFD for each byte that waited in vain, '' if there were none. */
  flush(): string {
    return this.pending.length ? this.note(this.takePending(true)) : '';
  }

  private decodePiece(id: number): string {
    if (this.firstSpaceTaken || this.anyText) this.atStart = false;
    this.firstSpaceTaken = false;
    if (this.pieces.isControl(id)) return '';
    const text = this.pieces.textOf(id);
    if (!this.atStart || !this.pieces.stripsFirstSpace || !this.pieces.startsWithSpace(id)) return text;
    this.firstSpaceTaken = !this.pieces.stripsAllFirstSpaces;
    return text.slice(1);
  }

  private note(text: string): string {
    if (text) this.anyText = true;
    return text;
  }

  /** Characters from the front of the pending bytes; a byte that starts none becomes one U+FFFD, as in SentencePiece. */
  private takePending(isEnd: boolean): string {
    let text = '';
    while (this.pending.length) {
      const length = leadingCharacter(this.pending);
      if (length > 0) {
        text += String.fromCodePoint(codePoint(this.pending.splice(0, length)));
      } else if (length < 0 || isEnd) {
        this.pending.shift();
        text += '\ufffd';
      } else break;
    }
    return text;
  }
}

function codePoint(bytes: readonly number[]): number {
  const lead = bytes[0]!;
  if (bytes.length === 1) return lead;
  let value = lead & (0x7f >> bytes.length);
  for (let i = 1; i < bytes.length; i++) value = (value << 6) | (bytes[i]! & 0x3f);
  return value;
}
