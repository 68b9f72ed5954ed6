/** KerasHub's `Gemma3Tokenizer`: SentencePiece with the special tokens of Gemma 3. */
import {camelKeys} from '../../base/casing';
import {checkKeys, show, ValueError} from '../../base/errors';
import {savePreset} from '../../checkpoints/keras/write_preset';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type PresetTarget} from '../../files/open_folder';
import {SentencePiece, type StreamingDecoder} from '../../tokenizers/sentence_piece';

/** Arguments of {@link Gemma3Tokenizer}. */
export interface Gemma3TokenizerArgs {
  /** The bytes of a SentencePiece model: `vocabulary.spm` of a preset. */
  proto: Uint8Array;
  /** Whether the vocabulary must have the tokens for images. Defaults to true. */
  hasVisionTokens?: boolean;
  /** Name of the tokenizer. Defaults to "gemma3_tokenizer". */
  name?: string;
  /** Put `<bos>` before each text. Defaults to false. */
  addBos?: boolean;
  /** Put `<eos>` after each text. Defaults to false. */
  addEos?: boolean;
  /** Number of tokens to which each text is padded with `<pad>` or cut. Null, the default: texts keep their lengths. */
  sequenceLength?: number | null;
}

/** The result of {@link Gemma3Tokenizer.getConfig}: all arguments except the vocabulary, which is a separate file. */
export interface Gemma3TokenizerConfig {
  name: string;
  hasVisionTokens: boolean;
  addBos: boolean;
  addEos: boolean;
  sequenceLength: number | null;
}

const ARGS = ['proto', 'hasVisionTokens', 'name', 'addBos', 'addEos', 'sequenceLength'] as const;

/**
 * Gemma 3's tokenizer: strings to ids and back.
 *
 * A text becomes an array of ids, a batch of texts an array of such arrays. These have different lengths unless
 * `sequenceLength` is set. As `keras_hub.models.Gemma3Tokenizer`.
 */
export class Gemma3Tokenizer {
  readonly name: string;
  readonly hasVisionTokens: boolean;
  readonly addBos: boolean;
  readonly addEos: boolean;
  readonly sequenceLength: number | null;

  /** Comes before a text. */
  readonly startToken = '<bos>';
  /** Comes after a text. */
  readonly endToken = '<eos>';
  /** Pads a text to a length. */
  readonly padToken = '<pad>';
  /** Stands for each part of an image. */
  readonly imagePlaceholder = '<img>';
  readonly startOfImageToken = '<start_of_image>';
  readonly endOfImageToken = '<end_of_image>';

  readonly startTokenId: number;
  readonly endTokenId: number;
  readonly padTokenId: number;
  /** -1 without vision tokens. */
  readonly imagePlaceholderId: number;
  /** -1 without vision tokens. */
  readonly startOfImageTokenId: number;
  /** -1 without vision tokens. */
  readonly endOfImageTokenId: number;

  /** All special tokens that the vocabulary must have. */
  readonly specialTokens: readonly string[];
  /** Their ids, in the same order. */
  readonly specialTokenIds: readonly number[];

  private readonly sentencePiece: SentencePiece;

  /**
   * @throws ValueError on unknown or unusable arguments, on a SentencePiece model that is not supported, and if the
   * vocabulary lacks a special token.
   */
  constructor(args: Gemma3TokenizerArgs) {
    checkKeys('Gemma3Tokenizer', args, ARGS);
    const {proto, name = 'gemma3_tokenizer', hasVisionTokens = true, addBos = false, addEos = false} = args;
    const sequenceLength = args.sequenceLength ?? null;
    for (const [key, value] of Object.entries({hasVisionTokens, addBos, addEos})) {
      if (typeof value !== 'boolean') {
        throw new ValueError(`Expected \`${key}\` to be true or false. Received: ${show(value)}. Pass a boolean.`);
      }
    }
    if (sequenceLength !== null && !(Number.isInteger(sequenceLength) && sequenceLength > 0)) {
      throw new ValueError(
        `Expected \`sequenceLength\` to be a positive integer or null. Received: ${show(sequenceLength)}. ` +
          `Pass null to keep the lengths of the texts.`,
      );
    }
    this.name = name;
    this.hasVisionTokens = hasVisionTokens;
    this.addBos = addBos;
    this.addEos = addEos;
    this.sequenceLength = sequenceLength;
    this.sentencePiece = new SentencePiece(proto);

    this.specialTokens = [
      this.startToken,
      this.endToken,
      this.padToken,
      ...(hasVisionTokens ? [this.imagePlaceholder, this.startOfImageToken, this.endOfImageToken] : []),
    ];
    for (const token of this.specialTokens) {
      if (!this.sentencePiece.hasPiece(token)) {
        throw new ValueError(
          `Cannot find special token \`'${token}'\` in the provided vocabulary for \`Gemma3Tokenizer\`. ` +
            `Please ensure \`'${token}'\` is in the provided vocabulary when creating the Tokenizer.`,
        );
      }
    }
    this.specialTokenIds = this.specialTokens.map(token => this.tokenToId(token));
    const [start, end, pad, image = -1, startOfImage = -1, endOfImage = -1] = this.specialTokenIds;
    this.startTokenId = start!;
    this.endTokenId = end!;
    this.padTokenId = pad!;
    this.imagePlaceholderId = image;
    this.startOfImageTokenId = startOfImage;
    this.endOfImageTokenId = endOfImage;
  }

  /** The bytes of the vocabulary file, for saving it into a preset. */
  get proto(): Uint8Array {
    return this.sentencePiece.proto;
  }

  /** Number of tokens in the vocabulary. */
  get vocabularySize(): number {
    return this.sentencePiece.vocabularySize;
  }

  /** All tokens, by id. */
  getVocabulary(): string[] {
    return Array.from({length: this.vocabularySize}, (_, id) => this.sentencePiece.idToPiece(id));
  }

  /** The id of a token; the id of `<unk>` if it is not in the vocabulary. */
  tokenToId(token: string): number {
    return this.sentencePiece.pieceToId(token);
  }

  /**
   * The token with this id.
   *
   * @throws ValueError if the id is not in the vocabulary.
   */
  idToToken(id: number): string {
    return this.sentencePiece.idToPiece(id);
  }

  /**
   * The ids of a text, or of each text of a batch.
   *
   * @throws ValueError on anything but text.
   */
  tokenize(text: string): number[];
  tokenize(texts: readonly string[]): number[][];
  tokenize(input: string | readonly string[]): number[] | number[][] {
    if (typeof input === 'string') return this.tokenizeOne(input);
    if (!Array.isArray(input) || !input.every(text => typeof text === 'string')) {
      throw new ValueError(
        `Expected the input of \`tokenize\` to be a string or an array of strings. Received: ${show(input)}. ` +
          `Pass text.`,
      );
    }
    return input.map(text => this.tokenizeOne(text));
  }

  /**
   * The text of a sequence of ids, or of each sequence of a batch. `<bos>`, `<eos>` and `<pad>` have no text.
   *
   * @throws ValueError if an id is not in the vocabulary.
   */
  detokenize(ids: readonly number[]): string;
  detokenize(batch: readonly (readonly number[])[]): string[];
  detokenize(input: readonly number[] | readonly (readonly number[])[]): string | string[] {
    if (isNumbers(input)) return this.sentencePiece.decode(input);
    if (!Array.isArray(input) || !input.every(isNumbers)) {
      throw new ValueError(
        `Expected the input of \`detokenize\` to be an array of ids or an array of such arrays. ` +
          `Received: ${show(input)}. Pass ids.`,
      );
    }
    return input.map(ids => this.sentencePiece.decode(ids));
  }

  /** A decoder that takes ids one by one and returns text as soon as it is final. */
  decoder(): StreamingDecoder {
    return this.sentencePiece.decoder();
  }

  /** All arguments except `proto`. */
  getConfig(): Gemma3TokenizerConfig {
    const {name, hasVisionTokens, addBos, addEos, sequenceLength} = this;
    return {name, hasVisionTokens, addBos, addEos, sequenceLength};
  }

  /**
   * Loads the tokenizer of a preset.
   *
   * @throws ValueError if files are missing or unusable.
   */
  static async fromPreset(preset: CheckpointLike): Promise<Gemma3Tokenizer> {
    return withCheckpoint(preset, async checkpoint => {
      const proto = await checkpoint.vocabulary();
      const saved = await checkpoint.config('tokenizer', 'Gemma3Tokenizer');
      if (!saved) return new Gemma3Tokenizer({proto});
      const {proto: _p, dtype: _d, trainable: _t, configFile: _c, ...rest} = camelKeys(saved.config);
      return new Gemma3Tokenizer({...rest, proto});
    });
  }

  /** Saves the tokenizer and its vocabulary into a preset, next to existing files, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.tokenizer(this));
  }

  private tokenizeOne(text: string): number[] {
    const ids = this.sentencePiece.encode(text);
    if (this.addBos) ids.unshift(this.startTokenId);
    if (this.addEos) ids.push(this.endTokenId);
    if (this.sequenceLength === null) return ids;
    const padding = this.sequenceLength - ids.length;
    // Like KerasHub, this may cut the end token.
    return padding < 0 ? ids.slice(0, this.sequenceLength) : [...ids, ...Array<number>(padding).fill(this.padTokenId)];
  }
}

function isNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every(id => typeof id === 'number');
}
