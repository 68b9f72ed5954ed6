/** The training loop: one step per batch, validation after each epoch, and callbacks around both. */
import * as tf from '@tensorflow/tfjs';
import {nextTurn} from '#platform/turn';
import {show, ValueError} from '../base/errors';
import {type Batch} from './batch';
import {RateCallback, rateLog} from './callbacks/rate_callback';
import {withoutFrames} from './callbacks/without_frames';
import {type FitCallbacks, type FitLogs} from './fit_options';
import {type Compiled} from './setup';
import {type BatchSource} from './sources';
import {type CompiledMetric} from './metrics';
import {batchLogs, Means, type Trainer} from './trainer';
import {type Position} from './training_state';

/** The type of model that tfjs passes to callbacks, which can end the run by setting `stopTraining`. */
export type CallbackModel = Parameters<tf.CallbackList['setModel']>[0] & {stopTraining: boolean};

export interface Run {
  /** Passed to callbacks. */
  model: CallbackModel;
  trainer: Trainer;
  compiled: Compiled;
  source: BatchSource;
  validation: BatchSource | null;
  /** The position to start from. Updated after every step. */
  position: Position;
  epochs: number;
  callbacks: FitCallbacks;
  verbose: 0 | 1;
  signal?: AbortSignal;
  batchSize?: number;
}

/** Objects whose properties are functions become tf.CustomCallbacks, as in the `fit` of tfjs. */
function listOf(callbacks: FitCallbacks): (tf.Callback | tf.CustomCallback)[] {
  const list = [callbacks].flat() as (tf.CustomCallbackArgs | tf.Callback)[];
  return list.map(callback => {
    if (callback instanceof tf.Callback || callback instanceof tf.CustomCallback) return callback;
    if (typeof callback === 'object' && callback !== null) return new tf.CustomCallback(withoutFrames(callback));
    throw new ValueError(`Expected \`callbacks\` as tf.Callbacks or functions by name. Received: ${show(callback)}.`);
  });
}

/** The learning rate of the next step, if the optimizer exposes it. */
function rateOf(optimizer: tf.Optimizer): FitLogs {
  const {learningRate: rate} = optimizer as tf.Optimizer & {learningRate?: unknown};
  return typeof rate === 'number' ? {learningRate: rate} : {};
}

const disposeInputs = (batch: Batch): void => tf.dispose(Object.values(batch.inputs));

/** Loss and metrics over all batches of a source. */
export async function evaluateSource(
  trainer: Trainer,
  source: BatchSource,
  metrics: readonly CompiledMetric[],
  signal?: AbortSignal,
): Promise<Means> {
  const means = new Means(metrics);
  const snapshot = trainer.snapshot();
  let batches = 0;
  for await (const batch of source.epoch(0, 0)) {
    try {
      signal?.throwIfAborted();
      means.add(await trainer.evaluate(batch), batch);
      snapshot.check('an evaluation');
    } finally {
      disposeInputs(batch);
    }
    batches += 1;
    await nextTurn();
  }
  if (batches === 0) throw new ValueError('Expected at least one batch to evaluate. Received none.');
  return means;
}

/** Trains on the remaining batches of the current epoch. */
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
      await callbacks.onBatchEnd(index, {
        ...{batch: index, size: batch.rows, loss: result.loss},
        ...batchLogs(result, compiled.metrics),
        ...{tokens: batch.weights.length, inputTokens: batch.inputs.token_ids!.size},
        ...{step: position.step, ...total, ...rate},
      });
    } finally {
      disposeInputs(batch);
    }
    // Yield to the event loop, so that pages stay responsive and signals are delivered.
    await nextTurn();
    if (run.model.stopTraining) return;
  }
}

/**
 * Trains from the run's position to its last epoch.
 *
 * @throws ValueError for a loss that is not finite, or if there is no batch; the signal's reason when aborted; errors
 * from callbacks. After an error the position is that of the last complete step.
 */
export async function fitLoop(run: Run): Promise<tf.History> {
  const {model, trainer, compiled, source, validation, position, signal} = run;
  const list = listOf(run.callbacks);
  const callbacks = new tf.CallbackList(list);
  callbacks.setModel(model);
  const names = ['loss', ...compiled.metrics.map(({name}) => name)];
  callbacks.setParams({
    ...{epochs: run.epochs, initialEpoch: position.epoch, verbose: run.verbose, doValidation: validation !== null},
    ...(run.batchSize !== undefined && {batchSize: run.batchSize}),
    ...(source.batches !== undefined && {steps: source.batches}),
    metrics: [...names, ...(validation ? names.map(name => `val_${name}`) : [])],
  });
  const history = new tf.History();
  await history.onTrainBegin();
  history.history = structuredClone(position.history);
  const past = position.history.loss?.length ?? 0;
  history.epoch = Array.from({length: past}, (_, i) => position.epoch - past + i);
  model.stopTraining = false;
  await callbacks.onTrainBegin();
  while (position.epoch < run.epochs && !model.stopTraining) {
    const {epoch} = position;
    await callbacks.onEpochBegin(epoch);
    const means = new Means(compiled.metrics);
    means.restore(position.sums);
    await trainEpoch(run, means, callbacks);
    if (position.batch === 0) throw new ValueError('Expected at least one batch per epoch. Received none.');
    const validated = validation && (await evaluateSource(trainer, validation, compiled.metrics, signal));
    const logs: FitLogs = {...means.logs(), ...validated?.logs('val_')};
    // Keras adds the rate to the logs in these callbacks, before it appends them to the history.
    if (list.some(callback => callback instanceof RateCallback)) Object.assign(logs, rateLog(compiled.optimizer));
    await history.onEpochEnd(epoch, logs);
    const completed = structuredClone(history.history) as Record<string, number[]>;
    Object.assign(position, {epoch: epoch + 1, batch: 0, sums: {}, history: completed});
    if (run.verbose === 1) {
      const numbers = Object.entries(logs).map(([name, value]) => `${name}: ${value.toPrecision(5)}`);
      console.info(`Epoch ${epoch + 1}/${run.epochs} ${numbers.join(' ')}`);
    }
    await callbacks.onEpochEnd(epoch, logs);
  }
  await callbacks.onTrainEnd();
  return history;
}
