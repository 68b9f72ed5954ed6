/** Writes SentencePiece's model file: the counterpart of `sentence_piece_proto.ts`. */
import {concatBytes} from '../base/concat_bytes';
import {ModelType, parseSentencePieceProto, PieceType} from './sentence_piece_proto';

/** A piece to write. */
export interface Piece {
  readonly text: string;
  readonly score: number;
  /** One of `PieceType`. */
  readonly type: number;
}

/** Names of the pieces with a special meaning. */
export interface ControlPieces {
  readonly unk: string;
  readonly bos: string;
  readonly eos: string;
  readonly pad: string;
}

const encoder = new TextEncoder();

/** A growing byte buffer. */
class FieldWriter {
  private bytes = new Uint8Array(256);
  private length = 0;

  private reserve(count: number): number {
    const at = this.length;
    if (at + count > this.bytes.length) {
      const larger = new Uint8Array(Math.max(2 * this.bytes.length, at + count));
      larger.set(this.bytes);
      this.bytes = larger;
    }
    this.length += count;
    return at;
  }

  private varint(value: number): void {
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 128)) {
      const at = this.reserve(1);
      this.bytes[at] = (rest % 128) + 0x80;
    }
    const at = this.reserve(1);
    this.bytes[at] = rest;
  }

  number(field: number, value: number): this {
    this.varint(field * 8);
    this.varint(value);
    return this;
  }

  float(field: number, value: number): this {
    this.varint(field * 8 + 5);
    const at = this.reserve(4);
    new DataView(this.bytes.buffer).setFloat32(at, value, true);
    return this;
  }

  blob(field: number, value: Uint8Array): this {
    this.varint(field * 8 + 2);
    this.varint(value.length);
    const at = this.reserve(value.length);
    this.bytes.set(value, at);
    return this;
  }

  text(field: number, value: string): this {
    return this.blob(field, encoder.encode(value));
  }

  clear(): void {
    this.length = 0;
  }

  /** Valid until the next change. */
  result(): Uint8Array {
    return this.bytes.subarray(0, this.length);
  }
}

function pieceField(into: FieldWriter, {text, score, type}: Piece, scratch: FieldWriter): void {
  scratch.clear();
  scratch.text(1, text).float(2, score);
  if (type !== PieceType.normal) scratch.number(3, type);
  into.blob(1, scratch.result());
}

/** A BPE model like Gemma's: bytes for unknown characters, spaces unchanged. */
export function writeBpeProto(pieces: readonly Piece[], names: ControlPieces): Uint8Array {
  const writer = new FieldWriter();
  const scratch = new FieldWriter();
  for (const piece of pieces) pieceField(writer, piece, scratch);
  const id = (name: string) => pieces.findIndex(({text}) => text === name);
  const trainer = new FieldWriter().number(3, ModelType.bpe).number(4, pieces.length).number(35, 1);
  const {unk, bos, eos, pad} = names;
  for (const [i, name] of [unk, bos, eos, pad].entries()) if (id(name) >= 0) trainer.number(40 + i, id(name));
  for (const [i, name] of [unk, bos, eos, pad].entries()) trainer.text(45 + i, name);
  const plain = (message: FieldWriter) => message.number(3, 0).number(4, 0).number(5, 1).result();
  writer.blob(2, trainer.result());
  writer.blob(3, plain(new FieldWriter().text(1, 'identity')));
  writer.blob(5, plain(new FieldWriter()));
  return writer.result().slice();
}

/**
 * The same model with other pieces.
 *
 * @param changed pieces by id. Ids from the number of pieces on are new pieces, without gaps.
 */
export function withPieces(proto: Uint8Array, changed: ReadonlyMap<number, Piece>): Uint8Array {
  const {starts, ends, scores, types} = parseSentencePieceProto(proto);
  const [writer, scratch] = [new FieldWriter(), new FieldWriter()];
  const decoder = new TextDecoder('utf-8', {ignoreBOM: true});
  const count = Math.max(starts.length, ...[...changed.keys()].map(id => id + 1));
  for (let id = 0; id < count; id++) {
    const old = () => ({
      text: decoder.decode(proto.subarray(starts[id], ends[id])),
      score: scores[id]!,
      type: types[id]!,
    });
    pieceField(writer, changed.get(id) ?? old(), scratch);
  }
  return concatBytes([writer.result(), ...otherFields(proto)]);
}

/** All fields of a model apart from its pieces, unchanged. The model has been parsed before, so it is complete. */
function* otherFields(proto: Uint8Array): Generator<Uint8Array> {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let unit = 1; ; unit *= 128) {
      const byte = proto[at++]!;
      value += (byte & 0x7f) * unit;
      if (byte < 0x80) return value;
    }
  };
  while (at < proto.length) {
    const start = at;
    const tag = varint();
    const wireType = tag % 8;
    if (wireType === 0) varint();
    else if (wireType === 2) at = varint() + at;
    else at += wireType === 1 ? 8 : 4;
    if (Math.floor(tag / 8) !== 1) yield proto.subarray(start, at);
  }
}
