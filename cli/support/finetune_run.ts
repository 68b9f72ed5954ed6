/** One run of `gemma3 finetune`: trains, saves checkpoints, and reports what happened. */
import type {BackendName, FromPresetOptions, Gemma3CausalLM} from 'tfjs-gemma3';
import {formatCount, plural} from './format';
import type {ImageOptions} from './images';
import {type Io, printJson} from './io';
import {type Example, trainingTexts} from './training_data';
import {type StepLogs, TrainingProgress} from './training_progress';
import {exists, type Report, type RunFiles, type Settings} from './training_run';

export interface FinetuneOptions extends ImageOptions {
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
  dtype?: FromPresetOptions['dtype'];
  backend: BackendName;
  checkpointEvery: number;
  resume?: boolean;
  force?: boolean;
  json?: boolean;
}

/** One training run, or the remainder of a resumed run. */
export class FinetuneRun {
  private readonly report: Report;
  private readonly progress: TrainingProgress;
  private readonly started = performance.now();
  private readonly secondsBefore: number;
  /** Whether a step has completed, so that there is a state to save. */
  private stepped = false;

  constructor(
    private readonly lm: Gemma3CausalLM,
    private readonly options: FinetuneOptions,
    private readonly files: RunFiles,
    private readonly io: Io,
    settings: Settings,
    backend: string,
    private readonly previous: {state: Uint8Array; report: Report} | null,
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
    this.report = previous?.report ?? {settings, ...numbers, backend, ...fresh};
    this.secondsBefore = this.report.seconds;
    this.progress = new TrainingProgress(io);
  }

  async train(data: readonly Example[], validationData: readonly Example[]): Promise<void> {
    const {lm, options, files, io, report, progress} = this;
    const {epochs, batchSize, validationSplit = 0, seed} = options;
    const split = validationData.length ? data.length : Math.ceil(data.length * (1 - validationSplit));
    const rows = data.slice(0, split);
    const validation = validationData.length ? validationData : data.slice(split);
    if (rows.length === 0) {
      throw new Error(
        'Expected examples to train on. Received only examples for validation. Lower --validation-split.',
      );
    }
    const optimizer = await this.compile(Math.ceil(rows.length / batchSize) * epochs);
    progress.print(
      `${plural(rows.length, 'example')} for training, ${formatCount(validation.length)} for validation; ` +
        `${formatCount(report.trainable)} parameters trained, ${formatCount(report.frozen)} frozen`,
    );
    const callbacks = {
      onBatchEnd: (_: number, logs?: object) => this.step(logs as StepLogs),
      onEpochEnd: (epoch: number, logs?: object) => this.epoch(epoch, logs as {loss: number; val_loss?: number}),
    };
    try {
      await lm.fit(trainingTexts(rows), {
        ...{epochs, batchSize, seed, callbacks, signal: io.signal},
        ...(validation.length && {validationData: trainingTexts(validation)}),
        ...(this.previous && {resumeFrom: this.previous.state}),
      });
    } catch (error) {
      await this.saveInterrupted(error);
      throw error;
    } finally {
      optimizer.dispose();
    }
    progress.end();
    try {
      await lm.backbone.saveLoraWeights(files.output);
      this.updateSeconds();
      report.finished = true;
      await files.finish(report);
    } catch (error) {
      await this.printHowToContinue('All steps are done, but their result was not saved.');
      throw error;
    }
    this.printSummary();
  }

  /** Compiles the model. The caller disposes the optimizer. */
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
      // A mean over the learned tokens does not depend on the amount of padding.
      loss: new losses.SparseCategoricalCrossentropy({reduction: 'mean_with_sample_weight'}),
      recompute,
    });
    return optimizer;
  }

  private async step(logs: StepLogs): Promise<void> {
    const {report} = this;
    this.stepped = true;
    // A resumed run repeats the steps after its checkpoint, so their recorded losses are dropped.
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
    const validation = validationLoss === undefined ? '' : `, validation loss ${validationLoss.toFixed(4)}`;
    this.progress.print(`epoch ${epoch + 1}/${this.options.epochs}: loss ${loss.toFixed(4)}${validation}`);
    await this.checkpoint();
  }

  private async checkpoint(): Promise<void> {
    this.updateSeconds();
    await this.files.save(this.report, await this.lm.saveTrainingState());
  }

  private updateSeconds(): void {
    this.report.seconds = this.secondsBefore + (performance.now() - this.started) / 1000;
  }

  /** Saves the state and weights of a run that ends early, as far as possible, and prints how to continue it. */
  private async saveInterrupted(error: unknown): Promise<void> {
    const {files, progress, report, io} = this;
    progress.end();
    if (!this.stepped) return;
    const failures = new Set<string>();
    const succeeds = (saving: Promise<void>) =>
      saving.then(() => true).catch((failure: Error) => !failures.add(failure.message));
    await succeeds(this.checkpoint());
    // Smaller than the checkpoint, so it may fit where the checkpoint does not.
    const saved = await succeeds(this.lm.backbone.saveLoraWeights(files.output));
    const why = io.signal.aborted ? 'Interrupted' : `Stopped (${(error as Error).name})`;
    const what = saved
      ? `"${files.output}" holds the weights of that step.`
      : `The weights of that step could not be saved in "${files.output}".`;
    failures.delete((error as Error).message);
    for (const failure of failures) progress.print(failure);
    await this.printHowToContinue(`${why} after step ${report.losses.length}. ${what}`);
  }

  private async printHowToContinue(what: string): Promise<void> {
    const how = (await exists(this.files.checkpoint))
      ? 'Use --resume to continue.'
      : 'There is no checkpoint to resume from.';
    this.progress.print(`${what} ${how}`);
  }

  private printSummary(): void {
    const {io, options, files, report} = this;
    const last = report.epochs.at(-1)!;
    if (options.json) {
      const {output, report: path, chart} = files;
      printJson(io, {...report, files: {lora: output, report: path, picture: chart}});
      return;
    }
    const validation = last.validationLoss === undefined ? '' : `, validation loss ${last.validationLoss.toFixed(4)}`;
    io.stdout.write(
      `${files.output}: loss ${last.loss.toFixed(4)}${validation}, ${plural(report.losses.length, 'step')} in ` +
        `${report.seconds.toFixed(0)} s; report in ${files.report}, chart in ${files.chart}\n`,
    );
  }
}
