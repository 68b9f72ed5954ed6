/** KerasHub's `Gemma3Tokenizer`: SentencePiece with the special tokens of Gemma 3. */
import {checkKeys} from '../../base/errors';
import {type CheckpointLike, splitOpening, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {FETCH_OPTIONS, type FetchOptions} from '../../files/http_client';
import {defined} from '../../layers/arguments';
import {registerPresetClass} from '../preset_classes';
import {
  checkFlag,
  SENTENCE_PIECE_ARGUMENTS,
  SentencePieceTokenizer,
  type SentencePieceTokenizerArgs,
  type SentencePieceTokenizerConfig,
  tokenizerArguments,
} from '../sentence_piece_tokenizer';
import './names/register';

/** Arguments of {@link Gemma3Tokenizer}. */
export interface Gemma3TokenizerArgs extends SentencePieceTokenizerArgs {
  /** Whether the vocabulary must have the tokens for images. Defaults to true. */
  hasVisionTokens?: boolean;
}

/** The result of {@link Gemma3Tokenizer.getConfig}: all arguments except the vocabulary, which is a separate file. */
export interface Gemma3TokenizerConfig extends SentencePieceTokenizerConfig {
  hasVisionTokens: boolean;
}

/** Arguments that override those of a preset. */
export type Gemma3TokenizerOptions = Partial<Omit<Gemma3TokenizerArgs, 'proto'>>;

const OWNER = 'Gemma3Tokenizer';
const OPTIONS = ['hasVisionTokens', ...SENTENCE_PIECE_ARGUMENTS.filter(name => name !== 'proto')];

const TEXT_TOKENS = ['<bos>', '<eos>', '<pad>'];
const VISION_TOKENS = ['<img>', '<start_of_image>', '<end_of_image>'];

/**
 * Gemma 3's tokenizer: strings to ids and back, as `keras_hub.models.Gemma3Tokenizer`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_tokenizer/).
 *
 * A text becomes an array of ids, a batch of texts an array of such arrays. These have different lengths unless
 * `sequenceLength` is set.
 */
export class Gemma3Tokenizer extends SentencePieceTokenizer {
  /** @nocollapse */
  static override className = OWNER;
  readonly hasVisionTokens: boolean;
  /**
   * The file with the chat template of a Hugging Face folder, if it is not Gemma 3's. Null for all other tokenizers.
   * Templates are not executed: conversations are written as by `applyChatTemplate`, with a warning.
   */
  foreignChatTemplate: string | null = null;

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

  /**
   * @throws ValueError on unknown or unusable arguments, on a SentencePiece model that is not supported, and if the
   * vocabulary lacks a special token.
   */
  constructor(args: Gemma3TokenizerArgs) {
    checkKeys(OWNER, args, ['hasVisionTokens', ...SENTENCE_PIECE_ARGUMENTS]);
    const {hasVisionTokens = true, ...rest} = args;
    checkFlag('hasVisionTokens', hasVisionTokens);
    super(rest, hasVisionTokens ? [...TEXT_TOKENS, ...VISION_TOKENS] : TEXT_TOKENS);
    this.hasVisionTokens = hasVisionTokens;
  }

  get startTokenId(): number {
    return this.specialId(this.startToken);
  }
  get endTokenId(): number {
    return this.specialId(this.endToken);
  }
  get padTokenId(): number {
    return this.specialId(this.padToken);
  }
  /** -1 without vision tokens. */
  get imagePlaceholderId(): number {
    return this.hasVisionTokens ? this.specialId(this.imagePlaceholder) : -1;
  }
  /** -1 without vision tokens. */
  get startOfImageTokenId(): number {
    return this.hasVisionTokens ? this.specialId(this.startOfImageToken) : -1;
  }
  /** -1 without vision tokens. */
  get endOfImageTokenId(): number {
    return this.hasVisionTokens ? this.specialId(this.endOfImageToken) : -1;
  }
  protected override get paddingId(): number {
    return this.padTokenId;
  }

  override getConfig(): Gemma3TokenizerConfig {
    const {name, ...rest} = super.getConfig();
    return {name, hasVisionTokens: this.hasVisionTokens, ...rest};
  }

  /** As {@link SentencePieceTokenizer.fromConfig}. */
  static override fromConfig(config: object): Gemma3Tokenizer {
    return new Gemma3Tokenizer({...tokenizerArguments(config), proto: null});
  }

  /**
   * Loads the tokenizer of a preset.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError if files are missing or unusable, and on unknown or unusable options.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Gemma3TokenizerOptions & FetchOptions = {},
  ): Promise<Gemma3Tokenizer> {
    checkKeys('fromPreset', options, [...OPTIONS, ...FETCH_OPTIONS]);
    const {opening, rest} = splitOpening(options);
    return withCheckpoint(
      preset,
      async checkpoint => {
        const [proto, saved] = await Promise.all([checkpoint.vocabulary(), checkpoint.config('tokenizer', OWNER)]);
        const args = {...(saved && tokenizerArguments(saved.config)), ...defined(rest), proto};
        const tokenizer = new Gemma3Tokenizer(args);
        if (typeof saved?.foreign_chat_template === 'string') {
          tokenizer.foreignChatTemplate = saved.foreign_chat_template;
        }
        return tokenizer;
      },
      opening,
    );
  }
}
registerPresetClass(Gemma3Tokenizer, 'Gemma3Backbone');
