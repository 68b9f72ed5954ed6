/** `gemma3 finetune`: LoRA from lines of JSON. */
import {type Command, Option} from 'commander';
import type {BackendName, Gemma3CausalLM, Gemma3CausalLMPreprocessor} from 'tfjs-gemma3';
import {formatCount, plural} from '../support/format';
import {type Io, printJson} from '../support/io';
import {TINY} from '../support/model_options';
import {BACKENDS, collect, DTYPES, fraction, integer, positiveInteger, positiveNumber} from '../support/options';
import {loadingBar} from '../support/progress';
import {type Example, readExamples, trainingTexts} from '../support/training_data';
import {type StepLogs, TrainingProgress} from '../support/training_progress';
import {exists, type Report, RunFiles, type Settings} from '../support/training_run';

interface FinetuneOptions {
  preset: string;
  data: string;
  validation?: string;
  validationSplit?: number;
  output: string;
  rank: number;
  alpha?: number;
  target?: string[];
  epochs: number;
  batchSize: number;
  accumulate?: number;
  learningRate: number;
  schedule: 'cosine' | 'constant';
  warmup: number;
  weightDecay: number;
  clipNorm: number;
  maxLength?: number;
  truncate?: boolean;
  chat?: boolean;
  recompute?: boolean;
  seed: number;
  dtype?: string;
  backend: BackendName;
  checkpointEvery: number;
  resume?: boolean;
  force?: boolean;
  json?: boolean;
}

const EXAMPLES = `
DATA has an example a line, {"prompt": "…", "response": "…"}: what comes behind the prompt is learnt, with the end of the text.
Images go with "image": "FILE", or "images" for several; names are looked for beside DATA, and where <start_of_image> does not
say where they go, they go in front. A line with neither spaces between both nor a line break teaches just that: put what
separates prompt and response into the prompt.

Beside OUTPUT, NAME.lora.h5, which KerasHub reads as well, there are NAME.report.json and NAME.loss.svg, and while it runs
NAME.checkpoint. Ctrl-C ends a run behind its last whole step; --resume goes on there, to the same losses bit for bit.

Examples:
  $ gemma3 finetune --preset ./gemma3_270m --data emails.jsonl --output emails.lora.h5
  $ gemma3 finetune --preset ./gemma3_270m --data emails.jsonl --output emails.lora.h5 --resume
  $ gemma3 generate --preset ./gemma3_270m --lora emails.lora.h5 "Ada Lovelace, example.org ->"
`;

export function addFinetune(program: Command, io: Io): void {
  const command = program
    .command('finetune')
    .description('train LoRA on examples')
    .requiredOption('--data <file>', 'examples, one a line as JSON')
    .requiredOption('--output <file>', 'what to write, NAME.lora.h5')
    .option('--preset <preset>', 'folder, address or name of a preset', TINY)
    .option('--validation <file>', 'more examples, to measure the loss on behind each epoch')
    .option('--validation-split <fraction>', 'or a part of DATA instead, the last examples', fraction)
    .option('--rank <number>', 'rank of LoRA', positiveInteger, 4)
    .option('--alpha <number>', 'LoRA is scaled by alpha / rank (default: the rank)', positiveNumber)
    .option(
      '--target <name>',
      'layers that get LoRA; may be given more than once (default: queries and values)',
      collect,
    )
    .option('--epochs <number>', 'how often each example is seen', positiveInteger, 3)
    .option('--batch-size <examples>', 'examples a step', positiveInteger, 4)
    .option('--accumulate <steps>', 'steps whose gradients are averaged before weights change', positiveInteger)
    .option('--learning-rate <number>', 'the highest rate', positiveNumber, 5e-4)
    .addOption(
      new Option('--schedule <name>', 'how the rate goes on').choices(['cosine', 'constant']).default('cosine'),
    )
    .option('--warmup <fraction>', 'part of all steps in which the rate goes up to its highest', fraction, 0.05)
    .option('--weight-decay <number>', 'of AdamW', fraction, 0.01)
    .option('--clip-norm <number>', 'the longest that all gradients together may be', positiveNumber, 1)
    .option('--max-length <tokens>', "length of prompt and response together (default: the preset's)", positiveInteger)
    .option('--truncate', 'cut examples that are longer, instead of an error')
    .option('--chat', "write prompts and responses as turns of Gemma's chat template")
    .option('--recompute', 'compute activations twice: less memory, a third more time')
    .option('--seed <number>', 'of the order of examples and the first values of LoRA', integer, 0)
    .addOption(new Option('--dtype <dtype>', "how frozen weights rest (default: as the preset's)").choices(DTYPES))
    .addOption(new Option('--backend <name>', 'what computes').choices(BACKENDS).default('auto'))
    .option('--checkpoint-every <steps>', 'how often a state to go on from is kept', positiveInteger, 100)
    .option('--resume', 'go on where a run was ended')
    .option('--force', 'begin anew, over what there is')
    .option('--json', 'print one JSON object: losses, seconds, files')
    .addHelpText('after', EXAMPLES);
  command.action((options: FinetuneOptions) => finetune(options, io, message => command.error(`error: ${message}`)));
}

/** What a run must have in common with the one that it goes on with: everything that its losses depend on. */
function settingsOf(options: FinetuneOptions): Settings {
  const {resume: _r, force: _f, json: _j, checkpointEvery: _c, output: _o, target, ...rest} = options;
  const defaults = {
    validation: null,
    validationSplit: null,
    alpha: null,
    accumulate: null,
    maxLength: null,
    dtype: null,
  };
  const flags = {truncate: false, chat: false, recompute: false};
  return {...defaults, ...flags, ...rest, target: target?.join() ?? null};
}

async function finetune(options: FinetuneOptions, io: Io, refuse: (message: string) => never): Promise<void> {
  if (!options.output.endsWith('.lora.h5')) {
    refuse(`option '--output <file>' expected a name that ends with .lora.h5. Received: "${options.output}".`);
  }
  if (options.validation !== undefined && options.validationSplit !== undefined) {
    refuse("option '--validation-split' has no effect with '--validation'. Leave out one of them.");
  }
  if (options.accumulate === 1) refuse("option '--accumulate' expected a number of at least 2, or to be left out.");
  const files = new RunFiles(options.output);
  const settings = settingsOf(options);
  const before = options.resume ? await files.load(settings) : await nothingThere(files, options);
  const examples = await readExamples(options.data);
  const held = options.validation === undefined ? [] : await readExamples(options.validation);

  const {Gemma3CausalLM, Gemma3CausalLMPreprocessor, useBackend} = await import('tfjs-gemma3');
  const backend = await useBackend(options.backend);
  const {maxLength: sequenceLength} = options;
  const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset(
    options.preset,
    sequenceLength ? {sequenceLength} : {},
  );
  const [data, validation] = await Promise.all([
    prepared(examples, options.data, preprocessor, options),
    prepared(held, options.validation ?? '', preprocessor, options),
  ]);
  await files.prepare();
  const bar = loadingBar(io);
  let lm: Gemma3CausalLM;
  try {
    const dtype = options.dtype === undefined ? {} : {dtype: options.dtype};
    lm = await Gemma3CausalLM.fromPreset(options.preset, {
      ...{...dtype, preprocessor, signal: io.signal},
      onProgress: bar.onProgress,
    });
  } finally {
    bar.stop();
  }
  try {
    await new Run(lm, options, files, io, settings, backend, before).train(data, validation);
  } finally {
    lm.dispose();
  }
}

/** @throws Error where a run would be lost. */
async function nothingThere(files: RunFiles, {force}: FinetuneOptions): Promise<null> {
  if (force) return null;
  if (await exists(files.checkpoint)) {
    throw new Error(
      `Expected no run under way. Received: "${files.checkpoint}". Use --resume to go on with it, --force to begin anew.`,
    );
  }
  if (await exists(files.output)) {
    throw new Error(`Expected a file that does not exist. Received: "${files.output}". Use --force, or another name.`);
  }
  return null;
}

/**
 * Examples as the model reads them.
 *
 * @throws Error for those that are longer than they may be, and for images that there is no place for.
 */
async function prepared(
  examples: readonly Example[],
  path: string,
  preprocessor: Gemma3CausalLMPreprocessor,
  {chat, truncate, preset}: FinetuneOptions,
): Promise<Example[]> {
  const {applyChatTemplate} = await import('tfjs-gemma3');
  const {tokenizer, sequenceLength, textOnlyModel} = preprocessor;
  const written = examples.map(example => {
    const {images, line, response} = example;
    if (images.length && textOnlyModel) {
      throw new Error(
        `Expected examples of text alone for "${preset}", which takes no images. Received: an image in line ${line} of "${path}".`,
      );
    }
    let {prompt} = example;
    if (images.length && !prompt.includes(tokenizer.startOfImageToken)) {
      prompt = `${tokenizer.startOfImageToken.repeat(images.length)} ${prompt}`;
    }
    if (!chat) return {...example, prompt};
    const turns = applyChatTemplate([{role: 'user', content: prompt}], {
      ...{addGenerationPrompt: true, allowControlTokens: true},
    });
    return {...example, prompt: turns, response: `${response}<end_of_turn>`};
  });
  if (truncate || written.length === 0) return written;
  // More than anything has: lengths as they are.
  const lengths = preprocessor.packedLengths(withoutImages(written), {sequenceLength: 2 ** 31});
  const long = lengths.flatMap((length, i) => (length > sequenceLength ? [i] : []));
  if (long.length === 0) return written;
  const longest = Math.max(...lengths);
  throw new Error(
    `Expected examples of at most ${sequenceLength} tokens in "${path}". Received: ${long.length} that are longer, line ` +
      `${written[long[0]!]!.line} first with ${lengths[long[0]!]}; the longest has ${longest}. Raise --max-length, or use ` +
      '--truncate to cut them.',
  );
}

/** For lengths the text is enough, in which the places of images stand. */
const withoutImages = (examples: readonly Example[]) => {
  const {prompts, responses} = trainingTexts(examples);
  return {prompts, responses};
};

/** One run, or what is left of it. */
class Run {
  private readonly report: Report;
  private readonly progress: TrainingProgress;
  private readonly started = performance.now();
  private readonly secondsBefore: number;
  /** Whether there was a step, so that there is a state to keep. */
  private stepped = false;

  constructor(
    private readonly lm: Gemma3CausalLM,
    private readonly options: FinetuneOptions,
    private readonly files: RunFiles,
    private readonly io: Io,
    settings: Settings,
    backend: string,
    private readonly before: {state: Uint8Array; report: Report} | null,
  ) {
    const {rank, alpha, target, seed} = options;
    lm.backbone.enableLora(rank, {
      seed,
      ...(target && {targetLayerNames: target}),
      ...(alpha !== undefined && {alpha}),
    });
    const count = (weights: readonly {shape: readonly (number | null)[]}[]) =>
      weights.reduce((sum, {shape}) => sum + shape.reduce<number>((a, b) => a * (b ?? 1), 1), 0);
    const numbers = {trainable: count(lm.trainableWeights), frozen: count(lm.nonTrainableWeights)};
    const fresh = {losses: [], epochs: [], seconds: 0, inputTokens: 0, finished: false};
    this.report = before?.report ?? {settings, ...numbers, backend, ...fresh};
    this.secondsBefore = this.report.seconds;
    this.progress = new TrainingProgress(io);
  }

  async train(data: readonly Example[], given: readonly Example[]): Promise<void> {
    const {lm, options, files, io, report, progress} = this;
    const {epochs, batchSize, validationSplit = 0, seed} = options;
    const split = given.length ? data.length : Math.ceil(data.length * (1 - validationSplit));
    const [rows, validation] = [data.slice(0, split), given.length ? given : data.slice(split)];
    if (rows.length === 0) throw new Error('Expected examples to train on. Received none beside those for validation.');
    const optimizer = await this.compile(Math.ceil(rows.length / batchSize) * epochs);
    progress.say(
      `${plural(rows.length, 'example')}, ${validation.length ? plural(validation.length, 'example') : 'none'} for ` +
        `validation; ${formatCount(report.trainable)} numbers are trained, ${formatCount(report.frozen)} are frozen`,
    );
    const callbacks = {
      onBatchEnd: (_: number, logs?: object) => this.step(logs as StepLogs),
      onEpochEnd: (epoch: number, logs?: object) => this.epoch(epoch, logs as {loss: number; val_loss?: number}),
    };
    try {
      await lm.fit(trainingTexts(rows), {
        ...{epochs, batchSize, seed, callbacks, signal: io.signal},
        ...(validation.length && {validationData: trainingTexts(validation)}),
        ...(this.before && {resumeFrom: this.before.state}),
      });
    } catch (error) {
      await this.keep(error);
      throw error;
    } finally {
      optimizer.dispose();
    }
    progress.end();
    await lm.backbone.saveLoraWeights(files.output);
    this.measure();
    report.finished = true;
    await files.finish(report);
    this.tell();
  }

  /** The optimizer is the caller's to dispose. */
  private async compile(steps: number): Promise<{dispose(): void}> {
    const {losses, optimizers} = await import('tfjs-gemma3');
    const {learningRate, schedule, warmup, weightDecay, clipNorm, accumulate, recompute = false} = this.options;
    const warmupSteps = Math.round(steps * warmup);
    const cosine = () =>
      new optimizers.CosineDecay({
        ...(warmupSteps ? {initialLearningRate: 0, warmupTarget: learningRate} : {initialLearningRate: learningRate}),
        ...{warmupSteps, decaySteps: Math.max(1, steps - warmupSteps)},
      });
    const optimizer = new optimizers.AdamW({
      ...{learningRate: schedule === 'cosine' ? cosine() : learningRate, weightDecay, globalClipNorm: clipNorm},
      ...(accumulate !== undefined && {gradientAccumulationSteps: accumulate}),
    });
    this.lm.compile({
      optimizer,
      // A mean over tokens that are learnt says the same whatever the padding.
      loss: new losses.SparseCategoricalCrossentropy({reduction: 'mean_with_sample_weight'}),
      recompute,
    });
    return optimizer;
  }

  private async step(logs: StepLogs): Promise<void> {
    const {report} = this;
    this.stepped = true;
    // Steps behind the checkpoint that a run goes on from are done again.
    report.losses.length = Math.min(report.losses.length, logs.step - 1);
    while (report.losses.length < logs.step - 1) report.losses.push(null);
    report.losses.push(logs.loss);
    report.inputTokens += logs.inputTokens;
    this.progress.step(logs);
    if (logs.step % this.options.checkpointEvery === 0) await this.checkpoint();
  }

  private async epoch(
    epoch: number,
    {loss, val_loss: validationLoss}: {loss: number; val_loss?: number},
  ): Promise<void> {
    const {report} = this;
    report.epochs.length = Math.min(report.epochs.length, epoch);
    const step = report.losses.length;
    report.epochs.push({step, loss, ...(validationLoss !== undefined && {validationLoss})});
    const told = validationLoss === undefined ? '' : `, validation loss ${validationLoss.toFixed(4)}`;
    this.progress.say(`epoch ${epoch + 1}/${this.options.epochs}: loss ${loss.toFixed(4)}${told}`);
    await this.checkpoint();
  }

  private async checkpoint(): Promise<void> {
    this.measure();
    await this.files.save(this.report, await this.lm.saveTrainingState());
  }

  private measure(): void {
    this.report.seconds = this.secondsBefore + (performance.now() - this.started) / 1000;
  }

  /** Keeps what a run has that ends early, and says how to go on. */
  private async keep(error: unknown): Promise<void> {
    const {files, progress, report, io} = this;
    progress.end();
    if (!this.stepped) return;
    await this.checkpoint();
    await this.lm.backbone.saveLoraWeights(files.output);
    const why = io.signal.aborted ? 'Interrupted' : `Stopped (${(error as Error).name})`;
    progress.say(
      `${why} behind step ${report.losses.length}. "${files.output}" has the weights of that step; --resume goes on from it.`,
    );
  }

  private tell(): void {
    const {io, options, files, report} = this;
    const last = report.epochs.at(-1)!;
    if (options.json) {
      const {output, report: path, picture} = files;
      printJson(io, {...report, files: {lora: output, report: path, picture}});
      return;
    }
    const validation = last.validationLoss === undefined ? '' : `, validation loss ${last.validationLoss.toFixed(4)}`;
    io.stdout.write(
      `${files.output}: loss ${last.loss.toFixed(4)}${validation}, ${plural(report.losses.length, 'step')} in ` +
        `${report.seconds.toFixed(0)} s; report in ${files.report} and ${files.picture}\n`,
    );
  }
}
