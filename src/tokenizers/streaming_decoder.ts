/** Decodes ids one by one. */
import {REPLACEMENT_SYMBOL} from './symbols';
import {leadingCharacter} from './utf8';

/** The parts of a vocabulary that a decoder needs. */
export interface DecodablePieces {
  /** The byte that the piece stands for, or -1 if it is not a byte piece. */
  byteOf(id: number): number;
  /** Whether the piece is a control piece, which has no text. */
  isControl(id: number): boolean;
  /** The text of any other piece, with U+2581 replaced by spaces. */
  textOf(id: number): string;
  /** Whether the piece starts with a space. */
  startsWithSpace(id: number): boolean;
  /** Whether the first piece loses its leading space. */
  readonly stripsFirstSpace: boolean;
  /** Whether every piece up to the first text loses its leading space, not only the first piece. */
  readonly stripsAllFirstSpaces: boolean;
}

/**
 * Decodes a sequence as it is generated. The text that `push` returns is final: the bytes of an incomplete character
 * are held back until it is complete. All returned texts, joined, equal the result of `decode` for the whole sequence.
 */
export class StreamingDecoder {
  private pending: number[] = [];
  private atStart = true;
  private firstSpaceTaken = false;
  private anyText = false;

  constructor(private readonly pieces: DecodablePieces) {}

  /**
   * Takes the next id and returns the text that it completes, or ''.
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

  /** Ends the sequence and returns U+FFFD for each byte of an incomplete character. */
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

  /** Decodes complete characters of the pending bytes. A byte that starts none becomes U+FFFD, as in SentencePiece. */
  private takePending(isEnd: boolean): string {
    let text = '';
    while (this.pending.length) {
      const length = leadingCharacter(this.pending);
      if (length > 0) {
        text += String.fromCodePoint(codePoint(this.pending.splice(0, length)));
      } else if (length < 0 || isEnd) {
        this.pending.shift();
        text += REPLACEMENT_SYMBOL;
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
