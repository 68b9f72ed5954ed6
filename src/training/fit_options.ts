/** Options of `fit` and its like, checked. */
import type * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../base/errors';
import {checkArgument, checkObject, checkPositiveInteger} from '../base/checks';
import {type LabelsLike, type TrainingData} from './examples';

/** Numbers that callbacks are told. */
export type FitLogs = Record<string, number>;

/** tfjs' callbacks, such as `tf.callbacks.earlyStopping()`, or functions by name. */
export type FitCallbacks = tf.CustomCallbackArgs | readonly (tf.CustomCallbackArgs | tf.Callback)[] | tf.Callback;

interface LoopArgs {
  /** Epoch at which training ends, counted from 0. Defaults to 1. */
  epochs?: number;
  /** Epoch at which it begins. Defaults to 0. */
  initialEpoch?: number;
  /**
   * Told of batches and epochs. Logs of a batch: `batch`, `size` (rows), `loss`, metrics, `tokens` (with a weight), `inputTokens`
   * (that pass the model, padding included), `step` (of all epochs, from 1), `learningRate` of the step, and `totalSteps` where it is known. Logs of an epoch: `loss`,
   * metrics, and with validation data the same with `val_` in front.
   */
  callbacks?: FitCallbacks;
  /** 1 prints a line an epoch. 0, the default, prints nothing. */
  verbose?: 0 | 1;
  /** Order of rows and what drops out follow from it, a whole number. Chosen at random if left out. */
  seed?: number;
  /** Stops between two steps: the promise is rejected with the signal's reason, and `saveTrainingState` still works. */
  signal?: AbortSignal;
  /** What `saveTrainingState` gave: weights, optimizer and position are taken from it, and the run goes on. */
  resumeFrom?: Uint8Array;
}

export interface FitArgs extends LoopArgs {
  /** Rows of a batch. Defaults to 32. */
  batchSize?: number;
  /** Whether rows come in another order in each epoch. Defaults to true. */
  shuffle?: boolean;
  /**
   * "longest", the default: a batch is as long as its longest row, and when shuffled, rows of like length go together.
   * "sequenceLength": all batches are as long as rows were given, as in Keras. The loss of a batch is the same number.
   */
  padTo?: 'longest' | 'sequenceLength';
  /** Weights of labels (B, T), or of rows (B). For tensors only: a preprocessor makes its own. Defaults to ones. */
  sampleWeight?: LabelsLike;
  /** Evaluated at the end of each epoch. */
  validationData?: TrainingData;
  /** Part of the rows, the last ones, that is validation data instead; in [0, 1). */
  validationSplit?: number;
}

export interface FitDatasetArgs extends LoopArgs {
  /** Elements of an epoch. Defaults to all that the dataset has. */
  batchesPerEpoch?: number;
  /** Evaluated at the end of each epoch. */
  validationData?: TrainingData | tf.data.Dataset<tf.TensorContainer>;
  /** Elements of the validation dataset that are looked at. Defaults to all. */
  validationBatches?: number;
}

export interface EvaluateArgs {
  /** Rows of a batch. Defaults to 32. */
  batchSize?: number;
  /** See {@link FitArgs}. */
  sampleWeight?: LabelsLike;
  /** See {@link FitArgs}. */
  padTo?: 'longest' | 'sequenceLength';
  /** Stops between two batches: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

export interface EvaluateDatasetArgs {
  /** Elements that are looked at. Defaults to all. */
  batches?: number;
  /** Stops between two batches: the promise is rejected with the signal's reason. */
  signal?: AbortSignal;
}

const LOOP = ['epochs', 'initialEpoch', 'callbacks', 'verbose', 'seed', 'signal', 'resumeFrom'];
const FIT = [...LOOP, 'batchSize', 'shuffle', 'padTo', 'sampleWeight', 'validationData', 'validationSplit'];

function checkCount(owner: string, name: string, value: unknown): void {
  if (Number.isSafeInteger(value) && (value as number) >= 0) return;
  throw new ValueError(
    `${owner} expected \`${name}\` as a whole number of at least 0. Received: ${name}=${show(value)}.`,
  );
}

function checkLoop(owner: string, args: LoopArgs): void {
  const {epochs = 1, initialEpoch = 0, verbose = 0, seed, resumeFrom} = args;
  checkPositiveInteger(owner, 'epochs', epochs);
  checkCount(owner, 'initialEpoch', initialEpoch);
  if (seed !== undefined) checkCount(owner, 'seed', seed);
  if (verbose !== 0 && verbose !== 1) {
    throw new ValueError(`${owner} expected \`verbose\` as 0 or 1. Received: verbose=${show(verbose)}.`);
  }
  if (resumeFrom !== undefined && args.initialEpoch !== undefined) {
    throw new ValueError(`${owner} takes the epoch from \`resumeFrom\`. Leave out \`initialEpoch\`.`);
  }
}

function checkPadTo(owner: string, padTo: unknown): void {
  if (padTo === 'longest' || padTo === 'sequenceLength') return;
  throw new ValueError(`${owner} expected \`padTo\` as "longest" or "sequenceLength". Received: padTo=${show(padTo)}.`);
}

/** @throws ValueError on unknown or unusable options. */
export function checkFit(args: FitArgs): void {
  checkObject('fit', args);
  checkKeys('fit', args, FIT);
  checkLoop('fit', args);
  const {batchSize = 32, shuffle = true, padTo = 'longest', validationSplit = 0, validationData} = args;
  checkPositiveInteger('fit', 'batchSize', batchSize);
  checkArgument('fit', 'shuffle', shuffle, 'flag');
  checkArgument('fit', 'validationSplit', validationSplit, 'rate');
  checkPadTo('fit', padTo);
  if (validationSplit > 0 && validationData !== undefined) {
    throw new ValueError('fit takes validation data from `validationData` or by `validationSplit`. Received both.');
  }
}

/** @throws ValueError on unknown or unusable options. */
export function checkFitDataset(args: FitDatasetArgs): void {
  checkObject('fitDataset', args);
  checkKeys('fitDataset', args, [...LOOP, 'batchesPerEpoch', 'validationData', 'validationBatches']);
  checkLoop('fitDataset', args);
  const {batchesPerEpoch = 1, validationBatches = 1, validationData} = args;
  checkPositiveInteger('fitDataset', 'batchesPerEpoch', batchesPerEpoch);
  checkPositiveInteger('fitDataset', 'validationBatches', validationBatches);
  if (args.validationBatches !== undefined && !isDataset(validationData)) {
    throw new ValueError(
      'fitDataset takes `validationBatches` with a dataset as `validationData`. Received no dataset.',
    );
  }
}

/** @throws ValueError on unknown or unusable options. */
export function checkEvaluate(args: EvaluateArgs): void {
  checkObject('evaluate', args);
  checkKeys('evaluate', args, ['batchSize', 'sampleWeight', 'padTo', 'signal']);
  checkPositiveInteger('evaluate', 'batchSize', args.batchSize ?? 32);
  checkPadTo('evaluate', args.padTo ?? 'longest');
}

/** Whether something is a dataset of tf.data. */
export function isDataset(x: unknown): x is tf.data.Dataset<tf.TensorContainer> {
  return typeof x === 'object' && x !== null && typeof (x as {iterator?: unknown}).iterator === 'function';
}
