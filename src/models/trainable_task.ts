/** The base class of tasks that can be trained on text as well as on tensors. */
import type * as tf from '@tensorflow/tfjs';
import {loraLayers} from '../adapters/model_lora';
import {checkKeys, ValueError} from '../base/errors';
import {type ModelInputs} from '../layers/named_inputs';
import {type ReversibleEmbedding} from '../layers/reversible_embedding';
import {type LabelsLike, type TrainingTexts} from '../training/examples';
import {type EvaluateArgs, type EvaluateDatasetArgs, type FitArgs, type FitDatasetArgs} from '../training/fit_options';
import {type TrainingCompileArgs, TrainingSetup} from '../training/setup';
import {type Stage} from '../training/stages';
import {type Training} from '../training/training';
import {PackedWeight} from '../weights/packed_weight';
import {Task} from './task';

/* eslint-disable @typescript-eslint/no-explicit-any -- the only type that lets a subclass declare other arguments */
/** Removes the types of tfjs' training methods, which take only tensors and evaluate synchronously. */
abstract class UntypedTask extends Task {
  abstract override compile(...args: any[]): any;
  abstract override fit(...args: any[]): any;
  abstract override fitDataset(...args: any[]): any;
  abstract override trainOnBatch(...args: any[]): any;
  abstract override testOnBatch(...args: any[]): any;
  abstract override evaluate(...args: any[]): any;
  abstract override evaluateDataset(...args: any[]): any;
}
/* eslint-enable @typescript-eslint/no-explicit-any */

/**
 * A model with logits that is trained on text, or on inputs and labels. `P` is the type of text that its preprocessor
 * takes.
 */
export abstract class TrainableTask<P> extends UntypedTask {
  /** Hidden states (N, D) → logits (N, V). */
  abstract logits(hidden: tf.Tensor2D): tf.Tensor2D;
  /**
   * The stages from inputs by name to hidden states (B, T, D). The caller disposes the inputs.
   *
   * @param dropout the seed of dropout, or null for no dropout.
   */
  abstract trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[];
  /** The weights that turn hidden states into logits. */
  abstract readonly headWeights: readonly tf.LayerVariable[];
  /** Hidden states (N, D) → the states (N, D) that the head reads. */
  abstract finalStates(hidden: tf.Tensor2D): tf.Tensor2D;
  /** The head: the embedding, in reverse. */
  abstract readonly head: ReversibleEmbedding;
  /** Scale of LoRA and format of the frozen weights. */
  get trainingConditions(): Record<string, string> {
    const alphas = [...loraLayers(this.backbone).values()].map(({loraAlpha}) => loraAlpha);
    const formats = this.nonTrainableWeights.map(weight =>
      weight instanceof PackedWeight ? weight.format : 'float32',
    );
    const listOf = (values: readonly unknown[]) => [...new Set(values)].sort().join();
    return {loraAlpha: listOf(alphas), frozenWeights: listOf(formats)};
  }

  private readonly trainingSetup = new TrainingSetup();
  private createdTraining?: Training;
  /** Loads the code that trains, which a program that only generates text does not need. */
  private async training(): Promise<Training> {
    const {Training} = await import('../training/training');
    return (this.createdTraining ??= new Training(this, this.outputs[0]!.shape.at(-1)!, this.trainingSetup));
  }

  /**
   * Sets optimizer, loss and metrics. Arguments that are left out get their defaults.
   *
   * @throws ValueError on unusable arguments. In that case nothing changes.
   */
  override compile(args: TrainingCompileArgs = {}): void {
    this.optimizer = this.trainingSetup.compile(args).optimizer;
  }

  /**
   * Trains on text through the preprocessor, or on inputs and labels as tensors or nested arrays. Text is either whole
   * strings or {prompts, responses[, images]}; in the latter case only the tokens of the responses count.
   *
   * Only tokens with a weight other than 0 go through the head, so the logits of a whole batch are never held in
   * memory.
   *
   * @returns the history: loss, metrics and their validation values, one number per epoch.
   * @throws ValueError on unusable data or options, for packed weights, and for a loss that is not finite; the signal's
   * reason when aborted. In these cases the model has the weights of the last complete step, and only the optimizer's
   * tensors stay in memory.
   */
  override fit(x: P | TrainingTexts, args?: FitArgs): Promise<tf.History>;
  override fit(x: ModelInputs, y: LabelsLike, args?: FitArgs): Promise<tf.History>;
  override async fit(x: unknown, y?: unknown, args?: FitArgs): Promise<tf.History> {
    this.optimizer = this.trainingSetup.settings.optimizer; // for callbacks, if the model was never compiled
    return (await this.training()).fit(x, y, args);
  }

  /**
   * Trains on a tf.data dataset whose elements are batches: text, {prompts, responses}, or {xs, ys[, sampleWeight]}.
   *
   * @throws as {@link fit}.
   */
  override async fitDataset<T extends tf.TensorContainer>(
    dataset: tf.data.Dataset<T>,
    args: FitDatasetArgs = {},
  ): Promise<tf.History> {
    this.optimizer = this.trainingSetup.settings.optimizer;
    return (await this.training()).fitDataset(dataset, args);
  }

  /**
   * Trains on one batch, for one step.
   *
   * @returns the loss before the step, or [loss, …metrics].
   * @throws as {@link fit}.
   */
  override trainOnBatch(x: P | TrainingTexts): Promise<number | number[]>;
  override trainOnBatch(x: ModelInputs, y: LabelsLike, sampleWeight?: LabelsLike): Promise<number | number[]>;
  override async trainOnBatch(x: unknown, y?: unknown, sampleWeight?: LabelsLike): Promise<number | number[]> {
    return (await this.training()).trainOnBatch(x, y, sampleWeight);
  }

  /**
   * Computes the loss and the metrics of one batch, without changing anything.
   *
   * @returns the loss, or [loss, …metrics].
   * @throws ValueError on unusable data.
   */
  override testOnBatch(x: P | TrainingTexts): Promise<number | number[]>;
  override testOnBatch(x: ModelInputs, y: LabelsLike, sampleWeight?: LabelsLike): Promise<number | number[]>;
  override async testOnBatch(x: unknown, y?: unknown, sampleWeight?: LabelsLike): Promise<number | number[]> {
    return (await this.training()).testOnBatch(x, y, sampleWeight);
  }

  /**
   * Computes the loss and the metrics, in that order, on data like that of `fit`. The caller disposes these scalars.
   *
   * @throws ValueError on unusable data or options; the signal's reason when aborted.
   */
  override evaluate(x: P | TrainingTexts, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]>;
  override evaluate(x: ModelInputs, y: LabelsLike, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]>;
  override async evaluate(x: unknown, y?: unknown, args?: EvaluateArgs): Promise<tf.Scalar | tf.Scalar[]> {
    return (await this.training()).evaluate(x, y, args);
  }

  /**
   * As {@link evaluate}, on a tf.data dataset as for {@link fitDataset}.
   *
   * @throws as {@link evaluate}.
   */
  override async evaluateDataset(
    dataset: tf.data.Dataset<tf.TensorContainer>,
    args: EvaluateDatasetArgs = {},
  ): Promise<tf.Scalar | tf.Scalar[]> {
    checkKeys('evaluateDataset', args, ['batches', 'signal']);
    return (await this.training()).evaluateDataset(dataset, args);
  }

  /**
   * Everything that a run of `fit` or `fitDataset` needs to continue bit for bit with {@link FitArgs.resumeFrom}:
   * trained weights, optimizer state, position and seed. Call it from a callback, or after a run has ended or was
   * aborted.
   *
   * @throws ValueError before the first run.
   */
  async saveTrainingState(): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.training()).save();
  }

  /**
   * Saves the model in tfjs' format, as `save` of all models.
   *
   * @throws ValueError for `includeOptimizer`: use {@link saveTrainingState}.
   */
  override async save(target: tf.io.IOHandler | string, config: tf.io.SaveConfig = {}): Promise<tf.io.SaveResult> {
    if (config.includeOptimizer) {
      throw new ValueError(
        "tfjs' format cannot hold the optimizer of a language model. Received: includeOptimizer=true. " +
          'Use `saveTrainingState` instead.',
      );
    }
    return super.save(target, config);
  }

  override dispose(): ReturnType<Task['dispose']> {
    this.trainingSetup.dispose();
    return super.dispose();
  }
}
