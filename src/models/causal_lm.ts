/** The base class of language models: the sampler, and generation of text and of token ids. */
import type * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {checkKeys, ContextFullError, ValueError} from '../base/errors';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type ChatArgs, ChatSession} from '../generation/chat_session';
import {
  type Decoder,
  type DecoderCache,
  type NewTokens,
  nextLogits,
  type Prompt,
  type StepsAhead,
} from '../generation/decoder';
import {GeneratedText} from '../generation/generated_text';
import {type Ending} from '../generation/ending';
import {generateSteps, type GenerationRequest, type Step, tokensOf} from '../generation/generation';
import {type TokenLogprobs} from '../generation/logprobs';
import * as samplers from '../generation/samplers';
import {samplerForCall} from '../generation/samplers/sampling_options';
import {checkOptions} from '../generation/option_names';
import {GenerationSession, type SessionArgs} from '../generation/session';
import {type TokenChoice} from '../ops/token_program';
import {type ChatMessage, END_OF_TURN} from '../tokenizers/chat_template';
import {isConversations} from '../tokenizers/conversations';
import {TRAINING_COMPILE_ARGS, type TrainingCompileArgs} from '../training/setup';
import {WeightSnapshot} from '../weights/in_use';
import {type FromPresetOptions} from './backbone';
import {
  checkedMaxLength,
  checkedStopTokens,
  checkLogprobs,
  checkRunOptions,
  checkSession,
  checkStopStrings,
  type DetailsOptions,
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationPreprocessor,
  type LogprobsOptions,
  type TextWithDetails,
  type TextWithLogprobs,
  withLogprobs,
} from './generate_options';
import {loadFromBase, type PresetOptions} from './preset_classes';
import {
  checkTokenOptions,
  type GeneratedTokens,
  paddedTokens,
  readTokenInputs,
  type TokenInputs,
  type TokensWithLogprobs,
} from './token_inputs';
import {TrainableTask} from './trainable_task';

/** Arguments of {@link CausalLM.compile}. */
export interface CompileArgs extends TrainingCompileArgs {
  /** How the next token is chosen. Defaults to "greedy". */
  sampler?: samplers.SamplerName | samplers.Sampler;
}

/** A prompt: a string, or the messages of a conversation. */
type OnePrompt = string | readonly ChatMessage[];
type ManyPrompts = readonly string[] | readonly (readonly ChatMessage[])[];

/** The results of a generation, one per prompt. */
interface Completed {
  texts: string[];
  /** Log probabilities of the new tokens; empty unless the option `logprobs` was given. */
  logprobs: TokenLogprobs[][];
  /** How each text ended. */
  endings: Ending[];
  /** True for a single prompt that was not in a list. */
  scalar: boolean;
}

/**
 * A backbone with a head: token ids in, logits out, and generation. As `keras_hub.models.CausalLM`. `P` is the type of
 * prompts that the preprocessor takes, `C` the cache of the model.
 */
export abstract class CausalLM<P, C extends DecoderCache = DecoderCache>
  extends TrainableTask<P>
  implements Decoder<C>
{
  /** @nocollapse */
  static override className = 'CausalLM';
  abstract override preprocessor: GenerationPreprocessor<P> | null;
  /** How the next token is chosen: set it with `compile`. */
  sampler: samplers.Sampler = samplers.get('greedy');

  /** As {@link Task.fromPreset}. */
  static override async fromPreset(
    preset: CheckpointLike,
    options: FromPresetOptions & PresetOptions = {},
  ): Promise<CausalLM<string | readonly string[]>> {
    return loadFromBase<CausalLM<string | readonly string[]>>(this, preset, options);
  }

  abstract newCache(batch: number, maxLength: number, slack?: number): C;
  abstract encodeImages(images: tf.Tensor4D): tf.Tensor2D;
  abstract hiddenStates(tokens: NewTokens, cache: C): tf.Tensor3D;
  abstract hiddenSteps(tokens: NewTokens, cache: C): Generator<void, tf.Tensor3D>;
  abstract encodeSteps(images: tf.Tensor4D): Generator<void, tf.Tensor2D>;
  abstract override logits(hidden: tf.Tensor2D): tf.Tensor2D;
  abstract override finalStates(hidden: tf.Tensor2D): tf.Tensor2D;

  /**
   * Overridden by models that a program of the backend can compute.
   *
   * @internal
   */
  tokensAhead(_choice: TokenChoice, _rows: number): StepsAhead<C> | undefined {
    return undefined;
  }

  /**
   * Adds new tokens to the cache → logits (B, V) after the last real token of each row.
   *
   * @param rows token ids; all rows have the same length, with padding at the end.
   * @param counts how many tokens of each row are real.
   */
  nextLogits(rows: NewTokens['rows'], counts: readonly number[], cache: C): tf.Tensor2D {
    return nextLogits(this, {rows, counts}, cache);
  }

  /** The token ids that `stopTokenIds: 'auto'` stands for. */
  protected abstract autoStopTokenIds(): number[];

  /**
   * Sets the sampler, and optimizer, loss and metrics for training, as `compile` of `keras_hub.models.CausalLM`.
   * Arguments that are left out get their defaults. A model that was never compiled has all defaults.
   *
   * @throws ValueError on unknown or unusable arguments.
   */
  override compile(args: CompileArgs = {}): void {
    checkKeys('compile', args, ['sampler', ...TRAINING_COMPILE_ARGS]);
    const {sampler = 'greedy', ...training} = args;
    const chosen = samplers.get(sampler);
    super.compile(training);
    this.sampler = chosen;
  }

  /**
   * Continues one prompt or several: returns a string for a single prompt, and an array of strings for several. The
   * messages of a conversation are a prompt as well; of these, by default only the answer is returned. Without
   * a preprocessor, it takes and returns token ids: see {@link TokenInputs}. With `logprobs`, each text comes with its
   * new tokens: see {@link TextWithLogprobs}; with `details`, with the reason for its end: see {@link TextWithDetails}. Of the tensors that it creates, only returned token ids stay in memory.
   *
   * @throws ValueError on unusable inputs or options; ContextFullError if a prompt leaves no room for new text within
   * `maxLength`; the signal's reason when aborted.
   */
  async generate(inputs: TokenInputs, options: LogprobsOptions): Promise<TokensWithLogprobs>;
  async generate(inputs: OnePrompt, options: LogprobsOptions & DetailsOptions): Promise<TextWithLogprobs & Ending>;
  async generate(
    inputs: ManyPrompts,
    options: LogprobsOptions & DetailsOptions,
  ): Promise<(TextWithLogprobs & Ending)[]>;
  async generate(inputs: OnePrompt, options: LogprobsOptions): Promise<TextWithLogprobs>;
  async generate(inputs: ManyPrompts, options: LogprobsOptions): Promise<TextWithLogprobs[]>;
  async generate(inputs: P, options: LogprobsOptions): Promise<TextWithLogprobs | TextWithLogprobs[]>;
  async generate(inputs: OnePrompt, options: DetailsOptions): Promise<TextWithDetails>;
  async generate(inputs: ManyPrompts, options: DetailsOptions): Promise<TextWithDetails[]>;
  async generate(inputs: P, options: DetailsOptions): Promise<TextWithDetails | TextWithDetails[]>;
  async generate(inputs: TokenInputs, options?: GenerateOptions): Promise<GeneratedTokens>;
  async generate(inputs: OnePrompt, options?: GenerateOptions): Promise<string>;
  async generate(inputs: ManyPrompts, options?: GenerateOptions): Promise<string[]>;
  async generate(inputs: P, options?: GenerateOptions): Promise<string | string[]>;
  async generate(inputs: unknown, given: Partial<LogprobsOptions> & {details?: boolean} = {}): Promise<unknown> {
    this.checkInUse();
    checkOptions('generate', given, [...GENERATE_OPTIONS, 'logprobs', 'details']);
    const {details = false, ...options} = given;
    checkLogprobs(options.logprobs);
    checkArgument('generate', 'details', details, 'flag');
    checkArgument('generate', 'stripPrompt', options.stripPrompt ?? false, 'flag');
    if (!this.preprocessor) return this.generateIds(inputs as TokenInputs, options, details);
    const {texts, logprobs, endings, scalar} = await this.complete(inputs as P, options);
    const results = texts.map((text, i) => {
      if (!details && options.logprobs === undefined) return text;
      const {tokenizer} = this.preprocessor!;
      const found = options.logprobs === undefined ? {text} : withLogprobs(text, logprobs[i]!, tokenizer);
      return details ? {...found, ...endings[i]!} : found;
    });
    return scalar ? results[0] : results;
  }

  /** Continues all prompts to their ends. */
  private async complete(inputs: P, options: Partial<LogprobsOptions>): Promise<Completed> {
    const {prompts, scalar} = await this.readPrompts(inputs, promptLength(options));
    const stripPrompt = options.stripPrompt ?? isConversations(inputs);
    const rows = prompts.map(() => this.newText(inputs, stripPrompt, options));
    const texts = rows.map((row, i) => (stripPrompt ? '' : row.prompt(prompts[i]!.tokens)));
    const logprobs: TokenLogprobs[][] = rows.map(() => []);
    const endings: Ending[] = [];
    const onFinish = collected(endings, options);
    try {
      for await (const step of this.generation(prompts, {...options, onFinish}, rows)) {
        step.tokens.forEach((token, i) => token !== null && (texts[i]! += rows[i]!.push(token)));
        step.logprobs?.forEach((token, i) => token && logprobs[i]!.push(token));
      }
    } finally {
      disposeImages(prompts);
    }
    rows.forEach((row, i) => (texts[i]! += row.flush()));
    return {texts, logprobs, endings, scalar};
  }

  /**
   * A text to generate. If only the answer to messages is wanted, it does not include the token that ends its turn,
   * which belongs to the chat template.
   */
  private newText(inputs: unknown, stripPrompt: boolean, {stopStrings, stopTokenIds = 'auto'}: GenerateOptions) {
    const {preprocessor} = this;
    const endOfTurn = preprocessor!.tokenizer.tokenToId(END_OF_TURN);
    const ends = Array.isArray(stopTokenIds) ? stopTokenIds.includes(endOfTurn) : stopTokenIds === 'auto';
    const hidden = stripPrompt && isConversations(inputs) && ends ? endOfTurn : undefined;
    return new GeneratedText(preprocessor!, stopStrings, hidden);
  }

  private async generateIds(
    inputs: TokenInputs,
    options: Partial<LogprobsOptions>,
    details: boolean,
  ): Promise<GeneratedTokens | TokensWithLogprobs> {
    checkTokenOptions(options, details);
    const {prompts, shape} = await readTokenInputs(inputs);
    const rows = prompts.map(({tokens}) => [...tokens]);
    const logprobs: TokenLogprobs[][] = rows.map(() => []);
    try {
      for await (const step of this.unchanged(generateSteps(this, this.request(prompts, shape.at(-1)!, options)))) {
        step.tokens.forEach((token, row) => token !== null && rows[row]!.push(token));
        step.logprobs?.forEach((token, row) => token && logprobs[row]!.push(token));
      }
    } finally {
      disposeImages(prompts);
    }
    return {...paddedTokens(rows, shape), ...(options.logprobs !== undefined && {logprobs})};
  }

  /**
   * Continues one prompt and yields the text as it is generated, in whole characters. By default this is only the new
   * text; with `stripPrompt: false`, the prompt's text comes first. Joined, the pieces are what `generate` returns with
   * the same `stripPrompt`.
   *
   * @throws ValueError without a preprocessor, for several prompts and on unusable options; ContextFullError if the
   * prompt leaves no room for new text within `maxLength`; the signal's reason when aborted. No tensor stays in memory, whether the loop ends, throws or is left early.
   */
  async *stream(prompt: P | readonly ChatMessage[], options: GenerateOptions = {}): AsyncGenerator<string, void> {
    this.checkInUse();
    checkOptions('stream', options, GENERATE_OPTIONS);
    const {stripPrompt = true, signal} = options;
    checkArgument('stream', 'stripPrompt', stripPrompt, 'flag');
    const {preprocessor} = this;
    if (!preprocessor) throw new ValueError('A `preprocessor` must be attached to the model to stream text.');
    const {prompts, scalar} = await this.readPrompts(prompt as P, promptLength(options));
    try {
      if (!scalar) {
        throw new ValueError(`Expected one prompt to stream. Received: ${prompts.length} prompts in a list.`);
      }
      const row = this.newText(prompt, stripPrompt, options);
      const steps = this.steps(prompts, options, [row]);
      if (!stripPrompt) {
        signal?.throwIfAborted();
        // Uses the decoder of the new text: if they were decoded separately, a space between the two could be lost.
        const text = row.prompt(prompts[0]!.tokens);
        if (text) yield text;
      }
      for await (const [token] of steps) {
        const piece = token == null ? '' : row.push(token);
        if (piece) yield piece;
      }
      const rest = row.flush();
      if (rest) yield rest;
    } finally {
      disposeImages(prompts);
    }
  }

  /**
   * Starts a session, a cache that outlives a call: see {@link GenerationSession}. The caller disposes it.
   *
   * @param args `maxLength` defaults to the preprocessor's sequence length.
   * @throws ValueError on unknown or unusable arguments.
   */
  startSession(args: Partial<SessionArgs> = {}): GenerationSession<P, GenerateOptions> {
    this.checkInUse();
    const {maxLength = this.preprocessor?.sequenceLength, ...rest} = args;
    return new GenerationSession<P, GenerateOptions>(this, {maxLength: maxLength!, ...rest});
  }

  /**
   * Starts a conversation in Gemma's chat template: see {@link ChatSession}. The caller disposes it.
   *
   * @throws ValueError on unknown or unusable arguments, without a preprocessor, and for a vocabulary without turn
   * tokens.
   */
  startChat(args: ChatArgs = {}): ChatSession {
    this.checkInUse();
    return new ChatSession(this, args);
  }

  /** Token ids of a chat turn of any length, with its images, which the caller disposes. */
  async chatPrompt(text: string, images: readonly unknown[]): Promise<Prompt> {
    this.checkInUse();
    const prompt = (images.length ? {prompts: text, images} : text) as P;
    return (await this.readPrompts(prompt, Number.MAX_SAFE_INTEGER)).prompts[0]!;
  }

  /**
   * The loop of `generate` and `stream`: yields, step by step, the next token of each prompt, or null for prompts that
   * have ended or get none in this step.
   *
   * @param texts one per row, for stop strings: push each new token to the text of its row before the next step. A row
   * ends when its text has ended.
   * @throws ValueError on unusable options, before the first step; otherwise as `generate`.
   */
  steps(
    prompts: readonly Prompt[],
    options: GenerateOptions,
    texts?: readonly GeneratedText[],
  ): AsyncGenerator<(number | null)[], void> {
    return tokensOf(this.generation(prompts, options, texts));
  }

  private generation(
    prompts: readonly Prompt[],
    options: Partial<LogprobsOptions>,
    texts?: readonly GeneratedText[],
  ): AsyncGenerator<Step, void> {
    const {session} = options;
    checkStopStrings(options.stopStrings);
    const longest = Math.max(...prompts.map(({tokens}) => tokens.length));
    const maxLength = checkedMaxLength(options, longest) ?? session?.maxLength ?? this.preprocessor!.sequenceLength;
    const request: GenerationRequest = {
      ...this.request(prompts, maxLength, options),
      hasEnded: texts && (row => texts[row]!.ended),
    };
    session?.check(this, prompts, maxLength);
    checkRoom(prompts, maxLength);
    return this.unchanged(session ? session.steps(request) : generateSteps(this, request));
  }

  /**
   * Yields the steps as long as the weights are those of the first step.
   *
   * @throws ValueError if the model was disposed, or its weights have changed.
   */
  private async *unchanged(steps: AsyncGenerator<Step, void>): AsyncGenerator<Step, void> {
    const snapshot = new WeightSnapshot(() => this.weights);
    for await (const step of steps) {
      this.checkInUse();
      snapshot.check('generating a text');
      yield step;
    }
  }

  private request(prompts: readonly Prompt[], maxLength: number, options: Partial<LogprobsOptions>): GenerationRequest {
    const {maxNewTokens, signal, prefillChunk, onPrefill, onFinish, logprobs} = options;
    checkRunOptions(options);
    const stopTokenIds = this.stopTokens(options);
    const run = {signal, prefillChunk, onPrefill, onFinish, logprobs};
    return {prompts, maxLength, maxNewTokens, stopTokenIds, sampler: samplerForCall(this.sampler, options), ...run};
  }

  private stopTokens({stopTokenIds = 'auto'}: GenerateOptions): readonly number[] | null {
    if (stopTokenIds !== 'auto') return checkedStopTokens(stopTokenIds, this.outputs[0]!.shape.at(-1)!);
    if (this.preprocessor) return this.autoStopTokenIds();
    throw new ValueError(
      'A `preprocessor` must be attached to the model if `stopTokenIds` is "auto". Pass null to generate until the ' +
        'end of the inputs, or the ids of tokens that end generation.',
    );
  }

  /** Prompts cut to a length; the caller disposes their images. */
  private async readPrompts(x: P, sequenceLength?: number): Promise<{prompts: Prompt[]; scalar: boolean}> {
    const {tokens, scalar, images, visionMask} = await this.preprocessor!.promptTokens(x, {sequenceLength});
    const prompts = tokens.map((ids, i) => ({tokens: ids, images: images[i], visionMask: visionMask[i]}));
    return {prompts, scalar};
  }
}

/**
 * How many tokens of a prompt are kept. With a session, one more than it can hold, so that it can report a prompt that
 * does not fit.
 */
function promptLength({session, ...options}: GenerateOptions): number | undefined {
  checkSession(session);
  const maxLength = checkedMaxLength(options, Number.MAX_SAFE_INTEGER / 2);
  if (options.maxNewTokens === undefined) return maxLength ?? (session && session.maxLength + 1);
  return session ? session.maxLength + 1 : Number.MAX_SAFE_INTEGER;
}

/** An `onFinish` that records the endings, and calls the one from the options. */
function collected(endings: Ending[], options: GenerateOptions): NonNullable<GenerateOptions['onFinish']> {
  checkRunOptions(options);
  return (ending, row) => {
    endings[row] = ending;
    options.onFinish?.(ending, row);
  };
}

/** @throws ContextFullError for a prompt that leaves no room for new text. */
function checkRoom(prompts: readonly Prompt[], maxLength: number): void {
  const full = prompts.findIndex(({tokens}) => tokens.length >= maxLength);
  if (full < 0) return;
  const which = prompts.length > 1 ? ` in prompt ${full}` : '';
  throw new ContextFullError(prompts[full]!.tokens.length, maxLength, 'text', which);
}

function disposeImages(prompts: readonly Pick<Prompt, 'images'>[]): void {
  for (const {images} of prompts) images?.dispose();
}
