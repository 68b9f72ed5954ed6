/** Options of `fit`, `fitDataset`, `evaluate` and `evaluateDataset`, and their checks. */
import type * as tf from '@tensorflow/tfjs';
import {checkArgument, checkObject, checkPositiveInteger} from '../base/checks';
import {checkKeys, show, ValueError} from '../base/errors';
import {type ClassWeights} from './class_weights';
import {type LabelsLike, type TrainingData} from './examples';

/** The numbers passed to callbacks. */
export type FitLogs = Record<string, number>;

/**
 * Callbacks of this package, such as `new callbacks.EarlyStopping()`, or of tfjs, such as `tf.callbacks.earlyStopping()`, or
 * objects whose properties are functions.
 */
export type FitCallbacks = tf.CustomCallbackArgs | readonly (tf.CustomCallbackArgs | tf.Callback)[] | tf.Callback;

interface LoopArgs {
  /** Epoch at which training ends, counted from 0. Defaults to 1. */
  epochs?: number;
  /** Epoch at which training begins. Defaults to 0. */
  initialEpoch?: number;
  /**
   * Called before and after each batch and epoch. Logs of a batch: `batch`, `size` (rows), `loss`, metrics, `tokens`
   * (those with a weight), `inputTokens` (all tokens that pass through the model, padding included), `step` (over all
   * epochs, from 1), `learningRate` of the step, and `totalSteps` if known. Logs of an epoch: `loss` and metrics; with
   * validation data, also the same names with the prefix `val_`.
   */
  callbacks?: FitCallbacks;
  /** 1 prints one line per epoch. 0, the default, prints nothing. */
  verbose?: 0 | 1;
  /** A whole number that determines the order of rows and the dropout masks. Chosen at random by default. */
  seed?: number;
  /** Stops between two steps: the promise rejects with the signal's reason, and `saveTrainingState` still works. */
  signal?: AbortSignal;
  /**
   * Weights of tokens by the id of the token that should follow: its class. Ids that are not listed have weight 1. Only
   * for labels without weights, so not for text; validation data is not weighted.
   */
  classWeight?: ClassWeights;
  /** Bytes from `saveTrainingState`. Restores weights, optimizer and position, then continues that run. */
  resumeFrom?: Uint8Array;
}

export interface FitArgs extends LoopArgs {
  /** Rows per batch. Defaults to 32. */
  batchSize?: number;
  /** Whether to shuffle the rows before each epoch. Defaults to true. */
  shuffle?: boolean;
  /**
   * "longest", the default: a batch is as long as its longest row, and with `shuffle`, rows of similar length share a
   * batch. "sequenceLength": rows keep their full length, as in Keras. Padding does not change the loss of a batch. With
   * functions as losses or metrics, and with `metrics`, in which padding counts, "sequenceLength" is the default.
   */
  padTo?: 'longest' | 'sequenceLength';
  /**
   * Weights of labels (B, T), or of rows (B). For tensors only: with text, the preprocessor computes the weights.
   * Defaults to ones.
   */
  sampleWeight?: LabelsLike;
  /** Evaluated at the end of each epoch. */
  validationData?: TrainingData;
  /** Fraction of the rows, taken from the end, to use as validation data instead of training on them; in [0, 1). */
  validationSplit?: number;
}

export interface FitDatasetArgs extends LoopArgs {
  /** Elements per epoch. Defaults to the whole dataset. */
  batchesPerEpoch?: number;
  /** Evaluated at the end of each epoch. */
  validationData?: TrainingData | tf.data.Dataset<tf.TensorContainer>;
  /** Elements of the validation dataset to evaluate. Defaults to all. */
  validationBatches?: number;
}

export interface EvaluateArgs {
  /** Rows per batch. Defaults to 32. */
  batchSize?: number;
  /** See {@link FitArgs}. */
  sampleWeight?: LabelsLike;
  /** See {@link FitArgs}. */
  padTo?: 'longest' | 'sequenceLength';
  /** Stops between two batches: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

export interface EvaluateDatasetArgs {
  /** Elements to evaluate. Defaults to all. */
  batches?: number;
  /** Stops between two batches: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

const LOOP = ['epochs', 'initialEpoch', 'callbacks', 'verbose', 'seed', 'signal', 'resumeFrom', 'classWeight'];
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
    throw new ValueError(`${owner} reads the epoch from \`resumeFrom\`. Leave out \`initialEpoch\`.`);
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
    throw new ValueError('fit expected either `validationData` or `validationSplit`. Received both.');
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
      'fitDataset expected a dataset as `validationData` with `validationBatches`. Received no dataset.',
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

/** Whether a value is a tf.data dataset. */
export function isDataset(x: unknown): x is tf.data.Dataset<tf.TensorContainer> {
  return typeof x === 'object' && x !== null && typeof (x as {iterator?: unknown}).iterator === 'function';
}
