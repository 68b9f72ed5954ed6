/** Reads SentencePiece's model file, a protocol buffer: only the fields that are used here. */
import {ValueError} from '../base/errors';
import {UNKNOWN_SYMBOL} from './symbols';

/** Types of pieces, as numbered in the file. */
export const PieceType = {
  normal: 1,
  unknown: 2,
  control: 3,
  userDefined: 4,
  unused: 5,
  byte: 6,
} as const;

/** Types of models, as numbered in the file. */
export const ModelType = {unigram: 1, bpe: 2, word: 3, char: 4} as const;

/** A SentencePiece model. Piece `id` is `bytes[starts[id] .. ends[id]]`, in UTF-8. */
export interface SentencePieceProto {
  readonly bytes: Uint8Array;
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly scores: Float32Array;
  readonly types: Uint8Array;
  readonly modelType: number;
  readonly byteFallback: boolean;
  readonly treatWhitespaceAsSuffix: boolean;
  readonly unkPiece: string;
  readonly bosPiece: string;
  readonly eosPiece: string;
  readonly padPiece: string;
  readonly unkSurface: string;
  /** Compiled normalization rules; empty for none. */
  readonly charsmap: Uint8Array;
  readonly addDummyPrefix: boolean;
  readonly removeExtraWhitespaces: boolean;
  readonly escapeWhitespaces: boolean;
  readonly hasDenormalizer: boolean;
}

const WireType = {varint: 0, fixed64: 1, bytes: 2, fixed32: 5} as const;

const utf8 = new TextDecoder('utf-8', {ignoreBOM: true});

function damaged(bytes: Uint8Array, reason: string): ValueError {
  return new ValueError(
    `Expected a SentencePiece model (the bytes of a \`vocabulary.spm\` file). ` +
      `Received: ${bytes.length} bytes, where ${reason}. ` +
      `Check that it is the right file and that it was copied or downloaded completely.`,
  );
}

/** Iterates over the fields of one message, `bytes[offset .. end]`. */
class FieldReader {
  /** The number of the current field. */
  field = 0;
  /** The wire type of the current field. */
  wireType = 0;
  private readonly view: DataView;

  constructor(
    readonly bytes: Uint8Array,
    public offset: number,
    public end: number,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Moves to the next field. Returns false at the end of the message. */
  next(): boolean {
    if (this.offset >= this.end) return false;
    const tag = this.varint();
    this.field = Math.floor(tag / 8);
    this.wireType = tag % 8;
    if (this.field < 1 || this.field > 536_870_911) throw damaged(this.bytes, `a field has the number ${this.field}`);
    return true;
  }

  /** Reads a varint. Exact up to 2^53, far more than lengths, tags and enumerations need. */
  varint(): number {
    let value = 0;
    let unit = 1;
    for (let count = 0; count < 10; count++) {
      if (this.offset >= this.end) throw this.truncated();
      const byte = this.bytes[this.offset++]!;
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
      unit *= 128;
    }
    throw damaged(this.bytes, `the number that ends at byte ${this.offset} is longer than 10 bytes`);
  }

  /** Reads a length and returns the end of the bytes that follow. */
  lengthEnd(): number {
    const end = this.varint() + this.offset;
    if (end > this.end) throw this.truncated();
    return end;
  }

  bool(): boolean {
    this.expect(WireType.varint);
    return this.varint() !== 0;
  }

  enumeration(): number {
    this.expect(WireType.varint);
    return this.varint();
  }

  string(): string {
    this.expect(WireType.bytes);
    const end = this.lengthEnd();
    const text = utf8.decode(this.bytes.subarray(this.offset, end));
    this.offset = end;
    return text;
  }

  float(): number {
    this.expect(WireType.fixed32);
    if (this.offset + 4 > this.end) throw this.truncated();
    const value = this.view.getFloat32(this.offset, true);
    this.offset += 4;
    return value;
  }

  /** Skips the current field. */
  skip(): void {
    if (this.wireType === WireType.varint) {
      this.varint();
      return;
    }
    let end: number;
    if (this.wireType === WireType.fixed64) end = this.offset + 8;
    else if (this.wireType === WireType.fixed32) end = this.offset + 4;
    else if (this.wireType === WireType.bytes) end = this.lengthEnd();
    else throw damaged(this.bytes, `byte ${this.offset - 1} does not start a field of a protocol buffer`);
    if (end > this.end) throw this.truncated();
    this.offset = end;
  }

  expect(wireType: number): void {
    if (this.wireType !== wireType) {
      throw damaged(
        this.bytes,
        `field ${this.field} before byte ${this.offset} has a different type than in SentencePiece`,
      );
    }
  }

  private truncated(): ValueError {
    return damaged(this.bytes, `a field runs past byte ${this.end}, where its message ends`);
  }
}

type Mutable<T> = {-readonly [K in keyof T]: T[K]};
type Settings = Mutable<Omit<SentencePieceProto, 'bytes' | 'starts' | 'ends' | 'scores' | 'types'>>;

function readTrainer(reader: FieldReader, into: Settings): void {
  while (reader.next()) {
    if (reader.field === 3) into.modelType = reader.enumeration();
    else if (reader.field === 24) into.treatWhitespaceAsSuffix = reader.bool();
    else if (reader.field === 35) into.byteFallback = reader.bool();
    else if (reader.field === 44) into.unkSurface = reader.string();
    else if (reader.field === 45) into.unkPiece = reader.string() || '<unk>';
    else if (reader.field === 46) into.bosPiece = reader.string() || '<s>';
    else if (reader.field === 47) into.eosPiece = reader.string() || '</s>';
    else if (reader.field === 48) into.padPiece = reader.string() || '<pad>';
    else reader.skip();
  }
}

function readNormalizer(reader: FieldReader, into: Settings): void {
  while (reader.next()) {
    if (reader.field === 2) into.charsmap = readBytes(reader);
    else if (reader.field === 3) into.addDummyPrefix = reader.bool();
    else if (reader.field === 4) into.removeExtraWhitespaces = reader.bool();
    else if (reader.field === 5) into.escapeWhitespaces = reader.bool();
    else reader.skip();
  }
}

function readDenormalizer(reader: FieldReader, into: Settings): void {
  while (reader.next()) {
    if (reader.field === 2) into.hasDenormalizer = readBytes(reader).length > 0;
    else reader.skip();
  }
}

/** A field of bytes, not copied. */
function readBytes(reader: FieldReader): Uint8Array {
  reader.expect(WireType.bytes);
  const end = reader.lengthEnd();
  const bytes = reader.bytes.subarray(reader.offset, end);
  reader.offset = end;
  return bytes;
}

/**
 * Reads a SentencePiece model.
 *
 * The pieces stay in `bytes`, which must not change afterwards. Creating 262,144 strings would take most of the time.
 *
 * @throws ValueError if the bytes are not such a model, or are incomplete.
 */
export function parseSentencePieceProto(bytes: Uint8Array): SentencePieceProto {
  const starts: number[] = [];
  const ends: number[] = [];
  const scores: number[] = [];
  const types: number[] = [];
  const settings: Settings = {
    modelType: ModelType.unigram,
    byteFallback: false,
    treatWhitespaceAsSuffix: false,
    unkPiece: '<unk>',
    bosPiece: '<s>',
    eosPiece: '</s>',
    padPiece: '<pad>',
    unkSurface: ` ${UNKNOWN_SYMBOL} `,
    charsmap: new Uint8Array(0),
    addDummyPrefix: true,
    removeExtraWhitespaces: true,
    escapeWhitespaces: true,
    hasDenormalizer: false,
  };
  let hasTrainer = false;
  let hasNormalizer = false;

  const reader = new FieldReader(bytes, 0, bytes.length);
  while (reader.next()) {
    const {field} = reader;
    if (field > 5 || field === 4) {
      reader.skip();
      continue;
    }
    reader.expect(WireType.bytes);
    const end = reader.lengthEnd();
    reader.end = end;
    if (field === 1) {
      let start = 0;
      let stop = 0;
      let score = 0;
      let type: number = PieceType.normal;
      while (reader.next()) {
        if (reader.field === 1) {
          reader.expect(WireType.bytes);
          stop = reader.lengthEnd();
          start = reader.offset;
          reader.offset = stop;
        } else if (reader.field === 2) score = reader.float();
        else if (reader.field === 3) type = reader.enumeration();
        else reader.skip();
      }
      if (start === stop) throw damaged(bytes, `piece ${starts.length} is empty`);
      if (type < PieceType.normal || type > PieceType.byte) {
        throw damaged(bytes, `piece ${starts.length} is of the type ${type}, which is not one of 1 to 6`);
      }
      starts.push(start);
      ends.push(stop);
      scores.push(score);
      types.push(type);
    } else if (field === 2) {
      hasTrainer = true;
      readTrainer(reader, settings);
    } else if (field === 3) {
      hasNormalizer = true;
      readNormalizer(reader, settings);
    } else readDenormalizer(reader, settings);
    reader.end = bytes.length;
  }
  if (!starts.length) throw damaged(bytes, 'there are no pieces');
  if (!hasTrainer) throw damaged(bytes, 'there is no trainer specification after the pieces');
  if (!hasNormalizer) throw damaged(bytes, 'there is no normalizer specification after the pieces');
  return {
    bytes,
    starts: Int32Array.from(starts),
    ends: Int32Array.from(ends),
    scores: Float32Array.from(scores),
    types: Uint8Array.from(types),
    ...settings,
  };
}

/**
 * The ids of pieces in a SentencePiece model; -1 for those that it does not have. Faster than building a
 * `SentencePiece`.
 *
 * @throws ValueError as {@link parseSentencePieceProto}.
 */
export function pieceIds(proto: Uint8Array, pieces: readonly string[]): number[] {
  const {bytes, starts, ends} = parseSentencePieceProto(proto);
  const encoder = new TextEncoder();
  return pieces.map(piece => {
    const wanted = encoder.encode(piece);
    return starts.findIndex(
      (start, id) => ends[id]! - start === wanted.length && wanted.every((byte, i) => bytes[start + i] === byte),
    );
  });
}
