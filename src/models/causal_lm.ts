/** What all language models share: sampler, generation of text and of token ids, streaming. */
import type * as tf from '@tensorflow/tfjs';
import {checkKeys, ValueError} from '../base/errors';
import {type ChatArgs, ChatSession} from '../generation/chat_session';
import {type Decoder, type DecoderCache, nextLogits, type NewTokens, type Prompt} from '../generation/decoder';
import {generateSteps, type GenerationRequest, type Step} from '../generation/generation';
import {GeneratedText} from '../generation/generated_text';
import {type TokenLogprob, type TokenLogprobs} from '../generation/logprobs';
import * as samplers from '../generation/samplers';
import {GenerationSession, type SessionArgs} from '../generation/session';
import {checkArgument, checkPositiveInteger} from '../base/checks';
import {type LabelsLike, type TrainingTexts} from '../training/examples';
import {type EvaluateArgs, type EvaluateDatasetArgs, type FitArgs, type FitDatasetArgs} from '../training/fit_options';
import {type Stage} from '../training/stages';
import {Training, TRAINING_COMPILE_ARGS, type TrainingCompileArgs} from '../training/training';
import {
  checkedStopTokens,
  checkLogprobs,
  checkSession,
  checkSignal,
  checkStopStrings,
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationPreprocessor,
  type LogprobsOptions,
  type TextToken,
  type TextWithLogprobs,
} from './generate_options';
import {type ModelInputs} from '../layers/named_inputs';
import {TextTask} from './task';
import {paddedTokens, readTokenInputs, type TokenInputs, type TokensWithLogprobs} from './token_inputs';

export interface CompileArgs extends TrainingCompileArgs {
  /** How the next token is chosen. Defaults to "greedy". */
  sampler?: samplers.SamplerName | samplers.Sampler;
}

/** A backbone with a head: token ids in, logits out, and generation. */
export abstract class CausalLM<P, C extends DecoderCache = DecoderCache> extends TextTask implements Decoder<C> {
  abstract override preprocessor: GenerationPreprocessor<P> | null;
  sampler: samplers.Sampler = samplers.get('greedy');

  abstract newCache(batch: number, maxLength: number, slack?: number): C;
  abstract encodeImages(images: tf.Tensor4D): tf.Tensor2D;
  abstract hiddenStates(tokens: NewTokens, cache: C): tf.Tensor3D;
  abstract logits(hidden: tf.Tensor2D): tf.Tensor2D;
  abstract finalStates(hidden: tf.Tensor2D): tf.Tensor2D;
  /** Logits (B, V) behind the last real token of each row of new tokens, which are added to the cache. */
  nextLogits(rows: NewTokens['rows'], counts: readonly number[], cache: C): tf.Tensor2D {
    return nextLogits(this, {rows, counts}, cache);
  }

  /** What "auto" stands for. */
  protected abstract autoStopTokenIds(): number[];

  // === Training ===

  abstract trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[];
  abstract readonly headWeights: readonly tf.LayerVariable[];
  abstract tokenLosses(hidden: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D;
  private madeTraining?: Training;
  private get training(): Training {
    return (this.madeTraining ??= new Training(this, this.outputs[0]!.shape.at(-1)!));
  }

  /**
   * Chooses the sampler, and optimizer, loss and metrics of training, as `compile` of `keras_hub.models.CausalLM`; what is left
   * out gets its default. A model that was never compiled has all defaults.
   *
   * @throws ValueError on unknown or unusable arguments.
   */
  override compile(args: CompileArgs = {}): void {
    checkKeys('compile', args, ['sampler', ...TRAINING_COMPILE_ARGS]);
    const {sampler = 'greedy', ...training} = args;
    const chosen = samplers.get(sampler);
    this.training.compile(training);
    this.sampler = chosen;
    this.optimizer = this.training.settings.optimizer;
  }

  /**
   * Trains on text through the preprocessor, or on inputs and labels as tensors or nested arrays. Text is whole strings, or
   * {prompts, responses[, images]}, of which the responses alone count.
   *
   * Only tokens with a weight other than 0 go through the head, so that logits of a whole batch never exist.
   *
   * @returns the history: loss, metrics and those of validation, a number an epoch.
   * @throws ValueError on unusable data or options, for weights that rest packed, for a loss that is not finite; the
   * signal's reason when aborted. Weights are then those of the last whole step. No tensor is left behind but those of the
   * optimizer.
   */
  override fit(x: P | TrainingTexts, args?: FitArgs): Promise<tf.History>;
  override fit(x: ModelInputs, y: LabelsLike, args?: FitArgs): Promise<tf.History>;
  override async fit(x: unknown, y?: unknown, args?: FitArgs): Promise<tf.History> {
    return this.training.fit(x, y, args);
  }

  /**
   * Trains on a dataset of tf.data whose elements are batches: of text, {prompts, responses}, or {xs, ys[, sampleWeight]}.
   *
   * @throws as {@link fit}.
   */
  override async fitDataset<T extends tf.TensorContainer>(
    dataset: tf.data.Dataset<T>,
    args: FitDatasetArgs = {},
  ): Promise<tf.History> {
    return this.training.fitDataset(dataset, args);
  }

  /**
   * One step on one batch.
   *
   * @returns the loss before the step, or [loss, metric].
   * @throws as {@link fit}.
   */
  override trainOnBatch(x: P | TrainingTexts): Promise<number | number[]>;
  override trainOnBatch(x: ModelInputs, y: LabelsLike, sampleWeight?: LabelsLike): Promise<number | number[]>;
  override async trainOnBatch(x: unknown, y?: unknown, sampleWeight?: LabelsLike): Promise<number | number[]> {
    return this.training.trainOnBatch(x, y, sampleWeight);
  }

  /**
   * Loss of what `fit` takes, and metrics behind it, as scalars that the caller disposes.
   *
   * @throws ValueError on unusable data or options; the signal's reason when aborted.
   */
  override evaluate(x: P | TrainingTexts, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]>;
  override evaluate(x: ModelInputs, y: LabelsLike, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]>;
  override async evaluate(x: unknown, y?: unknown, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]> {
    return this.training.evaluate(x, y, args);
  }

  /**
   * The same for a dataset of tf.data, see {@link fitDataset}.
   *
   * @throws as {@link evaluate}.
   */
  override async evaluateDataset(
    dataset: tf.data.Dataset<tf.TensorContainer>,
    args: EvaluateDatasetArgs = {},
  ): Promise<tf.Scalar | tf.Scalar[]> {
    checkKeys('evaluateDataset', args, ['batches', 'signal']);
    return this.training.evaluateDataset(dataset, args);
  }

  /**
   * All that a run of `fit` or `fitDataset` needs to go on bit for bit, with {@link FitArgs.resumeFrom}: trained weights, state
   * of the optimizer, position, seed. To be called from callbacks, or when a run has ended or was aborted.
   *
   * @throws ValueError before there was a run.
   */
  async saveTrainingState(): Promise<Uint8Array<ArrayBuffer>> {
    return this.training.save();
  }

  /**
   * As `save` of all models.
   *
   * @throws ValueError for `includeOptimizer`: see {@link saveTrainingState}.
   */
  override async save(target: tf.io.IOHandler | string, config: tf.io.SaveConfig = {}): Promise<tf.io.SaveResult> {
    if (config.includeOptimizer) {
      throw new ValueError('Files of tfjs hold no optimizer of a language model. Use `saveTrainingState` instead.');
    }
    return super.save(target, config);
  }

  override dispose(): ReturnType<TextTask['dispose']> {
    this.madeTraining?.dispose();
    return super.dispose();
  }

  /**
   * Continues a prompt, or several at once; string in, string out, strings in, strings out. Without a preprocessor,
   * token ids in and out. With `logprobs`, each text comes with its new tokens: see {@link TextWithLogprobs}.
   *
   * @throws ValueError on unusable inputs or options; the signal's reason when aborted. No tensor is left behind but
   * those that are returned for token ids.
   */
  async generate(inputs: TokenInputs, options: LogprobsOptions): Promise<TokensWithLogprobs>;
  async generate(inputs: string, options: LogprobsOptions): Promise<TextWithLogprobs>;
  async generate(inputs: readonly string[], options: LogprobsOptions): Promise<TextWithLogprobs[]>;
  async generate(inputs: P, options: LogprobsOptions): Promise<TextWithLogprobs | TextWithLogprobs[]>;
  async generate(inputs: TokenInputs, options?: GenerateOptions): Promise<TokenInputs>;
  async generate(inputs: string, options?: GenerateOptions): Promise<string>;
  async generate(inputs: readonly string[], options?: GenerateOptions): Promise<string[]>;
  async generate(inputs: P, options?: GenerateOptions): Promise<string | string[]>;
  async generate(inputs: unknown, options: Partial<LogprobsOptions> = {}): Promise<unknown> {
    checkKeys('generate', options, [...GENERATE_OPTIONS, 'logprobs']);
    checkLogprobs(options.logprobs);
    checkArgument('generate', 'stripPrompt', options.stripPrompt ?? false, 'flag');
    const {preprocessor} = this;
    if (!preprocessor) return this.generateIds(inputs as TokenInputs, options);
    const {prompts, scalar} = await this.readPrompts(inputs as P, this.promptLength(options));
    const rows = prompts.map(() => new GeneratedText(preprocessor, options.stopStrings));
    const texts = rows.map((row, i) => (options.stripPrompt ? '' : row.prompt(prompts[i]!.tokens)));
    const logprobs: TokenLogprobs[][] = rows.map(() => []);
    try {
      for await (const step of this.generation(prompts, options, rows)) {
        step.tokens.forEach((token, i) => token !== null && (texts[i]! += rows[i]!.push(token)));
        step.logprobs?.forEach((token, i) => token && logprobs[i]!.push(token));
      }
    } finally {
      disposeImages(prompts);
    }
    rows.forEach((row, i) => (texts[i]! += row.flush()));
    if (options.logprobs !== undefined) {
      const {tokenizer} = preprocessor;
      const withText = (token: TokenLogprob): TextToken => ({...token, text: tokenizer.detokenize([token.id])});
      const results = texts.map((text, i) => ({
        text,
        tokens: logprobs[i]!.map(token => ({...withText(token), top: token.top.map(withText)})),
      }));
      return scalar ? results[0]! : results;
    }
    return scalar ? texts[0]! : texts;
  }

  /**
   * Continues one prompt and yields the text as it comes, never half a character: the new text alone, or with
   * `stripPrompt: false` that of the prompt first. All pieces together are what `generate` returns with the same
   * `stripPrompt`.
   *
   * @throws ValueError without a preprocessor, for several prompts or unusable options; the signal's reason when aborted.
   * No tensor is left behind, whether it ends, throws or is left early.
   */
  async *stream(prompt: P, options: GenerateOptions = {}): AsyncGenerator<string, void> {
    checkKeys('stream', options, GENERATE_OPTIONS);
    const {stripPrompt = true, signal} = options;
    checkArgument('stream', 'stripPrompt', stripPrompt, 'flag');
    const {preprocessor} = this;
    if (!preprocessor) throw new ValueError('A `preprocessor` must be attached to the model to stream text.');
    const {prompts, scalar} = await this.readPrompts(prompt, this.promptLength(options));
    try {
      if (!scalar) {
        throw new ValueError(`Expected one prompt to stream. Received: ${prompts.length} prompts in a list.`);
      }
      const row = new GeneratedText(preprocessor, options.stopStrings);
      const steps = this.steps(prompts, options, [row]);
      if (!stripPrompt) {
        signal?.throwIfAborted();
        // Through the same decoder: a text in two parts may lose a space that it has as a whole.
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

  /** Prompts cut to a length; the caller disposes their images. */
  private async readPrompts(x: P, sequenceLength?: number): Promise<{prompts: Prompt[]; scalar: boolean}> {
    const {tokens, scalar, images, visionMask} = await this.preprocessor!.promptTokens(x, {sequenceLength});
    const prompts = tokens.map((ids, i) => ({tokens: ids, images: images[i], visionMask: visionMask[i]}));
    return {prompts, scalar};
  }

  /**
   * A cache that outlives a call: see {@link GenerationSession}. The caller disposes it.
   *
   * @throws ValueError on unknown or unusable arguments.
   */
  startSession({maxLength = this.preprocessor?.sequenceLength, ...args}: Partial<SessionArgs> = {}): GenerationSession<
    P,
    GenerateOptions
  > {
    return new GenerationSession<P, GenerateOptions>(this as never, {maxLength: maxLength!, ...args});
  }

  /**
   * A conversation by Gemma's template: see {@link ChatSession}. The caller disposes it.
   *
   * @throws ValueError on unknown or unusable arguments, and for a vocabulary without turns.
   */
  startChat(args: ChatArgs = {}): ChatSession {
    return new ChatSession(this as never, args);
  }

  /** A turn of any length with its images, as token ids; the caller disposes what images it has. */
  async chatPrompt(text: string, images: readonly unknown[]): Promise<Prompt> {
    const prompt = (images.length ? {prompts: text, images} : text) as P;
    return (await this.readPrompts(prompt, Number.MAX_SAFE_INTEGER)).prompts[0]!;
  }

  /**
   * What `generate` and `stream` are made of: token by token, the next one of each prompt, or null for those that have ended
   * or get none this time.
   *
   * @param texts of the rows, which end behind a stop string: each new token is to be given to them before the next step.
   * @throws ValueError on unusable options, at once; the rest as `generate`.
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
    const maxLength = this.checkedLength(options) ?? session?.maxLength ?? this.preprocessor!.sequenceLength;
    const request = {
      ...this.request(prompts, maxLength, options),
      ...{hasEnded: texts && ((row: number) => texts[row]!.ended)},
    };
    session?.check(this, prompts, maxLength);
    return session ? stepsInSession(session, request) : generateSteps(this, request);
  }

  /** What the loop is asked for, of text and of token ids alike. */
  private request(
    prompts: readonly Prompt[],
    maxLength: number,
    options: Partial<LogprobsOptions>,
  ): Omit<GenerationRequest, 'hasEnded'> {
    const {signal, prefillChunk, onPrefill, logprobs} = options;
    checkSignal(signal);
    if (prefillChunk !== undefined) checkPositiveInteger('generate', 'prefillChunk', prefillChunk);
    const stopTokenIds = this.stopTokens(options);
    return {prompts, maxLength, stopTokenIds, sampler: this.sampler, signal, prefillChunk, onPrefill, logprobs};
  }

  /** Tokens of a prompt that are kept: in a session one too many, which tells it that there is no room. */
  private promptLength(options: GenerateOptions): number | undefined {
    checkSession(options.session);
    return this.checkedLength(options) ?? (options.session && options.session.maxLength + 1);
  }

  private checkedLength({maxLength}: GenerateOptions): number | undefined {
    if (maxLength !== undefined) checkPositiveInteger('generate', 'maxLength', maxLength);
    return maxLength;
  }

  private stopTokens({stopTokenIds = 'auto'}: GenerateOptions): readonly number[] | null {
    if (stopTokenIds !== 'auto') return checkedStopTokens(stopTokenIds);
    if (this.preprocessor) return this.autoStopTokenIds();
    throw new ValueError(
      'A `preprocessor` must be attached to the model if `stopTokenIds` is "auto". Pass null to generate until the ' +
        'end of the inputs, or the ids of tokens that end generation.',
    );
  }

  private async generateIds(
    inputs: TokenInputs,
    options: Partial<LogprobsOptions>,
  ): Promise<TokenInputs | TokensWithLogprobs> {
    if (options.stopStrings || options.session) {
      throw new ValueError(
        'A `preprocessor` must be attached to the model for `stopStrings` and `session`: they are of text.',
      );
    }
    if (options.maxLength !== undefined || options.stripPrompt !== undefined) {
      throw new ValueError(
        'Without a preprocessor the inputs say how long the result is: pad them to that length, and leave out ' +
          '`maxLength` and `stripPrompt`.',
      );
    }
    const {prompts, shape} = await readTokenInputs(inputs);
    const rows = prompts.map(({tokens}) => [...tokens]);
    const logprobs: TokenLogprobs[][] = rows.map(() => []);
    try {
      for await (const step of generateSteps(this, this.request(prompts, shape.at(-1)!, options))) {
        step.tokens.forEach((token, row) => token !== null && rows[row]!.push(token));
        step.logprobs?.forEach((token, row) => token && logprobs[row]!.push(token));
      }
    } finally {
      disposeImages(prompts);
    }
    return {...paddedTokens(rows, shape), ...(options.logprobs !== undefined && {logprobs})};
  }
}

function disposeImages(prompts: readonly Pick<Prompt, 'images'>[]): void {
  for (const {images} of prompts) images?.dispose();
}

async function* tokensOf(steps: AsyncGenerator<Step, void>): AsyncGenerator<(number | null)[], void> {
  for await (const {tokens} of steps) yield tokens;
}

async function* stepsInSession(
  session: GenerationSession<never, never>,
  request: GenerationRequest,
): AsyncGenerator<Step, void> {
  yield* generateSteps(await session.decoder(request.prompts[0]!), request);
}
