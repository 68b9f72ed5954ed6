/** Tokenizers with a SentencePiece model as their vocabulary. */
import * as tf from '@tensorflow/tfjs';
import {intoFolder, writeAll} from '../base/byte_sink';
import {readAll} from '../base/byte_source';
import {camelKeys, snakeCase} from '../base/casing';
import {checkKeys, show, ValueError} from '../base/errors';
import {isNumberArray, isShapedArray, type NumberArray, readNumbers, type ShapedArray} from '../base/nested_array';
import {VOCABULARY_FILE} from '../checkpoints/keras/preset_files';
import {FETCH_OPTIONS, type FetchOptions} from '../files/http_client';
import {openTarget, type PresetTarget} from '../files/open_folder';
import {openPreset, type PresetLike} from '../hub/open_preset';
import {SentencePiece, type StreamingDecoder} from '../tokenizers/sentence_piece';
import {noVocabulary, type TokenIds, type TokenIdsOrBatch, Tokenizer} from './tokenizer';

/** Arguments of {@link SentencePieceTokenizer}. */
export interface SentencePieceTokenizerArgs {
  /** The bytes of a SentencePiece model: `vocabulary.spm` of a preset. Null: none yet, see `setProto`. */
  proto: Uint8Array | null;
  /** Name of the tokenizer. Defaults to its class in snake case, "gemma3_tokenizer". */
  name?: string;
  /** Put the token that starts a text before each text. Defaults to false. */
  addBos?: boolean;
  /** Put the token that ends a text after each text. Defaults to false. */
  addEos?: boolean;
  /** Number of tokens to which each text is padded or cut. Null, the default: texts keep their lengths. */
  sequenceLength?: number | null;
}

/** The result of `getConfig`: all arguments except the vocabulary, which is a separate file. */
export interface SentencePieceTokenizerConfig {
  name: string;
  addBos: boolean;
  addEos: boolean;
  sequenceLength: number | null;
}

/** The arguments of every tokenizer of this kind. */
export const SENTENCE_PIECE_ARGUMENTS = ['proto', 'name', 'addBos', 'addEos', 'sequenceLength'] as const;

/**
 * Converts strings to token ids and back with a SentencePiece model, as `keras_hub.tokenizers.SentencePieceTokenizer`.
 *
 * A text becomes an array of ids, a batch of texts an array of such arrays. These have different lengths unless
 * `sequenceLength` is set.
 */
export class SentencePieceTokenizer extends Tokenizer {
  /** @nocollapse */
  static override className = 'SentencePieceTokenizer';
  readonly fileAssets: readonly string[] = [VOCABULARY_FILE];
  readonly name: string;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly specialTokens: readonly string[];

  private length: number | null = null;
  private sentencePiece: SentencePiece | null = null;
  /** Ids of the special tokens. */
  private ids: ReadonlyMap<string, number> = new Map();

  /**
   * @param special for subclasses: tokens that the vocabulary must have.
   * @throws ValueError on unknown or unusable arguments, on a SentencePiece model that is not supported, and if the
   * vocabulary lacks a special token.
   */
  constructor(args: SentencePieceTokenizerArgs, special: readonly string[] = []) {
    super();
    const owner = this.getClassName();
    if (new.target === SentencePieceTokenizer) checkKeys(owner, args, SENTENCE_PIECE_ARGUMENTS);
    const {proto, name = snakeCase(owner), addBos = false, addEos = false} = args;
    for (const [key, value] of Object.entries({addBos, addEos})) checkFlag(key, value);
    this.name = name;
    this.addBos = addBos;
    this.addEos = addEos;
    this.sequenceLength = args.sequenceLength ?? null;
    this.specialTokens = special;
    this.setProto(proto);
  }

  /** Number of tokens to which each text is padded or cut; null if texts keep their lengths. Can be set. */
  get sequenceLength(): number | null {
    return this.length;
  }
  set sequenceLength(length: number | null) {
    if (length !== null && !(Number.isInteger(length) && length > 0)) {
      throw new ValueError(
        `Expected \`sequenceLength\` to be a positive integer or null. Received: ${show(length)}. ` +
          `Pass null to keep the lengths of the texts.`,
      );
    }
    this.length = length;
  }

  // === Vocabulary ===

  /**
   * Replaces the vocabulary. Null removes it: the tokenizer cannot be used until it has another one.
   *
   * @param proto the bytes of a SentencePiece model.
   * @throws ValueError on anything else, on a model that is not supported, and if it lacks a special token. In these
   * cases the old vocabulary stays.
   */
  setProto(proto: Uint8Array | null): void {
    if (proto === null) {
      this.sentencePiece = null;
      this.ids = new Map();
      return;
    }
    const sentencePiece = new SentencePiece(proto);
    const owner = this.getClassName();
    for (const token of this.specialTokens) {
      if (!sentencePiece.hasPiece(token)) {
        throw new ValueError(
          `Cannot find special token \`'${token}'\` in the provided vocabulary for \`${owner}\`. ` +
            `Please ensure \`'${token}'\` is in the provided vocabulary when creating the Tokenizer.`,
        );
      }
    }
    if ((this.addBos && sentencePiece.bosId < 0) || (this.addEos && sentencePiece.eosId < 0)) {
      throw new ValueError(
        `${owner} expected a vocabulary with the tokens for \`addBos\` and \`addEos\`. Received one without them.`,
      );
    }
    this.sentencePiece = sentencePiece;
    this.ids = new Map(this.specialTokens.map(token => [token, sentencePiece.pieceToId(token)]));
  }

  /** Saves the vocabulary as `vocabulary.spm` in a folder. */
  async saveAssets(target: PresetTarget): Promise<void> {
    const {proto} = this;
    const sink = await openTarget(target);
    await intoFolder(sink, () => writeAll(sink, VOCABULARY_FILE, proto));
  }

  /**
   * Replaces the vocabulary with the file `vocabulary.spm` of a folder.
   *
   * @param options how to request it, if the folder is at an http(s) address.
   * @throws ValueError if there is none, and as `setProto`.
   */
  async loadAssets(folder: PresetLike, options: FetchOptions = {}): Promise<void> {
    checkKeys('loadAssets', options, FETCH_OPTIONS);
    this.setProto(await readAll(await openPreset(folder, options), VOCABULARY_FILE));
  }

  private get model(): SentencePiece {
    if (!this.sentencePiece) throw noVocabulary(this.getClassName());
    return this.sentencePiece;
  }

  /**
   * The bytes of the vocabulary file.
   *
   * @throws ValueError without a vocabulary.
   */
  get proto(): Uint8Array {
    return this.model.proto;
  }

  get vocabularySize(): number {
    return this.model.vocabularySize;
  }

  getVocabulary(): string[] {
    return Array.from({length: this.vocabularySize}, (_, id) => this.model.idToPiece(id));
  }

  /** The id of a token; the id of `<unk>` if it is not in the vocabulary. */
  tokenToId(token: string): number {
    return this.model.pieceToId(token);
  }

  /**
   * The token with this id.
   *
   * @throws ValueError if the id is not in the vocabulary.
   */
  idToToken(id: number): string {
    return this.model.idToPiece(id);
  }

  get specialTokenIds(): readonly number[] {
    return this.specialTokens.map(token => this.specialId(token));
  }

  /** The id of a special token. */
  protected specialId(token: string): number {
    const id = this.ids.get(token);
    if (id === undefined) throw noVocabulary(this.getClassName());
    return id;
  }

  /** The id with which texts are padded. */
  protected get paddingId(): number {
    return 0;
  }

  // === Texts and ids ===

  /**
   * The ids of a text, or of each text of a batch: an array of strings, or a tensor of strings of rank 0 or 1.
   *
   * @throws ValueError on anything but text, and without a vocabulary.
   */
  tokenize(text: string): number[];
  tokenize(texts: readonly string[]): number[][];
  tokenize(input: string | readonly string[] | tf.Tensor): number[] | number[][];
  tokenize(input: string | readonly string[] | tf.Tensor): number[] | number[][] {
    const given = input instanceof tf.Tensor ? stringsOf(input) : input;
    if (typeof given === 'string') return this.tokenizeOne(given);
    if (!Array.isArray(given) || !given.every(text => typeof text === 'string')) {
      throw new ValueError(
        `Expected the input of \`tokenize\` to be a string or an array of strings. Received: ${show(given)}. ` +
          `Pass text.`,
      );
    }
    return given.map(text => this.tokenizeOne(text));
  }

  /**
   * The text of one id, of a sequence of ids, or of each sequence of a batch: arrays, which may be typed, or an int32
   * tensor of rank 0, 1 or 2. Control tokens such as `<bos>`, `<eos>` and `<pad>` have no text.
   *
   * @throws ValueError if an id is not in the vocabulary, and without a vocabulary.
   */
  detokenize(ids: TokenIds): string;
  detokenize(batch: readonly (readonly number[] | NumberArray)[]): string[];
  detokenize(input: TokenIdsOrBatch): string | string[];
  detokenize(input: TokenIdsOrBatch): string | string[] {
    const given = input instanceof tf.Tensor ? idsOf(input) : isShapedArray(input) ? shapedIds(input) : input;
    const one = idsIn(typeof given === 'number' ? [given] : given);
    if (one) return this.model.decode(one);
    const rows = Array.isArray(given) ? given.map(idsIn) : [undefined];
    const wrong = rows.indexOf(undefined);
    if (wrong >= 0) {
      const place = Array.isArray(given) ? ` at [${wrong}]` : '';
      throw new ValueError(
        `Expected the input of \`detokenize\` to be an array of ids or an array of such arrays. ` +
          `Received: ${show(Array.isArray(given) ? given[wrong] : given)}${place}. Pass ids.`,
      );
    }
    return rows.map(ids => this.model.decode(ids!));
  }

  /** A decoder that takes ids one by one and returns text as soon as it is final. */
  decoder(): StreamingDecoder {
    return this.model.decoder();
  }

  private tokenizeOne(text: string): number[] {
    const {model, sequenceLength} = this;
    const ids = model.encode(text);
    if (this.addBos) ids.unshift(model.bosId);
    if (this.addEos) ids.push(model.eosId);
    if (sequenceLength === null) return ids;
    const padding = sequenceLength - ids.length;
    // Like KerasHub, this may cut the end token.
    return padding < 0 ? ids.slice(0, sequenceLength) : [...ids, ...Array<number>(padding).fill(this.paddingId)];
  }

  getConfig(): SentencePieceTokenizerConfig {
    const {name, addBos, addEos, sequenceLength} = this;
    return {name, addBos, addEos, sequenceLength};
  }

  /**
   * Creates a tokenizer from a result of `getConfig` or a configuration of KerasHub. It has no vocabulary yet.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): SentencePieceTokenizer {
    return new this({...tokenizerArguments(config), proto: null});
  }
}

/** The arguments in a configuration of KerasHub, without the vocabulary and what every Keras layer has. */
export function tokenizerArguments(config: object): Record<string, unknown> {
  const {proto: _p, dtype: _d, trainable: _t, configFile: _c, ...rest} = camelKeys(config);
  return rest;
}

/** @throws ValueError unless the value is a boolean. */
export function checkFlag(name: string, value: unknown): void {
  if (typeof value === 'boolean') return;
  throw new ValueError(`Expected \`${name}\` to be true or false. Received: ${show(value)}. Pass a boolean.`);
}

function stringsOf(tensor: tf.Tensor): string | string[] {
  if (tensor.dtype !== 'string' || tensor.rank > 1) {
    throw new ValueError(
      `Expected a tensor of strings of rank 0 or 1. Received: dtype ${tensor.dtype}, shape [${tensor.shape}].`,
    );
  }
  const texts = tensor.dataSync<'string'>() as unknown as string[];
  return tensor.rank === 0 ? texts[0]! : [...texts];
}

function idsOf(tensor: tf.Tensor): number | number[] | number[][] {
  if (tensor.dtype !== 'int32' || tensor.rank > 2) {
    throw new ValueError(
      `Expected a tensor of token ids, int32, of rank 0, 1 or 2. Received: dtype ${tensor.dtype}, ` +
        `shape [${tensor.shape}].`,
    );
  }
  return tensor.arraySync() as number | number[] | number[][];
}

/** The ids of an array, which may be typed; undefined for anything else. */
function idsIn(value: unknown): readonly number[] | undefined {
  if (isNumberArray(value)) return Array.from(value as ArrayLike<number | bigint>, Number);
  return Array.isArray(value) && value.every(id => typeof id === 'number') ? value : undefined;
}

function shapedIds(array: ShapedArray): number[] | number[][] {
  const {values, shape} = readNumbers('ids', array, 'int32');
  if (shape.length !== 1 && shape.length !== 2) {
    throw new ValueError(`Expected token ids of shape (T) or (B, T). Received: shape [${shape}].`);
  }
  if (shape.length === 1) return [...values];
  const [rows, length] = shape as [number, number];
  return Array.from({length: rows}, (_, row) => [...values.subarray(row * length, (row + 1) * length)]);
}
