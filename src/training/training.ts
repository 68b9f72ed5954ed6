/** Training of a language model: the implementation of `fit` and `evaluate` of `CausalLM`. Loaded on demand. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Batch} from './batch';
import {checkClassWeights, checkUnweighted, ClassWeightedExamples, type ClassWeights} from './class_weights';
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
import {type BatchSource, DatasetSource, ExampleSource, lengthOf} from './sources';
import {type Compiled, type TrainingSetup} from './setup';
import {TrainableWeights} from './trainable_weights';
import {Means, needsWholeRows, type TrainableModel, Trainer} from './trainer';
import {packState, type Position, unpackState} from './training_state';

type PadTo = 'longest' | 'sequenceLength';

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

/** The training of a model. */
export class Training {
  private position: Position | null = null;
  private running = false;
  private readonly weights = new TrainableWeights();

  constructor(
    private readonly model: Model,
    private readonly vocabulary: number,
    private readonly setup: TrainingSetup,
  ) {
    setup.onCompile = () => {
      this.position = null;
      this.weights.reset();
    };
  }

  private get settings(): Compiled {
    return this.setup.settings;
  }

  private get trainer(): Trainer {
    return new Trainer(this.model, this.settings, this.vocabulary);
  }

  /** @throws ValueError if the model was disposed, or has no weights that can be trained. */
  private checkTrainable(): void {
    this.model.checkInUse();
    this.weights.check(this.model.trainableWeights);
  }

  // === fit ===

  async fit(x: unknown, y: unknown, options: FitArgs | undefined): Promise<tf.History> {
    this.checkTrainable();
    const {data, args} = dataAndArgs('fit', x, y, options);
    checkFit(args);
    const {batchSize = 32, shuffle = true, validationSplit = 0, validationData, classWeight} = args;
    this.checkWeights('fit', classWeight);
    if (classWeight) checkUnweighted('fit', data);
    const padTo = this.paddingOf('fit', args.padTo);
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
      const weighted = classWeight ? new ClassWeightedExamples(examples, classWeight) : examples;
      const options = {rows: rows.length, batchSize, shuffle, padTo, data: weighted.fingerprint()};
      const position = await this.start(args, options);
      const order = {batchSize, padTo, shuffle, byLength: padTo === 'longest', seed: position.seed};
      return this.loop(args, position, new ExampleSource(weighted, rows, order), validation, batchSize);
    });
  }

  async fitDataset(dataset: unknown, args: FitDatasetArgs): Promise<tf.History> {
    this.checkTrainable();
    checkFitDataset(args);
    checkDataset('fitDataset', dataset);
    const {validationData, validationBatches, batchesPerEpoch, classWeight} = args;
    this.checkWeights('fitDataset', classWeight);
    const padTo = this.padding;
    return this.exclusively(async disposables => {
      let validation: BatchSource | null = null;
      if (isDataset(validationData)) {
        validation = new DatasetSource(this.model, validationData, validationBatches, padTo);
      } else if (validationData !== undefined) {
        const validated = await this.examples(validationData, 'validationData', disposables);
        validation = new ExampleSource(validated, allRows(validated), {batchSize: 32, padTo, ...IN_ORDER});
      }
      const position = await this.start(args, {batchesPerEpoch: batchesPerEpoch ?? 'all'});
      const source = new DatasetSource(this.model, dataset, batchesPerEpoch, padTo, classWeight);
      return this.loop(args, position, source, validation);
    });
  }

  /** One step. There is no epoch: the dropout seed follows from the step count. */
  async trainOnBatch(x: unknown, y: unknown, sampleWeight: LabelsLike | undefined): Promise<number | number[]> {
    this.checkTrainable();
    const {data} = dataAndArgs('trainOnBatch', x, y, sampleWeight === undefined ? undefined : {sampleWeight});
    return this.exclusively(async disposables => {
      const batch = await this.wholeBatch(data, disposables);
      const means = new Means(this.settings.metrics);
      const step = this.settings.optimizer.iterations;
      means.add(await this.trainer.trainStep(batch, `batch/${step}`, `in step ${step + 1}`), batch);
      return single(Object.values(means.logs()));
    });
  }

  /** The loss and the metrics of one batch, without changing anything. */
  async testOnBatch(x: unknown, y: unknown, sampleWeight: LabelsLike | undefined): Promise<number | number[]> {
    const {data} = dataAndArgs('testOnBatch', x, y, sampleWeight === undefined ? undefined : {sampleWeight});
    const disposables: Disposable[] = [];
    try {
      const batch = await this.wholeBatch(data, disposables);
      const means = new Means(this.settings.metrics);
      means.add(await this.trainer.evaluate(batch), batch);
      return single(Object.values(means.logs()));
    } finally {
      for (const item of disposables) item.dispose();
    }
  }

  // === evaluate ===

  async evaluate(x: unknown, y: unknown, options: EvaluateArgs | undefined): Promise<tf.Scalar | tf.Scalar[]> {
    this.model.checkInUse();
    const {data, args} = dataAndArgs('evaluate', x, y, options);
    checkEvaluate(args);
    const {batchSize = 32, signal} = args;
    const padTo = this.paddingOf('evaluate', args.padTo);
    const disposables: Disposable[] = [];
    try {
      const examples = await this.examples(data, 'x', disposables);
      const source = new ExampleSource(examples, allRows(examples), {batchSize, padTo, ...IN_ORDER});
      return scalars(await evaluateSource(this.trainer, source, this.settings.metrics, signal));
    } finally {
      for (const item of disposables) item.dispose();
    }
  }

  async evaluateDataset(dataset: unknown, {batches, signal}: EvaluateDatasetArgs): Promise<tf.Scalar | tf.Scalar[]> {
    this.model.checkInUse();
    checkDataset('evaluateDataset', dataset);
    const source = new DatasetSource(this.model, dataset, batches, this.padding);
    return scalars(await evaluateSource(this.trainer, source, this.settings.metrics, signal));
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

  /** The default length of rows: see `FitArgs.padTo`. */
  private get padding(): PadTo {
    return needsWholeRows(this.settings) ? 'sequenceLength' : 'longest';
  }

  /** @throws ValueError for short rows with metrics in which padding counts. */
  private paddingOf(owner: string, padTo: PadTo | undefined): PadTo {
    if (padTo === 'longest' && this.settings.metrics.some(({weighted}) => !weighted)) {
      throw new ValueError(
        `${owner} expected \`padTo\` as "sequenceLength", since padding counts in \`metrics\`, as in Keras. Received: ` +
          'padTo="longest". Leave it out, or compile with `weightedMetrics` instead.',
      );
    }
    return padTo ?? this.padding;
  }

  private checkWeights(owner: string, classWeight: ClassWeights | undefined): void {
    if (classWeight !== undefined) checkClassWeights(owner, classWeight, this.vocabulary);
  }

  private async examples(data: unknown, owner: string, disposables: Disposable[]): Promise<Examples> {
    const examples = await examplesOf(this.model, data, owner);
    disposables.push(examples);
    return examples;
  }

  /** All rows of the data as one batch. */
  private async wholeBatch(data: unknown, disposables: Disposable[]): Promise<Batch> {
    const examples = await this.examples(data, 'x', disposables);
    const batch = await examples.batch(allRows(examples), lengthOf(examples, this.padding));
    disposables.push({dispose: () => tf.dispose(Object.values(batch.inputs))});
    return batch;
  }

  /** The position where a run begins. With `resumeFrom`, also restores weights and optimizer. */
  private async start(
    {resumeFrom, seed, initialEpoch = 0}: Pick<FitArgs, 'resumeFrom' | 'seed' | 'initialEpoch'>,
    options: Position['conditions'],
  ): Promise<Position> {
    const {optimizer} = this.settings;
    const conditions: Position['conditions'] = {...options, ...this.model.trainingConditions};
    if (!resumeFrom) {
      const chosen = seed ?? Math.floor(Math.random() * 2 ** 31);
      this.position = {epoch: initialEpoch, batch: 0, step: 0, seed: chosen, sums: {}, history: {}, conditions};
      return this.position;
    }
    const position = await unpackState(resumeFrom, this.model.trainableWeights, optimizer, saved => {
      const before: Position['conditions'] = {...saved.conditions, seed: saved.seed};
      const now: Position['conditions'] = {...conditions, seed: seed ?? saved.seed};
      const different = Object.keys({...before, ...now}).filter(key => before[key] !== now[key]);
      if (different.length === 0) return;
      const only = (from: Position['conditions']) => show(Object.fromEntries(different.map(key => [key, from[key]])));
      throw new ValueError(
        `Expected the options, data and model that the run began with: ${only(before)}. Received: ${only(now)}.` +
          (different.includes('data') ? ' `data` is a fingerprint of texts, or of tokens and labels.' : ''),
      );
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
