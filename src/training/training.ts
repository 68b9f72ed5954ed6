/** Training of a language model: the implementation of `compile`, `fit` and `evaluate` of `CausalLM`. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {type Batch} from './batch';
import {type Examples, examplesOf, isText, type LabelsLike, type ModelWithText} from './examples';
import {type CallbackModel, evaluateSource, fitLoop} from './fit';
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
import {TrainableWeights} from './trainable_weights';
import {ACCURACY, type Compiled, Means, type TrainableModel, Trainer} from './trainer';
import {packState, type Position, unpackState} from './training_state';

export interface TrainingCompileArgs {
  /**
   * "auto", the default, is Adam with a learning rate of 2e-5. "adam", "adamw" and "sgd" have Keras' defaults. Or pass
   * an optimizer.
   */
  optimizer?: optimizers.OptimizerName | tf.Optimizer;
  /** "auto", the default, is sparse categorical cross-entropy of the next token. */
  loss?: 'auto' | 'sparse_categorical_crossentropy' | losses.SparseCategoricalCrossentropy;
  /**
   * Defaults to none. "auto" is KerasHub's default, ["sparse_categorical_accuracy"]: the weighted fraction of correctly
   * predicted tokens. It computes the logits a second time.
   */
  weightedMetrics?: 'auto' | readonly (typeof ACCURACY)[];
  /**
   * Whether to keep only the input of each decoder block and recompute the rest in the backward pass: this takes about
   * a third more time, needs a fraction of the memory and gives the same gradients. Defaults to false.
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

type Model = TrainableModel & ModelWithText & CallbackModel;

interface Disposable {
  dispose(): void;
}

/**
 * Separates the data from the options of `fit` and `evaluate`, which are called as (text, options) or (x, y, options).
 */
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
  const options = (args ?? y ?? {}) as A;
  if ((args !== undefined && y !== undefined && y !== null) || options.sampleWeight !== undefined) {
    throw new ValueError(
      `${owner} computes the labels and weights for text. Call it with (text, options). Received labels or weights as well.`,
    );
  }
  return {data: x, args: options};
}

function checkDataset(owner: string, dataset: unknown): asserts dataset is tf.data.Dataset<tf.TensorContainer> {
  if (isDataset(dataset)) return;
  throw new ValueError(`${owner} expected a dataset of tf.data. Received: ${show(dataset)}.`);
}

const allRows = ({lengths}: Examples): number[] => lengths.map((_, row) => row);

/** Rows in their original order. */
const IN_ORDER = {shuffle: false, byLength: false, seed: 0} as const;

/** The state of a model's training. */
export class Training {
  private compiled: Compiled | null = null;
  private ownsOptimizer = false;
  private position: Position | null = null;
  private running = false;
  private readonly weights = new TrainableWeights();

  constructor(
    private readonly model: Model,
    private readonly vocabulary: number,
  ) {}

  /** @throws ValueError on unusable arguments. In that case nothing has changed. */
  compile({optimizer = 'auto', loss = 'auto', weightedMetrics = [], recompute = false}: TrainingCompileArgs): Compiled {
    checkArgument('compile', 'recompute', recompute, 'flag');
    const accuracy = hasAccuracy(weightedMetrics);
    const compiled = {loss: losses.get(loss), accuracy, recompute, optimizer: optimizers.get(optimizer)};
    const previous = this.compiled?.optimizer;
    if (previous !== compiled.optimizer) this.disposeOptimizer();
    this.ownsOptimizer = typeof optimizer === 'string';
    this.compiled = compiled;
    this.position = null;
    this.weights.reset();
    return compiled;
  }

  get settings(): Compiled {
    return this.compiled ?? this.compile({});
  }

  private disposeOptimizer(): void {
    if (this.ownsOptimizer) this.compiled?.optimizer.dispose();
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
    this.weights.check(this.model.trainableWeights);
    const {data, args} = dataAndArgs('fit', x, y, options);
    checkFit(args);
    const {batchSize = 32, shuffle = true, padTo = 'longest', validationSplit = 0, validationData} = args;
    return this.exclusively(async disposables => {
      const examples = await this.examples(data, 'x', disposables);
      const all = allRows(examples);
      const split = Math.floor(all.length * (1 - validationSplit));
      const rows = all.slice(0, split);
      if (rows.length === 0) {
        throw new ValueError(`Expected rows to train on. Received: ${all.length}, validationSplit=${validationSplit}.`);
      }
      let validation: BatchSource | null = null;
      if (validationData !== undefined) {
        const validated = await this.examples(validationData, 'validationData', disposables);
        validation = new ExampleSource(validated, allRows(validated), {batchSize, padTo, ...IN_ORDER});
      } else if (split < all.length) {
        validation = new ExampleSource(examples, all.slice(split), {batchSize, padTo, ...IN_ORDER});
      }
      const position = await this.start(args, {rows: rows.length, batchSize, shuffle, padTo});
      const order = {batchSize, padTo, shuffle, byLength: padTo === 'longest', seed: position.seed};
      return this.loop(args, position, new ExampleSource(examples, rows, order), validation, batchSize);
    });
  }

  async fitDataset(dataset: unknown, args: FitDatasetArgs): Promise<tf.History> {
    this.weights.check(this.model.trainableWeights);
    checkFitDataset(args);
    checkDataset('fitDataset', dataset);
    const {validationData, validationBatches, batchesPerEpoch} = args;
    return this.exclusively(async disposables => {
      let validation: BatchSource | null = null;
      if (isDataset(validationData)) {
        validation = new DatasetSource(this.model, validationData, validationBatches);
      } else if (validationData !== undefined) {
        const validated = await this.examples(validationData, 'validationData', disposables);
        validation = new ExampleSource(validated, allRows(validated), {batchSize: 32, padTo: 'longest', ...IN_ORDER});
      }
      const position = await this.start(args, {batchesPerEpoch: batchesPerEpoch ?? 'all'});
      return this.loop(args, position, new DatasetSource(this.model, dataset, batchesPerEpoch), validation);
    });
  }

  /** One step. There is no epoch: the dropout seed follows from the step count. */
  async trainOnBatch(x: unknown, y: unknown, sampleWeight: LabelsLike | undefined): Promise<number | number[]> {
    this.weights.check(this.model.trainableWeights);
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
    const disposables: Disposable[] = [];
    try {
      const examples = await this.examples(data, 'x', disposables);
      const source = new ExampleSource(examples, allRows(examples), {batchSize, padTo, ...IN_ORDER});
      return scalars(await evaluateSource(this.trainer, source, this.settings.accuracy, signal));
    } finally {
      for (const item of disposables) item.dispose();
    }
  }

  async evaluateDataset(dataset: unknown, {batches, signal}: EvaluateDatasetArgs): Promise<tf.Scalar | tf.Scalar[]> {
    checkDataset('evaluateDataset', dataset);
    const source = new DatasetSource(this.model, dataset, batches);
    return scalars(await evaluateSource(this.trainer, source, this.settings.accuracy, signal));
  }

  // === State ===

  /** @throws ValueError if `fit` was not called before. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.position) {
      throw new ValueError('Expected a training run to save. Received none: call `fit` or `fitDataset` first.');
    }
    return packState(structuredClone(this.position), this.model.trainableWeights, this.settings.optimizer);
  }

  // === Parts ===

  private async examples(data: unknown, owner: string, disposables: Disposable[]): Promise<Examples> {
    const examples = await examplesOf(this.model, data, owner);
    disposables.push(examples);
    return examples;
  }

  /** All rows of the data as one batch. */
  private async wholeBatch(data: unknown, disposables: Disposable[]): Promise<Batch> {
    const examples = await this.examples(data, 'x', disposables);
    const batch = await examples.batch(allRows(examples), Math.max(...examples.lengths));
    disposables.push({dispose: () => tf.dispose(Object.values(batch.inputs))});
    return batch;
  }

  /** The position where a run begins. With `resumeFrom`, also restores weights and optimizer. */
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
          `Expected the options that the run began with: ${show({...saved.order, seed: saved.seed})}. ` +
            `Received: ${show({...order, ...(seed !== undefined && {seed})})}.`,
        );
      }
    });
    return (this.position = position);
  }

  private async loop(
    args: FitArgs | FitDatasetArgs,
    position: Position,
    source: BatchSource,
    validation: BatchSource | null,
    batchSize?: number,
  ): Promise<tf.History> {
    const {epochs = 1, callbacks = [], verbose = 0, signal} = args;
    const {model, trainer, settings: compiled} = this;
    const run = {model, trainer, compiled, source, validation, position, epochs, callbacks, verbose};
    return fitLoop({...run, ...(signal && {signal}), ...(batchSize !== undefined && {batchSize})});
  }

  /**
   * Runs `run`, which changes weights, and refuses to start while another call is running. Afterwards disposes
   * everything that `run` added to `disposables`.
   */
  private async exclusively<T>(run: (disposables: Disposable[]) => Promise<T>): Promise<T> {
    if (this.running) throw new ValueError('Cannot start training because another fit() call is ongoing.');
    this.running = true;
    const disposables: Disposable[] = [];
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
