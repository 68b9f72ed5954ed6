/** Training of a language model: what `compile`, `fit`, `evaluate` and their like of `CausalLM` do. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {checkArgument} from '../base/checks';
import {type Batch} from './batch';
import {type Examples, examplesOf, isText, type LabelsLike, type ModelWithText} from './examples';
import {evaluateSource, fitLoop} from './fit';
import {
  checkEvaluate,
  checkFit,
  checkFitDataset,
  type EvaluateArgs,
  type EvaluateDatasetArgs,
  type FitArgs,
  type FitDatasetArgs,
  isDataset,
} from './fit_options';
import * as losses from './losses';
import * as optimizers from './optimizers';
import {type BatchSource, DatasetSource, ExampleSource} from './sources';
import {ACCURACY, checkTrainable, type Compiled, Means, type TrainableModel, Trainer} from './trainer';
import {packState, type Position, unpackState} from './training_state';

export interface TrainingCompileArgs {
  /** "auto", the default: Adam with the rate 2e-5. "adam", "adamw" or "sgd" with Keras' defaults, or an optimizer. */
  optimizer?: optimizers.OptimizerName | tf.Optimizer;
  /** "auto", the default: sparse categorical cross-entropy of the token that comes next. */
  loss?: 'auto' | 'sparse_categorical_crossentropy' | losses.SparseCategoricalCrossentropy;
  /**
   * Defaults to none; "auto" is what KerasHub compiles with, ["sparse_categorical_accuracy"]: how often the likeliest token is
   * the right one, by weight. It takes the logits once more.
   */
  weightedMetrics?: 'auto' | readonly (typeof ACCURACY)[];
  /**
   * Whether to keep the input of each decoder block alone and to compute the rest again on the way back: a third more time
   * for a fraction of the memory, and the same gradients. Defaults to false.
   */
  recompute?: boolean;
}
export const TRAINING_COMPILE_ARGS = ['optimizer', 'loss', 'weightedMetrics', 'recompute'] as const;

function hasAccuracy(metrics: unknown): boolean {
  if (metrics === 'auto') return true;
  if (Array.isArray(metrics) && metrics.every(metric => metric === ACCURACY)) return metrics.length > 0;
  throw new ValueError(
    `Expected \`weightedMetrics\` as "auto" or as a list of "${ACCURACY}". Received: ${show(metrics)}.`,
  );
}

type Model = TrainableModel & ModelWithText & {stopTraining: boolean};

/** Arguments of `fit` and `evaluate`: (text, options) or (x, y, options). */
function dataAndArgs<A extends {sampleWeight?: LabelsLike}>(
  owner: string,
  x: unknown,
  y: unknown,
  args: A | undefined,
): {data: unknown; args: A} {
  if (!isText(x)) {
    const {sampleWeight} = args ?? {};
    return {data: [x, y, ...(sampleWeight === undefined ? [] : [sampleWeight])], args: args ?? ({} as A)};
  }
  const given = (args ?? y ?? {}) as A;
  if ((args !== undefined && y !== undefined && y !== null) || given.sampleWeight !== undefined) {
    throw new ValueError(
      `${owner} makes labels and weights of text by itself: give it (text, options). Received them too.`,
    );
  }
  return {data: x, args: given};
}

/** What a model keeps about its training. */
export class Training {
  private compiled: Compiled | null = null;
  private ownsOptimizer = false;
  private position: Position | null = null;
  private running = false;
  /** What the optimizer was used for: those of tfjs keep what they know of weights by their number. */
  private trained: readonly tf.LayerVariable[] | null = null;

  constructor(
    private readonly model: Model,
    private readonly vocabulary: number,
  ) {}

  /** @throws ValueError on unusable arguments; then all is as before. */
  compile({optimizer = 'auto', loss = 'auto', weightedMetrics = [], recompute = false}: TrainingCompileArgs): void {
    checkArgument('compile', 'recompute', recompute, 'flag');
    const accuracy = hasAccuracy(weightedMetrics);
    const compiled = {loss: losses.get(loss), accuracy, recompute, optimizer: optimizers.get(optimizer)};
    const kept = this.compiled?.optimizer;
    if (kept !== compiled.optimizer) this.disposeOptimizer();
    this.ownsOptimizer = typeof optimizer === 'string';
    this.compiled = compiled;
    this.position = null;
    this.trained = null;
  }

  get settings(): Compiled {
    if (!this.compiled) this.compile({});
    return this.compiled!;
  }

  private disposeOptimizer(): void {
    if (this.ownsOptimizer) this.compiled!.optimizer.dispose();
    this.ownsOptimizer = false;
  }

  dispose(): void {
    this.disposeOptimizer();
    this.compiled = null;
  }

  private get trainer(): Trainer {
    return new Trainer(this.model, this.settings, this.vocabulary);
  }

  // === fit ===

  async fit(x: unknown, y: unknown, options: FitArgs | undefined): Promise<tf.History> {
    this.checkWeights();
    const {data, args} = dataAndArgs('fit', x, y, options);
    checkFit(args);
    const {batchSize = 32, shuffle = true, padTo = 'longest', validationSplit = 0, validationData} = args;
    return this.exclusively(async disposables => {
      const examples = await this.examples(data, 'x', disposables);
      const all = examples.lengths.map((_, row) => row);
      const split = Math.floor(all.length * (1 - validationSplit));
      const rows = all.slice(0, split);
      if (rows.length === 0) {
        throw new ValueError(`Expected rows to train on. Received: ${all.length}, validationSplit=${validationSplit}.`);
      }
      const held = {batchSize, shuffle: false, byLength: false, seed: 0, padTo};
      let validation: BatchSource | null = null;
      if (validationData !== undefined) {
        const given = await this.examples(validationData, 'validationData', disposables);
        validation = new ExampleSource(
          given,
          given.lengths.map((_, row) => row),
          held,
        );
      } else if (split < all.length) {
        validation = new ExampleSource(examples, all.slice(split), held);
      }
      const position = await this.start(args, {rows: rows.length, batchSize, shuffle, padTo});
      const order = {...held, shuffle, byLength: padTo === 'longest', seed: position.seed};
      return this.loop(args, new ExampleSource(examples, rows, order), validation, batchSize);
    });
  }

  async fitDataset(dataset: unknown, args: FitDatasetArgs): Promise<tf.History> {
    this.checkWeights();
    checkFitDataset(args);
    this.checkDataset('fitDataset', dataset);
    const {validationData, validationBatches, batchesPerEpoch} = args;
    return this.exclusively(async disposables => {
      let validation: BatchSource | null = null;
      if (isDataset(validationData)) {
        validation = new DatasetSource(this.model, validationData, validationBatches);
      } else if (validationData !== undefined) {
        const given = await this.examples(validationData, 'validationData', disposables);
        const order = {batchSize: 32, shuffle: false, byLength: false, seed: 0, padTo: 'longest'} as const;
        validation = new ExampleSource(
          given,
          given.lengths.map((_, row) => row),
          order,
        );
      }
      await this.start(args, {batchesPerEpoch: batchesPerEpoch ?? 'all'});
      return this.loop(args, new DatasetSource(this.model, dataset as never, batchesPerEpoch), validation);
    });
  }

  /** One step. Losses are told apart by no epoch: the seed of what drops out follows from the number of steps so far. */
  async trainOnBatch(x: unknown, y: unknown, sampleWeight: LabelsLike | undefined): Promise<number | number[]> {
    this.checkWeights();
    const {data} = dataAndArgs('trainOnBatch', x, y, sampleWeight === undefined ? undefined : {sampleWeight});
    return this.exclusively(async disposables => {
      const batch = await this.wholeBatch(data, disposables);
      const means = new Means(this.settings.accuracy);
      const step = this.settings.optimizer.iterations;
      means.add(await this.trainer.trainStep(batch, `batch/${step}`, `in step ${step + 1}`), batch);
      return single(Object.values(means.logs()));
    });
  }

  // === evaluate ===

  async evaluate(x: unknown, y: unknown, options: EvaluateArgs | undefined): Promise<tf.Scalar | tf.Scalar[]> {
    const {data, args} = dataAndArgs('evaluate', x, y, options);
    checkEvaluate(args);
    const {batchSize = 32, padTo = 'longest', signal} = args;
    const disposables: {dispose(): void}[] = [];
    try {
      const examples = await this.examples(data, 'x', disposables);
      const rows = examples.lengths.map((_, row) => row);
      const source = new ExampleSource(examples, rows, {batchSize, shuffle: false, byLength: false, seed: 0, padTo});
      return scalars(await evaluateSource(this.trainer, source, this.settings.accuracy, signal));
    } finally {
      for (const item of disposables) item.dispose();
    }
  }

  async evaluateDataset(dataset: unknown, {batches, signal}: EvaluateDatasetArgs): Promise<tf.Scalar | tf.Scalar[]> {
    this.checkDataset('evaluateDataset', dataset);
    const source = new DatasetSource(this.model, dataset as never, batches);
    return scalars(await evaluateSource(this.trainer, source, this.settings.accuracy, signal));
  }

  // === State ===

  /** @throws ValueError before `fit` was called. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.position) {
      throw new ValueError('Expected a run to save the state of. Received none: call `fit` or `fitDataset` first.');
    }
    return packState(structuredClone(this.position), this.model.trainableWeights, this.settings.optimizer);
  }

  // === Parts ===

  /** @throws ValueError if weights cannot be trained, or not by this optimizer. */
  private checkWeights(): void {
    const weights = this.model.trainableWeights;
    checkTrainable(weights);
    const known = (this.trained ??= weights);
    if (known.length === weights.length && known.every((weight, i) => weight === weights[i])) return;
    throw new ValueError(
      `Expected the ${known.length} weights that the optimizer has trained since \`compile\`. Received ` +
        `${weights.length}, not the same ones. Call \`compile\` again, with a new optimizer.`,
    );
  }

  private async examples(data: unknown, owner: string, disposables: {dispose(): void}[]): Promise<Examples> {
    const examples = await examplesOf(this.model, data, owner);
    disposables.push(examples);
    return examples;
  }

  private async wholeBatch(data: unknown, disposables: {dispose(): void}[]): Promise<Batch> {
    const examples = await this.examples(data, 'x', disposables);
    const rows = examples.lengths.map((_, row) => row);
    const batch = await examples.batch(rows, Math.max(...examples.lengths));
    disposables.push({dispose: () => tf.dispose(Object.values(batch.inputs))});
    return batch;
  }

  private checkDataset(owner: string, dataset: unknown): void {
    if (isDataset(dataset)) return;
    throw new ValueError(`${owner} expected a dataset of tf.data. Received: ${show(dataset)}.`);
  }

  /** Where a run begins. */
  private async start(
    {resumeFrom, seed, initialEpoch = 0}: Pick<FitArgs, 'resumeFrom' | 'seed' | 'initialEpoch'>,
    order: Position['order'],
  ): Promise<Position> {
    const {optimizer} = this.settings;
    if (!resumeFrom) {
      const chosen = seed ?? Math.floor(Math.random() * 2 ** 31);
      this.position = {epoch: initialEpoch, batch: 0, step: 0, seed: chosen, sums: {}, history: {}, order};
      return this.position;
    }
    const position = await unpackState(resumeFrom, this.model.trainableWeights, optimizer, saved => {
      const different = JSON.stringify(saved.order) !== JSON.stringify(order);
      if (different || (seed !== undefined && seed !== saved.seed)) {
        throw new ValueError(
          `Expected the run to go on as it began, with ${show({...saved.order, seed: saved.seed})}. ` +
            `Received: ${show({...order, ...(seed !== undefined && {seed})})}.`,
        );
      }
    });
    return (this.position = position);
  }

  private async loop(
    args: FitArgs | FitDatasetArgs,
    source: BatchSource,
    validation: BatchSource | null,
    batchSize?: number,
  ): Promise<tf.History> {
    const {epochs = 1, callbacks = [], verbose = 0, signal} = args;
    const {model, trainer, settings: compiled, position} = this;
    const run = {model, trainer, compiled, source, validation, position: position!, epochs, callbacks, verbose};
    return fitLoop({...run, ...(signal && {signal}), ...(batchSize !== undefined && {batchSize})});
  }

  /** Runs one thing at a time that changes weights, and disposes what it made. */
  private async exclusively<T>(run: (disposables: {dispose(): void}[]) => Promise<T>): Promise<T> {
    if (this.running) throw new ValueError('Cannot start training because another fit() call is ongoing.');
    this.running = true;
    const disposables: {dispose(): void}[] = [];
    try {
      return await run(disposables);
    } finally {
      this.running = false;
      for (const item of disposables) item.dispose();
    }
  }
}

const single = <T>(values: T[]): T | T[] => (values.length === 1 ? values[0]! : values);
const scalars = (means: Means): tf.Scalar | tf.Scalar[] => single(Object.values(means.logs()).map(x => tf.scalar(x)));
