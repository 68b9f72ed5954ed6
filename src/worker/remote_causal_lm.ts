/** A language model in a Worker. */
import type {EnableLoraOptions} from '../adapters/model_lora';
import type {ExportPeftOptions, SaveLoraOptions} from '../adapters/on_demand';
import type {ChatArgs} from '../generation/chat_session';
import type {Ending} from '../generation/ending';
import type {
  DetailsOptions,
  GenerateOptions,
  LogprobsOptions,
  TextWithDetails,
  TextWithLogprobs,
} from '../models/generate_options';
import type {ImageLike} from '../images/image_like';
import type {GenerationInputs} from '../models/gemma3/parts/prompt_rows';
import type {ChatMessage} from '../tokenizers/chat_template';
import type {Connection} from './connection';
import {RemoteChat} from './remote_chat';
import type {
  FitHistory,
  ImagePreview,
  ModelInfo,
  RemoteCompileArgs,
  RemoteFitArgs,
  TrainingPreview,
  TrainingPreviewOptions,
  WorkerOptions,
} from './remote_options';
import {addressOf, presetMessage, type WorkerFile, type WorkerPreset} from './sources';
import {TextStream} from './text_stream';
import type {RemoteTrainingTexts} from './training_operations';

/** One prompt: a text, or the messages of a conversation. */
type OnePrompt = string | readonly ChatMessage[];
type ManyPrompts = readonly string[] | readonly (readonly ChatMessage[])[];
type Plain = WorkerOptions<GenerateOptions>;
type Details = WorkerOptions<DetailsOptions>;
type Logprobs = WorkerOptions<LogprobsOptions>;

/** Controls of a run of {@link RemoteCausalLM.fit}. */
export interface FitControls {
  /** Pauses after the current step. Resolves when the run is paused or has ended: then the model can generate text. */
  pause(): Promise<void>;
  resume(): void;
  /** Ends the run after the current step: its promise resolves. */
  stop(): void;
}

/** A run of {@link RemoteCausalLM.fit}: a promise of its history. */
export type FitRun = Promise<FitHistory> & FitControls;

/** A `Gemma3CausalLM` that lives in a Worker: see {@link ModelWorker.loadCausalLM}. Errors are those of its methods. */
export class RemoteCausalLM {
  /** @internal */
  constructor(
    private readonly connection: Connection,
    private readonly key: number,
    /** What the model is. */
    readonly info: ModelInfo,
  ) {}

  // === Text ===

  /**
   * Continues one prompt or several, as `generate` of `Gemma3CausalLM`.
   *
   * @throws as there; WorkerEndedError if the Worker ends.
   */
  async generate(inputs: OnePrompt, options: Logprobs & Details): Promise<TextWithLogprobs & Ending>;
  async generate(inputs: ManyPrompts, options: Logprobs & Details): Promise<(TextWithLogprobs & Ending)[]>;
  async generate(inputs: OnePrompt, options: Logprobs): Promise<TextWithLogprobs>;
  async generate(inputs: ManyPrompts, options: Logprobs): Promise<TextWithLogprobs[]>;
  async generate(inputs: GenerationInputs, options: Logprobs): Promise<TextWithLogprobs | TextWithLogprobs[]>;
  async generate(inputs: OnePrompt, options: Details): Promise<TextWithDetails>;
  async generate(inputs: ManyPrompts, options: Details): Promise<TextWithDetails[]>;
  async generate(inputs: GenerationInputs, options: Details): Promise<TextWithDetails | TextWithDetails[]>;
  async generate(inputs: OnePrompt, options?: Plain): Promise<string>;
  async generate(inputs: ManyPrompts, options?: Plain): Promise<string[]>;
  async generate(inputs: GenerationInputs, options?: Plain): Promise<string | string[]>;
  async generate(inputs: GenerationInputs, options: object = {}): Promise<unknown> {
    return this.connection.call('generate', this.key, inputs, options);
  }

  /**
   * Continues one prompt and yields the text as it is generated, as `stream` of `Gemma3CausalLM`. The result also says
   * how the text ended.
   *
   * @example
   * const answer = lm.stream([{role: 'user', content: 'Hi'}], {maxNewTokens: 100, signal});
   * for await (const piece of answer) output.append(piece);
   * console.log(answer.ending.finishReason, answer.ending.usage.newTokens);
   *
   * @throws as there, in the loop; WorkerEndedError if the Worker ends.
   */
  stream(prompt: GenerationInputs, options: Plain = {}): TextStream {
    return new TextStream(
      ({onEvent, ...own}) => this.connection.start('stream', [this.key, prompt, {...options, ...own}], {onEvent}),
      options,
    );
  }

  /** Starts a conversation whose cache is in the Worker. There may be several. The caller disposes it. */
  async startChat(args: ChatArgs = {}): Promise<RemoteChat> {
    const {key, numbers} = await this.connection.call('startChat', this.key, args);
    return new RemoteChat(this.connection, key, numbers);
  }

  /** Token ids of a text, as `tokenize` of the model's tokenizer. */
  async tokenize(text: string): Promise<number[]> {
    return this.connection.call('tokenize', this.key, text);
  }

  /** The text of token ids. */
  async detokenize(ids: readonly number[]): Promise<string> {
    return this.connection.call('detokenize', this.key, ids);
  }

  /** Number of tokens of a prompt as `generate` reads it, with the start token, the chat template and images. */
  async countTokens(inputs: OnePrompt): Promise<number>;
  async countTokens(inputs: ManyPrompts): Promise<number[]>;
  async countTokens(inputs: GenerationInputs): Promise<number | number[]>;
  async countTokens(inputs: GenerationInputs): Promise<number | number[]> {
    return this.connection.call('countTokens', this.key, inputs);
  }

  /**
   * An image as the model sees it: cropped or distorted to the model's size, with the pixels that it gets.
   *
   * @throws ValueError for a model that reads no images, and on anything that is not an image.
   */
  async previewImage(image: ImageLike): Promise<ImagePreview> {
    return this.connection.call('previewImage', this.key, image instanceof URL ? image.href : image);
  }

  // === Training ===

  /**
   * Texts for training as `fit` reads them: their tokens, which of these count, and how long each row is.
   *
   * @throws as `fit`, on texts and images that it does not accept.
   */
  async previewTraining(x: RemoteTrainingTexts, options: TrainingPreviewOptions = {}): Promise<TrainingPreview> {
    return this.connection.call('previewTraining', this.key, x, options);
  }

  /** Adds LoRA to the model, as `enableLora` of its backbone. */
  async enableLora(rank: number, options: EnableLoraOptions = {}): Promise<void> {
    await this.connection.call('enableLora', this.key, rank, options);
  }

  /** Sets the sampler, and optimizer, loss and metrics for training, as `compile` of `Gemma3CausalLM`. */
  async compile(args: RemoteCompileArgs = {}): Promise<void> {
    await this.connection.call('compile', this.key, args);
  }

  /**
   * Trains on texts, as `fit` of `Gemma3CausalLM`. Callbacks report progress; the run can be paused and stopped.
   *
   * @example
   * const run = lm.fit({prompts, responses}, {epochs: 3, callbacks: {onBatchEnd: (_, {loss}) => plot(loss)}});
   * stopButton.onclick = () => run.stop();
   * const {history} = await run;
   *
   * @throws as there; WorkerEndedError if the Worker ends.
   */
  fit(x: RemoteTrainingTexts, args: RemoteFitArgs = {}): FitRun {
    let rest = () => {};
    const onEvent = (name: string) => name === 'paused' && rest();
    const {result, control} = this.connection.start('fit', [this.key, x, args], {onEvent});
    return Object.assign(result, {
      pause: async () => {
        const resting = new Promise<void>(resolve => (rest = resolve));
        control('pause');
        const ended = result.catch(() => {});
        await Promise.race([resting, ended]);
      },
      resume: () => control('resume'),
      stop: () => control('stop'),
    });
  }

  /** Everything that a run of `fit` needs to continue, with its option `resumeFrom`. */
  async saveTrainingState(): Promise<Uint8Array<ArrayBuffer>> {
    return this.connection.call('saveTrainingState', this.key);
  }

  // === Adapters ===

  /** The LoRA matrices as the bytes of a `.lora.h5` file, which KerasHub reads. */
  async saveLora(options: SaveLoraOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return this.connection.call('saveLora', this.key, options);
  }

  /** Loads LoRA matrices: a `.lora.h5` file, or an adapter of llama.cpp. */
  async loadLora(source: WorkerFile): Promise<void> {
    await this.connection.call('loadLora', this.key, addressOf(source));
  }

  /** LoRA as an adapter for Hugging Face's PEFT: bytes by file name. */
  async exportPeft(options: ExportPeftOptions = {}): Promise<Record<string, Uint8Array<ArrayBuffer>>> {
    return this.connection.call('exportPeft', this.key, options);
  }

  /** Loads a PEFT adapter from the files of a folder, or its address. */
  async importPeft(source: WorkerPreset): Promise<void> {
    await this.connection.call('importPeft', this.key, presetMessage(source));
  }

  /** Adds the LoRA products to the kernels and removes LoRA. */
  async mergeLora(): Promise<void> {
    await this.connection.call('mergeLora', this.key);
  }

  // === Copies ===

  /** An independent model with the same values. They are shared until one of the models changes them. */
  async clone(): Promise<RemoteCausalLM> {
    const {key, info} = await this.connection.call('cloneCausalLM', this.key);
    return new RemoteCausalLM(this.connection, key, info);
  }

  /** Frees the weights, unless another model uses them as well. */
  async dispose(): Promise<void> {
    await this.connection.call('dispose', this.key);
  }
}
