/** Turns strings and images into inputs of a model, for training and generation, and token ids into strings. */
import type * as tf from '@tensorflow/tfjs';
import {camelKeys} from '../../base/casing';
import {checkArguments, checkPositiveInteger} from '../../base/checks';
import {checkKeys, describeNotA, show, ValueError} from '../../base/errors';
import {isSerialized} from '../../checkpoints/keras/serialized';
import {savePreset} from '../../checkpoints/keras/write_preset';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type PresetTarget} from '../../files/open_folder';
import {type ArgumentTable, completeArguments, namesOf} from '../../layers/arguments';
import {type PromptTokens} from '../generate_options';
import {type VisionTensors} from '../vision_tensors';
import {Gemma3ImageConverter} from './gemma3_image_converter';
import {Gemma3Tokenizer} from './gemma3_tokenizer';
import {
  checkImageCounts,
  expandImageTokens,
  type ImageReader,
  imageReaders,
  imagesOfPrompts,
  type PromptImages,
  visionInputs,
} from './parts/prompt_images';
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

/** Prompts with responses and images. Prompts and responses are one string each, or lists of the same length. */
export interface PromptsAndResponses {
  /** `<start_of_image>` marks the place of each image. */
  prompts: string | readonly string[];
  /** Required for training, one per prompt. */
  responses?: string | readonly string[];
  /** The images of the prompt, or one entry per prompt: see {@link PromptImages}. */
  images?: PromptImages;
}

/**
 * Token ids and their padding mask: (T) for one text, (B, T) for several. If the preprocessor has an image converter,
 * also the tensors of images.
 */
export interface TokenBatch extends Partial<VisionTensors> {
  /** int32 */
  token_ids: tf.Tensor;
  /** bool: true for tokens, false for padding. */
  padding_mask: tf.Tensor;
}

/** Inputs and labels for training. */
export interface TrainingBatch {
  x: TokenBatch;
  /** int32, the token that follows each token of `x`. */
  y: tf.Tensor;
  /** bool: true where `y` belongs to the response. */
  sampleWeight: tf.Tensor;
}

/** The prompts of `generatePreprocess`, with or without images. */
export type GenerationInputs = string | readonly string[] | PromptsAndResponses;

/** The given texts and images, as rows. */
interface Rows {
  /** Token ids of each row: [prompt] or [prompt, response]. */
  segments: number[][][];
  /** Functions that read the images of each row; null without images. */
  readers: ImageReader[][] | null;
  scalar: boolean;
}

/**
 * Preprocessing of Gemma 3, as `keras_hub.models.Gemma3CausalLMPreprocessor`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_causal_lm_preprocessor/): for text only or, with an image
 * converter, for text and images. `<start_of_image>` in a prompt marks the place of an image.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3CausalLMPreprocessor {
  readonly name: string;
  readonly tokenizer: Gemma3Tokenizer;
  readonly imageConverter: Gemma3ImageConverter | null;
  readonly sequenceLength: number;
  readonly addStartToken: boolean;
  readonly addEndToken: boolean;
  readonly maxImagesPerPrompt: number;
  readonly numVisionTokensPerImage: number;

  constructor(args: Gemma3CausalLMPreprocessorArgs) {
    checkArguments(OWNER, args, [...namesOf(ARGUMENTS), 'tokenizer', 'imageConverter']);
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

  /**
   * Combines `<bos> prompt response <eos>` for training. Labels are the next tokens; only those of the response have a
   * weight. If prompt and response are too long together, the longer of them is cut first, even within the tokens of an
   * image.
   *
   * @param x prompts and responses, with their images if any. The caller disposes images that are tensors.
   * @throws ValueError unless there is one response per prompt, and on images that do not match the prompts.
   */
  async call(x: PromptsAndResponses, {sequenceLength}: {sequenceLength?: number} = {}): Promise<TrainingBatch> {
    const {segments, readers, scalar} = this.trainingRows(x);
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
    return this.trainingRows(x).segments.map(row => joinSegments(row, options).ids.length - 1);
  }

  /**
   * Prompts for generation: token ids with `<bos>`, without `<eos>` or padding, cut to `sequenceLength`, and their
   * images.
   *
   * @throws ValueError on unusable prompts, on images that do not match them, and if an image would be cut.
   */
  async promptTokens(x: GenerationInputs, {sequenceLength}: {sequenceLength?: number} = {}): Promise<PromptTokens> {
    const {segments, readers, scalar} = this.generationRows(x);
    const options = this.sequenceOptions(this.checkedLength(sequenceLength), false);
    const tokens = segments.map(row => joinSegments(row, options).ids);
    this.checkWhole(tokens, readers, options.length);
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
    const {segments, readers, scalar} = this.generationRows(x);
    const options = this.sequenceOptions(this.checkedLength(sequenceLength), false);
    const rows = segments.map(row => padSegments(row, options).ids);
    this.checkWhole(rows, readers, options.length);
    return this.inputs(rows, readers, options.length, scalar);
  }

  /** Decodes token ids → one text for (T), an array of texts for (B, T), without padding and special tokens. */
  async generatePostprocess(x: TokenBatch): Promise<string | string[]> {
    const [ids, mask] = await Promise.all([x.token_ids.data(), x.padding_mask.data()]);
    const length = x.token_ids.shape.at(-1)!;
    const rows = Array.from({length: x.token_ids.rank === 1 ? 1 : x.token_ids.shape[0]!}, (_, row) =>
      Array.from(ids.subarray(row * length, (row + 1) * length)).filter((_, t) => mask[row * length + t]),
    );
    const texts = rows.map(row => this.tokenizer.detokenize(this.stripSpecial(row)));
    return x.token_ids.rank === 1 ? texts[0]! : texts;
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

  /** The arguments. The tokenizer's configuration does not include its vocabulary, which is a separate file. */
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
   * Loads the preprocessor of a preset, with its tokenizer.
   *
   * @throws ValueError on unknown options, and if files are missing or unusable.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: {sequenceLength?: number} = {},
  ): Promise<Gemma3CausalLMPreprocessor> {
    checkKeys('fromPreset', options, ['sequenceLength']);
    return withCheckpoint(preset, async checkpoint => {
      const tokenizer = await Gemma3Tokenizer.fromPreset(checkpoint);
      const saved = await checkpoint.config('preprocessor', OWNER);
      if (!saved) return new Gemma3CausalLMPreprocessor({tokenizer, ...options});
      const {
        tokenizer: _t,
        dtype: _d,
        trainable: _r,
        configFile: _c,
        imageConverter,
        ...rest
      } = camelKeys(saved.config);
      const converter = isSerialized(imageConverter) ? imageConverter.config : (imageConverter as object | null);
      return new Gemma3CausalLMPreprocessor({
        ...rest,
        imageConverter: converter && Gemma3ImageConverter.fromConfig(converter),
        tokenizer,
        ...options,
      });
    });
  }

  /** Saves the preprocessor and its tokenizer into a preset, next to existing files, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.preprocessor(this));
  }

  private checkedLength(sequenceLength: number | undefined): number {
    const length = sequenceLength ?? this.sequenceLength;
    checkPositiveInteger(OWNER, 'sequenceLength', length);
    return length;
  }

  private sequenceOptions(length: number, addEnd: boolean) {
    return {tokenizer: this.tokenizer, length, addStart: this.addStartToken, addEnd};
  }

  private trainingRows(x: PromptsAndResponses): Rows {
    const rows = this.rows(x);
    if (rows.segments.some(row => row.length < 2)) {
      throw new ValueError('Expected {prompts, responses} for training. Received no responses.');
    }
    return rows;
  }

  private generationRows(x: GenerationInputs): Rows {
    const named = typeof x === 'object' && x !== null && !Array.isArray(x);
    return this.rows((named ? x : {prompts: x}) as PromptsAndResponses);
  }

  private rows(x: PromptsAndResponses): Rows {
    checkKeys(OWNER, x, ['prompts', 'responses', 'images']);
    const {prompts, responses, images = null} = x;
    const scalar = typeof prompts === 'string';
    const texts = [prompts].flat() as string[];
    const answers = responses === undefined ? undefined : ([responses].flat() as string[]);
    const invalid = [...texts, ...(answers ?? [])].findIndex(text => typeof text !== 'string');
    if (invalid >= 0 || texts.length === 0) {
      const received = texts.length === 0 ? prompts : [...texts, ...(answers ?? [])][invalid];
      throw new ValueError(
        'Expected prompts as a string or a list of strings, at least one, or {prompts[, responses][, images]}. ' +
          `Received: ${show(received)}.`,
      );
    }
    if (answers && (answers.length !== texts.length || (typeof responses === 'string') !== scalar)) {
      throw new ValueError(
        `Expected one response per prompt. Received: ${texts.length} prompts, ${answers.length} responses.`,
      );
    }
    const {tokenizer, numVisionTokensPerImage, maxImagesPerPrompt, textOnlyModel} = this;
    if (images !== null && textOnlyModel) {
      throw new ValueError('The initialized preprocessor/model is text-only, but `images` is not null.');
    }
    const readers = images === null ? null : imageReaders(images, texts.length, scalar);
    // To a text-only model, the tokens of images are text, as in KerasHub.
    if (!textOnlyModel) checkImageCounts({prompts: texts, responses: answers}, readers, tokenizer, maxImagesPerPrompt);
    const segments = texts.map((text, i) => {
      const prompt = textOnlyModel ? text : expandImageTokens(text, tokenizer, numVisionTokensPerImage);
      return [prompt, ...(answers ? [answers[i]!] : [])].map(part => tokenizer.tokenize(part));
    });
    return {segments, readers, scalar};
  }

  /** @throws ValueError if a row was cut within its images: the model cannot answer about a part of an image. */
  private checkWhole(
    rows: readonly (readonly number[])[],
    readers: readonly (readonly ImageReader[])[] | null,
    length: number,
  ): void {
    readers?.forEach((images, i) => {
      const expected = images.length * this.numVisionTokensPerImage;
      const received = rows[i]!.filter(id => id === this.tokenizer.imagePlaceholderId).length;
      if (received === expected) return;
      throw new ValueError(
        `Expected room for the ${expected} tokens of the images in prompt ${i}. Received: ${received} of them within ` +
          `the sequence length, ${length}. Increase it: \`maxLength\` for generation.`,
      );
    });
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
