/** Strings to token ids for training and generation, and back. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../../errors';
import {openPreset, type PresetLike} from '../../hub/open_preset';
import {readAll} from '../../hub/preset_source';
import {checkArguments, checkPositiveInteger} from '../../layers/checks';
import {camelKeys, isSerialized, parseSerialized} from '../../saving/keras_config';
import {type PresetTarget, savePreset} from '../../saving/preset_writer';
import {checkGemma3Arguments} from './gemma3_arguments';
import {Gemma3Tokenizer} from './gemma3_tokenizer';

export interface Gemma3CausalLMPreprocessorArgs {
  /** Strings to ids and back. */
  tokenizer: Gemma3Tokenizer;
  /** Configuration of the image converter of a model with vision; null, the default, for a model of text. */
  imageConverter?: object | null;
  /** Length of packed sequences. Defaults to 1024. */
  sequenceLength?: number;
  /** Put `<bos>` in front. Defaults to true. */
  addStartToken?: boolean;
  /** Put `<eos>` behind, for training. Defaults to true. */
  addEndToken?: boolean;
  /** How many images a prompt may have. Defaults to 2. */
  maxImagesPerPrompt?: number;
  /** How many tokens stand for an image. Defaults to 256. */
  numVisionTokensPerImage?: number;
  /** Defaults to "gemma3_causal_lm_preprocessor". */
  name?: string;
}

const KNOWN = [
  'tokenizer',
  'imageConverter',
  'sequenceLength',
  'addStartToken',
  'addEndToken',
  'maxImagesPerPrompt',
  'numVisionTokensPerImage',
  'name',
] as const;

/** Text with what comes after it. One string each, or as many of both. */
export interface PromptsAndResponses {
  prompts: string | readonly string[];
  responses?: string | readonly string[];
}

/** Token ids and which of them count: (T) for one text, (B, T) for several. */
export interface TokenBatch {
  /** int32 */
  token_ids: tf.Tensor;
  /** bool */
  padding_mask: tf.Tensor;
}

export interface TrainingBatch {
  x: TokenBatch;
  /** int32, the token behind each of `x`. */
  y: tf.Tensor;
  /** bool: true where `y` is of the response. */
  sampleWeight: tf.Tensor;
}

interface Packed {
  ids: number[];
  /** 0 for the prompt, 1 for the response; 0 for padding. */
  segments: number[];
}

/**
 * Cuts segments to `limit` tokens together by taking one token of each in turn, as Keras' packer does: a short response
 * is kept whole beside a long prompt.
 */
export function trimRoundRobin(segments: readonly (readonly number[])[], limit: number): number[][] {
  const kept = segments.map(() => 0);
  let left = Math.max(0, limit);
  while (left > 0) {
    const open = kept.map((_, i) => i).filter(i => kept[i]! < segments[i]!.length);
    if (open.length === 0) break;
    for (const i of open) {
      if (left === 0) break;
      // Whole turns at once: as many as the shortest open segment and the room allow.
      const turns = Math.min(...open.map(j => segments[j]!.length - kept[j]!), Math.floor(left / open.length));
      if (turns > 0) {
        for (const j of open) kept[j]! += turns;
        left -= turns * open.length;
        break;
      }
      kept[i]! += 1;
      left -= 1;
    }
  }
  return segments.map((segment, i) => segment.slice(0, kept[i]));
}

/**
 * Text preprocessing of Gemma 3, as `keras_hub.models.Gemma3CausalLMPreprocessor`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_causal_lm_preprocessor/).
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3CausalLMPreprocessor {
  readonly name: string;
  readonly tokenizer: Gemma3Tokenizer;
  readonly imageConverter: object | null;
  readonly sequenceLength: number;
  readonly addStartToken: boolean;
  readonly addEndToken: boolean;
  readonly maxImagesPerPrompt: number;
  readonly numVisionTokensPerImage: number;

  constructor(args: Gemma3CausalLMPreprocessorArgs) {
    const owner = 'Gemma3CausalLMPreprocessor';
    checkArguments(owner, args, KNOWN);
    if (!(args.tokenizer instanceof Gemma3Tokenizer)) {
      throw new ValueError(`${owner} expected a Gemma3Tokenizer as \`tokenizer\`. Received: ${show(args.tokenizer)}.`);
    }
    this.name = args.name ?? 'gemma3_causal_lm_preprocessor';
    this.tokenizer = args.tokenizer;
    this.imageConverter = args.imageConverter ?? null;
    this.sequenceLength = args.sequenceLength ?? 1024;
    this.addStartToken = args.addStartToken ?? true;
    this.addEndToken = args.addEndToken ?? true;
    this.maxImagesPerPrompt = args.maxImagesPerPrompt ?? 2;
    this.numVisionTokensPerImage = args.numVisionTokensPerImage ?? 256;
    const {name, imageConverter, addStartToken, addEndToken} = this;
    const {sequenceLength, maxImagesPerPrompt, numVisionTokensPerImage} = this;
    const sizes = {sequenceLength, maxImagesPerPrompt, numVisionTokensPerImage};
    checkGemma3Arguments(owner, {name, imageConverter, addStartToken, addEndToken, ...sizes});
    if (this.imageConverter && sequenceLength <= maxImagesPerPrompt * numVisionTokensPerImage) {
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
   * Packs `<bos> prompt response <eos>` for training; labels are the next tokens, weighted where they are of the
   * response. Too long texts lose tokens of the longer segment first.
   *
   * @throws ValueError unless prompts and responses are given alike, and without images.
   */
  async call(x: PromptsAndResponses, {sequenceLength}: {sequenceLength?: number} = {}): Promise<TrainingBatch> {
    const {texts, scalar} = this.normalize(x);
    if (texts.some(segments => segments.length < 2)) {
      throw new ValueError('Expected {prompts, responses} for training. Received no responses.');
    }
    const length = this.checkedLength(sequenceLength);
    // One more than asked for: the last token has no next one.
    const rows = texts.map(segments => this.pack(segments, length + 1, this.addEndToken));
    const pad = this.tokenizer.padTokenId;
    const batch = <T>(map: (row: Packed) => T[], dtype: 'int32' | 'bool') =>
      toTensor(rows.map(map) as unknown as number[][], length, dtype, scalar);
    return {
      x: {
        token_ids: batch(row => row.ids.slice(0, -1), 'int32'),
        padding_mask: batch(row => row.ids.slice(0, -1).map(id => id !== pad), 'bool'),
      },
      y: batch(row => row.ids.slice(1), 'int32'),
      sampleWeight: batch(row => row.segments.slice(1).map(segment => segment === 1), 'bool'),
    };
  }

  /**
   * Token ids of prompts, with `<bos>` and without `<eos>` or padding, cut to `sequenceLength`.
   *
   * @throws ValueError on anything but prompts, and on images.
   */
  promptTokens(
    x: string | readonly string[] | PromptsAndResponses,
    {sequenceLength}: {sequenceLength?: number} = {},
  ): {tokens: number[][]; scalar: boolean} {
    const {texts, scalar} = this.normalize(typeof x === 'object' && 'prompts' in x ? x : {prompts: x});
    const length = this.checkedLength(sequenceLength);
    return {tokens: texts.map(segments => this.segments(segments, length, false).ids), scalar};
  }

  /**
   * Packs prompts for generation: `<bos> prompt`, padded or cut to `sequenceLength`.
   *
   * @throws ValueError on anything but prompts, and on images.
   */
  async generatePreprocess(
    x: string | readonly string[] | PromptsAndResponses,
    {sequenceLength}: {sequenceLength?: number} = {},
  ): Promise<TokenBatch> {
    const {texts, scalar} = this.normalize(typeof x === 'object' && 'prompts' in x ? x : {prompts: x});
    const length = this.checkedLength(sequenceLength);
    const rows = texts.map(segments => this.pack(segments, length, false).ids);
    const mask = rows.map(ids => ids.map(id => id !== this.tokenizer.padTokenId));
    return {
      token_ids: toTensor(rows, length, 'int32', scalar),
      padding_mask: toTensor(mask as unknown as number[][], length, 'bool', scalar),
    };
  }

  /** Text of token ids that count, without special tokens. */
  async generatePostprocess(x: TokenBatch): Promise<string | string[]> {
    const [ids, mask] = await Promise.all([x.token_ids.data(), x.padding_mask.data()]);
    const length = x.token_ids.shape.at(-1)!;
    const rows = Array.from({length: x.token_ids.rank === 1 ? 1 : x.token_ids.shape[0]!}, (_, row) =>
      Array.from(ids.subarray(row * length, (row + 1) * length)).filter((_, t) => mask[row * length + t]),
    );
    const texts = rows.map(row => this.tokenizer.detokenize(this.stripSpecial(row)));
    return x.token_ids.rank === 1 ? texts[0]! : texts;
  }

  /** Ids without special tokens; `<start_of_image>` stays, since the user wrote it. */
  stripSpecial(ids: readonly number[]): number[] {
    return ids.filter(id => !this.isSpecial(id));
  }

  /** Whether `stripSpecial` removes this id. */
  isSpecial(id: number): boolean {
    const {specialTokenIds, startOfImageTokenId} = this.tokenizer;
    return id !== startOfImageTokenId && specialTokenIds.includes(id);
  }

  /** The arguments, with the tokenizer's as they are without its vocabulary, which is a file. */
  getConfig(): Record<string, unknown> {
    return {
      name: this.name,
      tokenizer: {className: 'Gemma3Tokenizer', config: this.tokenizer.getConfig()},
      imageConverter: this.imageConverter,
      sequenceLength: this.sequenceLength,
      addStartToken: this.addStartToken,
      addEndToken: this.addEndToken,
      maxImagesPerPrompt: this.maxImagesPerPrompt,
      numVisionTokensPerImage: this.numVisionTokensPerImage,
    };
  }

  /**
   * The preprocessor of a preset, with its tokenizer.
   *
   * @throws ValueError on options that it does not have, and if files are missing or unusable.
   */
  static async fromPreset(
    preset: PresetLike,
    options: {sequenceLength?: number} = {},
  ): Promise<Gemma3CausalLMPreprocessor> {
    checkKeys('fromPreset', options, ['sequenceLength']);
    const source = await openPreset(preset);
    const tokenizer = await Gemma3Tokenizer.fromPreset(source);
    if (!(await source.has('preprocessor.json'))) return new Gemma3CausalLMPreprocessor({tokenizer, ...options});
    const text = new TextDecoder().decode(await readAll(source, 'preprocessor.json'));
    const {config} = parseSerialized(text, `${source.name}/preprocessor.json`, 'Gemma3CausalLMPreprocessor');
    const {tokenizer: _t, dtype: _d, trainable: _r, configFile: _c, imageConverter, ...rest} = camelKeys(config);
    const converter = isSerialized(imageConverter) ? imageConverter.config : (imageConverter ?? null);
    return new Gemma3CausalLMPreprocessor({...rest, imageConverter: converter as object | null, tokenizer, ...options});
  }

  /** Saves the preprocessor with its tokenizer into a preset, beside what is there, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.preprocessor(this));
  }

  private checkedLength(sequenceLength: number | undefined): number {
    const length = sequenceLength ?? this.sequenceLength;
    checkPositiveInteger('Gemma3CausalLMPreprocessor', 'sequenceLength', length);
    return length;
  }

  /** Segments of each row: [prompt] or [prompt, response]. */
  private normalize(x: PromptsAndResponses): {texts: string[][]; scalar: boolean} {
    const {prompts, responses, ...rest} = x;
    const {images, ...unknown} = rest as {images?: unknown};
    checkKeys('Gemma3CausalLMPreprocessor', unknown, ['prompts', 'responses', 'images']);
    const scalar = typeof prompts === 'string';
    const rows = [prompts].flat() as string[];
    const answers = responses === undefined ? undefined : ([responses].flat() as string[]);
    const strange = [...rows, ...(answers ?? [])].find(text => typeof text !== 'string');
    if (strange !== undefined || rows.length === 0) {
      throw new ValueError(
        `Expected prompts as a string or strings, at least one. Received: ${show(strange ?? prompts)}.`,
      );
    }
    if (answers && (answers.length !== rows.length || (typeof responses === 'string') !== scalar)) {
      throw new ValueError(
        `Expected as many responses as prompts. Received: ${rows.length} prompts, ${answers.length} responses.`,
      );
    }
    if (images !== undefined && images !== null) {
      throw new ValueError(
        this.textOnlyModel
          ? 'The initialized preprocessor/model is text-only, but `images` is not null.'
          : 'Images in prompts are not available yet. Received: `images`. Leave them out to ask about text alone.',
      );
    }
    if (!this.textOnlyModel && rows.some(text => text.includes(this.tokenizer.startOfImageToken))) {
      throw new ValueError(
        `Images in prompts are not available yet. Received a prompt with ${this.tokenizer.startOfImageToken}. ` +
          'Leave it out to ask about text alone.',
      );
    }
    return {texts: rows.map((text, i) => (answers ? [text, answers[i]!] : [text])), scalar};
  }

  private segments(texts: readonly string[], length: number, addEnd: boolean): Packed {
    const special = (this.addStartToken ? 1 : 0) + (addEnd ? 1 : 0);
    const trimmed = trimRoundRobin(
      texts.map(text => this.tokenizer.tokenize(text)),
      length - special,
    );
    const parts = trimmed.map((ids, segment) => ids.map(id => ({id, segment})));
    const tokens = [
      ...(this.addStartToken ? [{id: this.tokenizer.startTokenId, segment: 0}] : []),
      ...parts.flat(),
      ...(addEnd ? [{id: this.tokenizer.endTokenId, segment: parts.length - 1}] : []),
    ];
    return {ids: tokens.map(({id}) => id), segments: tokens.map(({segment}) => segment)};
  }

  private pack(texts: readonly string[], length: number, addEnd: boolean): Packed {
    const {ids, segments} = this.segments(texts, length, addEnd);
    const fill = (value: number, count: number) => Array.from({length: Math.max(0, count)}, () => value);
    return {
      ids: [...ids, ...fill(this.tokenizer.padTokenId, length - ids.length)].slice(0, length),
      segments: [...segments, ...fill(0, length - segments.length)].slice(0, length),
    };
  }
}

function toTensor(rows: number[][], length: number, dtype: 'int32' | 'bool', scalar: boolean): tf.Tensor {
  return scalar ? tf.tensor1d(rows[0]!, dtype) : tf.tensor2d(rows, [rows.length, length], dtype);
}
