/** The loop of training: epochs of batches, each a step; then validation; all of it told to callbacks. */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';
import {show, ValueError} from '../base/errors';
import {type Batch} from './batch';
import {type FitCallbacks, type FitLogs} from './fit_options';
import {type BatchSource} from './sources';
import {ACCURACY, type Compiled, Means, type Trainer} from './trainer';
import {type Position} from './training_state';

export interface Run {
  /** What callbacks are given; `stopTraining` ends the run. */
  model: {stopTraining: boolean};
  trainer: Trainer;
  compiled: Compiled;
  source: BatchSource;
  validation: BatchSource | null;
  /** Where to begin; it is moved along with every step. */
  position: Position;
  epochs: number;
  callbacks: FitCallbacks;
  verbose: 0 | 1;
  signal?: AbortSignal;
  batchSize?: number;
}

/** tfjs wraps functions that are given by name. */
function callbackList(callbacks: FitCallbacks): tf.CallbackList {
  const given = [callbacks].flat() as (tf.CustomCallbackArgs | tf.Callback)[];
  return new tf.CallbackList(
    given.map(callback => {
      if (callback instanceof tf.Callback || callback instanceof tf.CustomCallback) return callback;
      if (typeof callback === 'object' && callback !== null) return new tf.CustomCallback(callback);
      throw new ValueError(`Expected \`callbacks\` as tf.Callbacks or functions by name. Received: ${show(callback)}.`);
    }),
  );
}

/** The rate of the next step, where the optimizer tells. */
function rateOf(optimizer: tf.Optimizer): FitLogs {
  const rate = (optimizer as unknown as {learningRate?: unknown}).learningRate;
  return typeof rate === 'number' ? {learningRate: rate} : {};
}

const disposeInputs = (batch: Batch): void => tf.dispose(Object.values(batch.inputs));

/** Means over all batches of a source. */
export async function evaluateSource(
  trainer: Trainer,
  source: BatchSource,
  accuracy: boolean,
  signal?: AbortSignal,
): Promise<Means> {
  const means = new Means(accuracy);
  let batches = 0;
  for await (const batch of source.epoch(0, 0)) {
    try {
      signal?.throwIfAborted();
      means.add(await trainer.evaluate(batch), batch);
    } finally {
      disposeInputs(batch);
    }
    batches += 1;
    await nextTurn();
  }
  if (batches === 0) throw new ValueError('Expected at least one batch to evaluate. Received none.');
  return means;
}

/** The batches of one epoch from where the run is. */
async function trainEpoch(run: Run, means: Means, callbacks: tf.CallbackList): Promise<void> {
  const {trainer, compiled, source, position, signal} = run;
  const total: FitLogs = source.batches === undefined ? {} : {totalSteps: source.batches * run.epochs};
  for await (const batch of source.epoch(position.epoch, position.batch)) {
    try {
      signal?.throwIfAborted();
      const index = position.batch;
      await callbacks.onBatchBegin(index, {batch: index, size: batch.rows});
      const rate = rateOf(compiled.optimizer);
      const {epoch, seed, step} = position;
      const where = `in batch ${index} of epoch ${epoch}, step ${step + 1}`;
      const result = await trainer.trainStep(batch, `${seed}/${step}`, where);
      means.add(result, batch);
      Object.assign(position, {batch: index + 1, step: step + 1, sums: means.state()});
      const weight = batch.weights.reduce((sum, x) => sum + x, 0);
      await callbacks.onBatchEnd(index, {
        ...{batch: index, size: batch.rows, loss: result.loss},
        ...(result.correct !== undefined && {[ACCURACY]: weight ? result.correct / weight : 0}),
        ...{tokens: batch.weights.length, inputTokens: batch.inputs.token_ids!.size},
        ...{step: position.step, ...total, ...rate},
      });
    } finally {
      disposeInputs(batch);
    }
    // Whatever else waits has its turn: pages stay alive, and signals are heard.
    await nextTurn();
    if (run.model.stopTraining) return;
  }
}

/**
 * Trains from the position of the run to its last epoch.
 *
 * @throws ValueError for a loss that is not finite, or if there is no batch; the signal's reason when aborted; what callbacks
 * throw. The position is then that of the last whole step.
 */
export async function fitLoop(run: Run): Promise<tf.History> {
  const {model, trainer, compiled, source, validation, position, signal} = run;
  const callbacks = callbackList(run.callbacks);
  callbacks.setModel(model as never);
  const names = ['loss', ...(compiled.accuracy ? [ACCURACY] : [])];
  callbacks.setParams({
    ...{epochs: run.epochs, initialEpoch: position.epoch, verbose: run.verbose, doValidation: validation !== null},
    ...(run.batchSize !== undefined && {batchSize: run.batchSize}),
    ...(source.batches !== undefined && {steps: source.batches}),
    metrics: [...names, ...(validation ? names.map(name => `val_${name}`) : [])],
  });
  const history = new tf.History();
  await history.onTrainBegin();
  history.history = structuredClone(position.history);
  history.epoch = Array.from({length: position.history.loss?.length ?? 0}, (_, i) => position.epoch + i);
  history.epoch = history.epoch.map(epoch => epoch - history.epoch.length);
  model.stopTraining = false;
  await callbacks.onTrainBegin();
  while (position.epoch < run.epochs && !model.stopTraining) {
    const {epoch} = position;
    await callbacks.onEpochBegin(epoch);
    const means = new Means(compiled.accuracy);
    means.restore(position.sums);
    await trainEpoch(run, means, callbacks);
    if (position.batch === 0) throw new ValueError('Expected at least one batch an epoch. Received none.');
    const held = validation && (await evaluateSource(trainer, validation, compiled.accuracy, signal));
    const logs: FitLogs = {...means.logs(), ...held?.logs('val_')};
    await history.onEpochEnd(epoch, logs);
    const done = structuredClone(history.history) as Record<string, number[]>;
    Object.assign(position, {epoch: epoch + 1, batch: 0, sums: {}, history: done});
    if (run.verbose === 1) {
      const told = Object.entries(logs).map(([name, value]) => `${name}: ${value.toPrecision(5)}`);
      console.info(`Epoch ${epoch + 1}/${run.epochs} ${told.join(' ')}`);
    }
    await callbacks.onEpochEnd(epoch, logs);
  }
  await callbacks.onTrainEnd();
  return history;
}
