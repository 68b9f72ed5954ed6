/** SentencePiece: models of all four types, their normalization, byte fallback. */
import {show, ValueError} from '../base/errors';
import {bpe, type BpeVocabulary} from './bpe';
import {CharacterMap} from './character_map';
import {PieceTable} from './piece_table';
import {PrefixSet} from './prefix_set';
import {normalize} from './sentence_piece_normalizer';
import {ModelType, parseSentencePieceProto, PieceType, type SentencePieceProto} from './sentence_piece_proto';
import {type DecodablePieces, StreamingDecoder} from './streaming_decoder';
import {SPACE_SYMBOL} from './symbols';
import {unigram} from './unigram';
import {characters, words} from './whole_pieces';

export {StreamingDecoder} from './streaming_decoder';

const encoder = new TextEncoder();
// A piece may be U+FEFF, which decoders drop by default.
const decoder = new TextDecoder('utf-8', {ignoreBOM: true});

/** A SentencePiece model: converts text to ids and back, exactly like the `sentencepiece` library. */
export class SentencePiece {
  /** The bytes of the model's file. */
  readonly proto: Uint8Array;
  /** Number of pieces. */
  readonly vocabularySize: number;
  /** The id of the padding piece; -1 if there is none. */
  readonly padId: number;
  /** The id of the piece that starts a text; -1 if there is none. */
  readonly bosId: number;
  /** The id of the piece that ends a text; -1 if there is none. */
  readonly eosId: number;
  /** The id for text that is not in the vocabulary. */
  readonly unkId: number;

  private readonly model: SentencePieceProto;
  private readonly vocabulary: BpeVocabulary;
  /** The id of each byte's piece; empty without byte fallback. */
  private readonly byteIds: Int32Array;
  private readonly characterMap: CharacterMap | undefined;
  /** Splits normalized text into pieces, as the type of the model says. */
  private readonly split: (text: Uint8Array, emit: (id: number, start: number, end: number) => void) => void;
  private readonly byIdCache: (string | undefined)[] = [];
  private readonly decodable: DecodablePieces;

  /**
   * @param proto The bytes of a `vocabulary.spm` file.
   * @throws ValueError on anything else, and on a model with unsupported settings.
   */
  constructor(proto: Uint8Array) {
    if (!isBytes(proto)) {
      throw new ValueError(
        `Expected a SentencePiece model as a Uint8Array (the bytes of a \`vocabulary.spm\` file). ` +
          `Received: ${show(proto)}. Read the file first.`,
      );
    }
    // A copy, because pieces are read from it during the whole life of the tokenizer.
    this.proto = new Uint8Array(proto);
    this.model = parseSentencePieceProto(this.proto);
    checkImplemented(this.model);
    const {bytes, starts, ends, scores, types} = this.model;
    this.vocabularySize = starts.length;

    const table = new PieceTable(bytes, starts, ends);
    if (table.firstDuplicate >= 0) throw invalid(`the piece ${show(this.pieceAt(table.firstDuplicate))} occurs twice`);
    const userDefined = new PrefixSet();
    for (let id = types.indexOf(PieceType.userDefined); id >= 0; id = types.indexOf(PieceType.userDefined, id + 1)) {
      userDefined.add(bytes, starts[id]!, ends[id]!);
    }
    this.vocabulary = {
      table,
      userDefined,
      starts,
      ends,
      scores,
      types,
      hasUnused: types.includes(PieceType.unused),
    };

    this.split = this.splitter();
    this.characterMap = this.model.charsmap.length ? new CharacterMap(this.model.charsmap) : undefined;
    this.unkId = types.indexOf(PieceType.unknown);
    if (this.unkId < 0) throw invalid('there is no unknown piece');
    if (types.includes(PieceType.unknown, this.unkId + 1)) throw invalid('there are two unknown pieces');
    this.byteIds = this.findBytes();
    this.padId = this.controlId(this.model.padPiece);
    this.bosId = this.controlId(this.model.bosPiece);
    this.eosId = this.controlId(this.model.eosPiece);
    this.decodable = this.decodablePieces();
  }

  /** Whether this is a piece of the vocabulary. */
  hasPiece(piece: string): boolean {
    return this.find(piece) >= 0;
  }

  /** The id of a piece, or the unknown id if there is no such piece. */
  pieceToId(piece: string): number {
    const id = this.find(piece);
    return id < 0 ? this.unkId : id;
  }

  /**
   * The piece with this id, as it is in the vocabulary: with U+2581 for a space.
   *
   * @throws ValueError if the id is not in the vocabulary.
   */
  idToPiece(id: number): string {
    this.checkId(id);
    return (this.byIdCache[id] ??= this.pieceAt(id));
  }

  /** Encodes a text as ids, without start and end tokens. */
  encode(text: string): number[] {
    if (typeof text !== 'string') {
      throw new ValueError(`Expected the text to encode to be a string. Received: ${show(text)}. Pass a string.`);
    }
    const bytes = normalize(text, this.model, this.vocabulary.userDefined, this.characterMap);
    const ids: number[] = [];
    this.split(bytes, (id, start, end) => {
      if (id >= 0 && id !== this.unkId) ids.push(id);
      else if (this.model.byteFallback) for (let i = start; i < end; i++) ids.push(this.byteIds[bytes[i]!]!);
      // The library reports a run of unknown characters as one piece.
      else if (ids[ids.length - 1] !== this.unkId) ids.push(this.unkId);
    });
    return ids;
  }

  /**
   * Decodes ids to text. Control pieces have no text; bytes that form no character become one U+FFFD each.
   *
   * @throws ValueError if an id is not in the vocabulary.
   */
  decode(ids: readonly number[]): string {
    const stream = this.decoder();
    let text = '';
    for (const id of ids) text += stream.push(id);
    return text + stream.flush();
  }

  /** A decoder for ids that arrive one by one. */
  decoder(): StreamingDecoder {
    return new StreamingDecoder(this.decodable);
  }

  private splitter(): SentencePiece['split'] {
    const {vocabulary} = this;
    switch (this.model.modelType) {
      case ModelType.unigram:
        return unigram(vocabulary);
      case ModelType.word:
        return (text, emit) => words(text, vocabulary, emit);
      case ModelType.char:
        return (text, emit) => characters(text, vocabulary, emit);
      default:
        return (text, emit) => bpe(text, vocabulary, emit);
    }
  }

  private find(piece: string): number {
    const bytes = encoder.encode(piece);
    return this.vocabulary.table.find(bytes, 0, bytes.length);
  }

  private pieceAt(id: number): string {
    const {bytes, starts, ends} = this.model;
    return decoder.decode(bytes.subarray(starts[id]!, ends[id]!));
  }

  private checkId(id: number): void {
    if (!Number.isInteger(id) || id < 0 || id >= this.vocabularySize) {
      throw new ValueError(`\`id\` must be in range [0, ${this.vocabularySize - 1}]. Received: ${show(id)}`);
    }
  }

  private controlId(piece: string): number {
    const id = this.find(piece);
    return id >= 0 && this.model.types[id] === PieceType.control ? id : -1;
  }

  private findBytes(): Int32Array {
    const {types, byteFallback} = this.model;
    const hasBytes = types.includes(PieceType.byte);
    if (!byteFallback) {
      if (hasBytes) throw invalid('there are byte pieces although byte fallback is off');
      return new Int32Array(0);
    }
    const ids = new Int32Array(256);
    for (let byte = 0; byte < 256; byte++) {
      const piece = bytePiece(byte);
      const id = this.find(piece);
      if (id < 0 || types[id] !== PieceType.byte)
        throw invalid(`there is no piece ${piece} although byte fallback is on`);
      ids[byte] = id;
    }
    if (types.reduce((count, type) => count + (type === PieceType.byte ? 1 : 0), 0) !== 256) {
      throw invalid('there are more than 256 byte pieces');
    }
    return ids;
  }

  private decodablePieces(): DecodablePieces {
    const {types, unkSurface, addDummyPrefix, removeExtraWhitespaces} = this.model;
    const texts: (string | undefined)[] = [];
    const byteOfId = new Map(Array.from(this.byteIds, (id, byte) => [id, byte]));
    return {
      byteOf: id => {
        this.checkId(id);
        return types[id] === PieceType.byte ? byteOfId.get(id)! : -1;
      },
      isControl: id => types[id] === PieceType.control,
      textOf: id => (texts[id] ??= id === this.unkId ? unkSurface : this.pieceAt(id).replaceAll(SPACE_SYMBOL, ' ')),
      startsWithSpace: id => id !== this.unkId && this.pieceAt(id).startsWith(SPACE_SYMBOL),
      stripsFirstSpace: addDummyPrefix || removeExtraWhitespaces,
      stripsAllFirstSpaces: removeExtraWhitespaces,
    };
  }
}

/** Not `instanceof`, which is false for an array from another realm, such as an iframe or a test's sandbox. */
function isBytes(value: unknown): value is Uint8Array {
  return Object.prototype.toString.call(value) === '[object Uint8Array]';
}

function bytePiece(byte: number): string {
  return `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
}

function invalid(reason: string): ValueError {
  return new ValueError(
    `Expected a valid SentencePiece model. Received: one where ${reason}. ` +
      'Train the model again, or fetch the file again.',
  );
}

function checkImplemented({modelType, hasDenormalizer}: SentencePieceProto): void {
  const refuse = (expected: string, received: string): never => {
    throw new ValueError(`Expected a SentencePiece model ${expected}. Received: ${received}.`);
  };
  const types = Object.entries(ModelType);
  if (!types.some(([, type]) => type === modelType)) {
    refuse(`of the type ${types.map(([name]) => `"${name}"`).join(', ')}`, `one of the type ${modelType}`);
  }
  if (hasDenormalizer) {
    refuse(
      'that decodes pieces as they are',
      'one with rules of denormalization. Train it without `denormalization_rule_tsv`',
    );
  }
}
