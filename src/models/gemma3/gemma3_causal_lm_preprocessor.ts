/** Turns strings and images into inputs of a model, for training and generation, and token ids into strings. */
import * as tf from '@tensorflow/tfjs';
import {checkArguments, checkObject, checkPositiveInteger} from '../../base/checks';
import {checkKeys, describeNotA, show, ValueError} from '../../base/errors';
import {imageConverterConfig} from '../../checkpoints/keras/serialized';
import {
  CHECKPOINT_OPTIONS,
  type CheckpointLike,
  type CheckpointOptions,
  splitOpening,
  withCheckpoint,
} from '../../checkpoints/open_checkpoint';
import {type ImageReader} from '../../images/image_like';
import {type ArgumentTable, completeArguments, defined, namesOf} from '../../layers/arguments';
import {toTensor} from '../../layers/tensor_like';
import {CausalLMPreprocessor} from '../causal_lm_preprocessor';
import {type PromptTokens} from '../generate_options';
import {registerPresetClass} from '../preset_classes';
import {type TokenInputs} from '../token_inputs';
import {type VisionTensors} from '../vision_tensors';
import {Gemma3ImageConverter} from './gemma3_image_converter';
import {Gemma3Tokenizer} from './gemma3_tokenizer';
import {imagesOfPrompts, visionInputs} from './parts/prompt_images';
import {
  checkWholeImages,
  type GenerationInputs,
  generationRows,
  type PromptsAndResponses,
  trainingRows,
} from './parts/prompt_rows';
import {storedArguments} from './parts/stored_arguments';
import {joinSegments, padSegments, rowsTensor, type Sequence} from './parts/segments';

/** Arguments of {@link Gemma3CausalLMPreprocessor}. */
export interface Gemma3CausalLMPreprocessorArgs {
  /** Turns strings into token ids and back. */
  tokenizer: Gemma3Tokenizer;
  /** Prepares images for the model; null, the default, for a text-only model. */
  imageConverter?: Gemma3ImageConverter | null;
  /** Length of the token sequences. Defaults to 1024. */
  sequenceLength?: number;
  /** Put `<bos>` before each sequence. Defaults to true. */
  addStartToken?: boolean;
  /** Put `<eos>` after each sequence, for training. Defaults to true. */
  addEndToken?: boolean;
  /** Largest number of images in a prompt. Defaults to 2. */
  maxImagesPerPrompt?: number;
  /** Number of tokens that stand for an image. Defaults to 256. */
  numVisionTokensPerImage?: number;
  /** Name of the preprocessor. Defaults to "gemma3_causal_lm_preprocessor". */
  name?: string;
}

const OWNER = 'Gemma3CausalLMPreprocessor';
const ARGUMENTS = {
  name: ['text', 'gemma3_causal_lm_preprocessor'],
  sequenceLength: ['size', 1024],
  addStartToken: ['flag', true],
  addEndToken: ['flag', true],
  maxImagesPerPrompt: ['size', 2],
  numVisionTokensPerImage: ['size', 256],
} satisfies ArgumentTable<Omit<Gemma3CausalLMPreprocessorArgs, 'tokenizer' | 'imageConverter'>>;

/**
 * Token ids and their padding mask: (T) for one text, (B, T) for several. If the preprocessor has an image converter,
 * also the tensors of images.
 */
export type TokenBatch = {
  /** int32 */
  token_ids: tf.Tensor;
  /** bool: true for tokens, false for padding. */
  padding_mask: tf.Tensor;
} & Partial<VisionTensors>;

/** Inputs and labels for training. */
export interface TrainingBatch {
  x: TokenBatch;
  /** int32, the token that follows each token of `x`. */
  y: tf.Tensor;
  /** bool: true where `y` belongs to the response. */
  sampleWeight: tf.Tensor;
}

/**
 * Preprocessing of Gemma 3, as `keras_hub.models.Gemma3CausalLMPreprocessor`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_causal_lm_preprocessor/): for text only or, with an image
 * converter, for text and images. `<start_of_image>` in a prompt marks the place of an image.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3CausalLMPreprocessor extends CausalLMPreprocessor<GenerationInputs> {
  /** @nocollapse */
  static override className = 'Gemma3CausalLMPreprocessor';
  readonly name: string;
  readonly tokenizer: Gemma3Tokenizer;
  readonly imageConverter: Gemma3ImageConverter | null;
  addStartToken: boolean;
  addEndToken: boolean;
  readonly numVisionTokensPerImage: number;
  private maxImages = 1;

  constructor(args: Gemma3CausalLMPreprocessorArgs) {
    checkArguments(OWNER, args, [...namesOf(ARGUMENTS), 'tokenizer', 'imageConverter']);
    super();
    const {tokenizer, imageConverter = null} = args;
    if (!(tokenizer instanceof Gemma3Tokenizer)) {
      throw new ValueError(
        `${OWNER} expected a Gemma3Tokenizer as \`tokenizer\`. Received: ${describeNotA(Gemma3Tokenizer, tokenizer)}.`,
      );
    }
    if (imageConverter !== null && !(imageConverter instanceof Gemma3ImageConverter)) {
      throw new ValueError(
        `${OWNER} expected \`imageConverter\` to be null or a Gemma3ImageConverter. ` +
          `Received: ${describeNotA(Gemma3ImageConverter, imageConverter)}.`,
      );
    }
    const options = completeArguments(OWNER, args, ARGUMENTS);
    const {sequenceLength, maxImagesPerPrompt, numVisionTokensPerImage} = options;
    this.name = options.name;
    this.tokenizer = tokenizer;
    this.imageConverter = imageConverter;
    this.sequenceLength = sequenceLength;
    this.addStartToken = options.addStartToken;
    this.addEndToken = options.addEndToken;
    this.maxImagesPerPrompt = maxImagesPerPrompt;
    this.numVisionTokensPerImage = numVisionTokensPerImage;
    if (imageConverter && (!imageConverter.imageSize || imageConverter.dataFormat !== 'channels_last')) {
      throw new ValueError(
        `${OWNER} expected an image converter with an \`imageSize\` and "channels_last". ` +
          `Received: imageSize=${show(imageConverter.imageSize)}, dataFormat=${show(imageConverter.dataFormat)}.`,
      );
    }
    if (imageConverter && !tokenizer.hasVisionTokens) {
      throw new ValueError(
        `${OWNER} expected a tokenizer with vision tokens for an image converter. Received: hasVisionTokens=false.`,
      );
    }
    if (imageConverter && sequenceLength <= maxImagesPerPrompt * numVisionTokensPerImage) {
      throw new ValueError(
        '`sequenceLength` should be greater than `maxImagesPerPrompt * numVisionTokensPerImage`. Received: ' +
          `sequenceLength=${sequenceLength}, maxImagesPerPrompt=${maxImagesPerPrompt}, ` +
          `numVisionTokensPerImage=${numVisionTokensPerImage}.`,
      );
    }
  }

  /** True for a preprocessor without an image converter. */
  get textOnlyModel(): boolean {
    return this.imageConverter === null;
  }

  /** Largest number of images in a prompt. Can be set. */
  get maxImagesPerPrompt(): number {
    return this.maxImages;
  }
  set maxImagesPerPrompt(count: number) {
    checkPositiveInteger(OWNER, 'maxImagesPerPrompt', count);
    this.maxImages = count;
  }

  /** Stands for each part of an image; null for text only. */
  get imagePlaceholder(): string | null {
    return this.textOnlyModel ? null : this.tokenizer.imagePlaceholder;
  }
  /** Marks the place of an image in a prompt; null for text only. */
  get startOfImageToken(): string | null {
    return this.textOnlyModel ? null : this.tokenizer.startOfImageToken;
  }
  /** Comes after the parts of an image; null for text only. */
  get endOfImageToken(): string | null {
    return this.textOnlyModel ? null : this.tokenizer.endOfImageToken;
  }

  /**
   * Combines `<bos> prompt response <eos>` for training. Labels are the next tokens; only those of the response have a
   * weight. If prompt and response are too long together, the longer of them is cut first, even within the tokens of an
   * image.
   *
   * @param x prompts and responses, with their images if any. The caller disposes images that are tensors.
   * @throws ValueError unless there is one response per prompt, and on images that do not match the prompts.
   */
  async call(x: PromptsAndResponses, {sequenceLength}: {sequenceLength?: number} = {}): Promise<TrainingBatch> {
    const {segments, readers, scalar} = trainingRows(x, this);
    const length = this.checkedLength(sequenceLength);
    // One token more than needed, since the last one has no label.
    const rows = segments.map(row => padSegments(row, this.sequenceOptions(length + 1, this.addEndToken)));
    const ids = rows.map(row => row.ids.slice(0, -1));
    const inputs = await this.inputs(ids, readers, length, scalar);
    const next = (map: (row: Sequence) => (number | boolean)[], dtype: 'int32' | 'bool') =>
      rowsTensor(
        rows.map(row => map(row).slice(1)),
        length,
        dtype,
        scalar,
      );
    return {
      x: inputs,
      y: next(row => row.ids, 'int32'),
      sampleWeight: next(row => row.segments.map(segment => segment === 1), 'bool'),
    };
  }

  /**
   * Number of tokens in each row that `call` returns, without padding.
   *
   * @throws ValueError as `call`, except for unusable images, which are not read.
   */
  packedLengths(x: PromptsAndResponses, {sequenceLength}: {sequenceLength?: number} = {}): number[] {
    const options = this.sequenceOptions(this.checkedLength(sequenceLength) + 1, this.addEndToken);
    return trainingRows(x, this).segments.map(row => joinSegments(row, options).ids.length - 1);
  }

  /**
   * Prompts for generation: token ids with `<bos>`, without `<eos>` or padding, cut to `sequenceLength`, and their
   * images.
   *
   * @throws ValueError on unusable prompts, on images that do not match them, and if an image would be cut.
   */
  async promptTokens(x: GenerationInputs, {sequenceLength}: {sequenceLength?: number} = {}): Promise<PromptTokens> {
    const {segments, readers, scalar} = generationRows(x, this);
    const options = this.sequenceOptions(this.checkedLength(sequenceLength), false);
    const tokens = segments.map(row => joinSegments(row, options).ids);
    checkWholeImages(tokens, readers, options.length, this);
    const {imagePlaceholderId} = this.tokenizer;
    const visionMask = tokens.map(ids => ids.map(id => readers !== null && id === imagePlaceholderId));
    const images = readers ? await imagesOfPrompts(readers, this.imageConverter!) : tokens.map(() => null);
    return {tokens, scalar, images, visionMask};
  }

  /**
   * Prompts for generation as inputs of the model: `<bos> prompt`, padded or cut to `sequenceLength`.
   *
   * @throws ValueError as `promptTokens`.
   */
  async generatePreprocess(x: GenerationInputs, {sequenceLength}: {sequenceLength?: number} = {}): Promise<TokenBatch> {
    const {segments, readers, scalar} = generationRows(x, this);
    const options = this.sequenceOptions(this.checkedLength(sequenceLength), false);
    const rows = segments.map(row => padSegments(row, options).ids);
    checkWholeImages(rows, readers, options.length, this);
    return this.inputs(rows, readers, options.length, scalar);
  }

  /**
   * Decodes token ids → one text for (T), an array of texts for (B, T), without padding and special tokens. Takes what
   * a model without a preprocessor generates, or the same as arrays of numbers.
   *
   * @throws ValueError unless both have the same shape.
   */
  async generatePostprocess(x: Pick<TokenInputs, 'token_ids' | 'padding_mask'>): Promise<string | string[]> {
    checkObject(OWNER, x);
    const created: tf.Tensor[] = [];
    try {
      const [tokens, kept] = [
        toTensor('token_ids', x.token_ids, 'int32', created),
        toTensor('padding_mask', x.padding_mask, 'int32', created),
      ];
      if (tokens.rank < 1 || tokens.rank > 2 || tokens.shape.join() !== kept.shape.join()) {
        throw new ValueError(
          `${OWNER} expected token_ids and padding_mask of the same shape, (B, T) or (T). Received: ` +
            `[${tokens.shape}] and [${kept.shape}].`,
        );
      }
      const [ids, mask] = await Promise.all([tokens.data(), kept.data()]);
      const length = tokens.shape.at(-1)!;
      const rows = Array.from({length: tokens.rank === 1 ? 1 : tokens.shape[0]!}, (_, row) =>
        Array.from(ids.subarray(row * length, (row + 1) * length)).filter((_, t) => mask[row * length + t]),
      );
      const texts = rows.map(row => this.tokenizer.detokenize(this.stripSpecial(row)));
      return tokens.rank === 1 ? texts[0]! : texts;
    } finally {
      tf.dispose(created);
    }
  }

  /** Removes special tokens, except `<start_of_image>`, which comes from the user's prompt. */
  stripSpecial(ids: readonly number[]): number[] {
    return ids.filter(id => !this.isSpecial(id));
  }

  /** Whether `stripSpecial` removes this id. */
  isSpecial(id: number): boolean {
    const {specialTokenIds, startOfImageTokenId} = this.tokenizer;
    return id !== startOfImageTokenId && specialTokenIds.includes(id);
  }

  getConfig(): Record<string, unknown> {
    return {
      name: this.name,
      tokenizer: {className: 'Gemma3Tokenizer', config: this.tokenizer.getConfig()},
      imageConverter: this.imageConverter && {
        className: 'Gemma3ImageConverter',
        config: this.imageConverter.getConfig(),
      },
      sequenceLength: this.sequenceLength,
      addStartToken: this.addStartToken,
      addEndToken: this.addEndToken,
      maxImagesPerPrompt: this.maxImagesPerPrompt,
      numVisionTokensPerImage: this.numVisionTokensPerImage,
    };
  }

  /**
   * Creates a preprocessor from a result of `getConfig` or a configuration of KerasHub. Its tokenizer has no vocabulary
   * yet: see `loadPresetAssets`.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): Gemma3CausalLMPreprocessor {
    const {rest, tokenizer, imageConverter} = storedArguments(config);
    return new Gemma3CausalLMPreprocessor({
      ...rest,
      tokenizer: Gemma3Tokenizer.fromConfig(tokenizer),
      imageConverter: imageConverter && Gemma3ImageConverter.fromConfig(imageConverter),
    });
  }

  /**
   * Loads the preprocessor of a preset, with its tokenizer. If the preset was saved for another task, only its tokenizer
   * and its image converter are used.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError on unknown or unusable options, and if files are missing or unusable.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Partial<Gemma3CausalLMPreprocessorArgs> & CheckpointOptions = {},
  ): Promise<Gemma3CausalLMPreprocessor> {
    checkKeys('fromPreset', options, [...namesOf(ARGUMENTS), 'tokenizer', 'imageConverter', ...CHECKPOINT_OPTIONS]);
    const {opening, rest} = splitOpening(options);
    const given = defined(rest);
    return withCheckpoint(
      preset,
      async checkpoint => {
        const [tokenizer, saved] = await Promise.all([
          given.tokenizer ?? Gemma3Tokenizer.fromPreset(checkpoint),
          checkpoint.config('preprocessor'),
        ]);
        const own = saved?.class_name === OWNER ? storedArguments(saved.config) : null;
        const alone = own ? undefined : await checkpoint.config('imageConverter');
        const stored = own ? own.imageConverter : alone && imageConverterConfig(alone);
        const imageConverter = stored ? Gemma3ImageConverter.fromConfig(stored) : null;
        return new Gemma3CausalLMPreprocessor({...own?.rest, imageConverter, ...given, tokenizer});
      },
      opening,
    );
  }

  private checkedLength(sequenceLength: number | undefined): number {
    const length = sequenceLength ?? this.sequenceLength;
    checkPositiveInteger(OWNER, 'sequenceLength', length);
    return length;
  }

  private sequenceOptions(length: number, addEnd: boolean) {
    return {tokenizer: this.tokenizer, length, addStart: this.addStartToken, addEnd};
  }

  /** Inputs of the model, from rows of one length. */
  private async inputs(
    rows: readonly (readonly number[])[],
    readers: readonly (readonly ImageReader[])[] | null,
    length: number,
    scalar: boolean,
  ): Promise<TokenBatch> {
    const {imageConverter, maxImagesPerPrompt: maxImages, numVisionTokensPerImage: tokensPerImage} = this;
    const {imagePlaceholderId: placeholderId, padTokenId} = this.tokenizer;
    const options = {placeholderId, maxImages, tokensPerImage, scalar};
    // Images first: reading them may fail, and no tensor must stay in memory in that case.
    const vision = imageConverter && (await visionInputs(rows, readers, {...options, converter: imageConverter}));
    const mask = rows.map(ids => ids.map(id => id !== padTokenId));
    return {
      token_ids: rowsTensor(rows, length, 'int32', scalar),
      padding_mask: rowsTensor(mask, length, 'bool', scalar),
      ...vision,
    };
  }
}
registerPresetClass(Gemma3CausalLMPreprocessor, 'Gemma3Backbone');
