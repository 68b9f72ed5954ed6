/** One training step, and the evaluation of one batch. */
import * as tf from '@tensorflow/tfjs';
import {describeValue, ValueError} from '../base/errors';
import {embedding} from '../ops/embedding';
import {WeightSnapshot} from '../weights/in_use';
import {type Batch} from './batch';
import {SparseCategoricalCrossentropy} from './losses';
import {type CompiledMetric, FunctionMetric} from './metrics';
import {type Compiled} from './setup';
import {lossAndGradients, runStages, type Stage} from './stages';
import {type ModelWithHead, tokenLosses} from './token_losses';

/** The part of a language model that training uses. */
export interface TrainableModel extends ModelWithHead {
  readonly trainableWeights: tf.LayerVariable[];
  readonly weights: tf.LayerVariable[];
  /** @throws ValueError if the model was disposed. */
  checkInUse(): void;
  /**
   * The stages from named inputs to hidden states (B, T, D). `dropout` is the seed of dropout, or null to turn it off.
   */
  trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[];
  /** What losses depend on besides data, trained weights and training options. */
  readonly trainingConditions: Record<string, string>;
  /** The weights that `finalStates` and `logits` read. */
  readonly headWeights: readonly tf.LayerVariable[];
}

/** Whether loss or metrics include tokens with weight zero, so that rows must have their full length, as in Keras. */
export const needsWholeRows = ({loss, metrics}: Pick<Compiled, 'loss' | 'metrics'>): boolean =>
  !(loss instanceof SparseCategoricalCrossentropy) ||
  metrics.some(({metric, weighted}) => !weighted || metric instanceof FunctionMetric);

/** The weighted sum of a metric's values, and the sum of their weights. */
export type MetricSums = readonly [sum: number, weight: number];

export interface BatchResult {
  loss: number;
  /** One entry per metric, in order. */
  metrics: readonly MetricSums[];
}

/** Maximum number of logits in memory at once while metrics are computed (64 MB). */
const LOGITS_AT_ONCE = 1 << 24;

/** @throws ValueError on labels outside the vocabulary. */
function checkLabels(labels: ArrayLike<number>, vocabulary: number): void {
  const invalid = Array.prototype.find.call(labels, (label: number) => !(label >= 0 && label < vocabulary)) as unknown;
  if (invalid === undefined) return;
  throw new ValueError(
    `Expected labels in [0, ${vocabulary}), the vocabulary of the model. Received: ${String(invalid)}.`,
  );
}

/** (B, T, D) → (B · T, D) */
const flatRows = (x: tf.Tensor): tf.Tensor2D => tf.reshape(x, [-1, x.shape.at(-1)!]);

/** Hidden states (B, T, D) → logits (B, T, V). */
const wholeLogits = (model: TrainableModel, x: tf.Tensor): tf.Tensor3D =>
  tf.reshape(model.logits(flatRows(x)), [x.shape[0]!, x.shape[1]!, -1]);

/** @throws ValueError unless a function of the user returned one number per token. */
function checkPerToken(what: string, values: unknown, {rows, length}: Batch): asserts values is tf.Tensor {
  if (values instanceof tf.Tensor && values.shape.join() === `${rows},${length}`) return;
  throw new ValueError(
    `Expected ${what} to return one number per token, a tensor of shape [${rows},${length}]. Received: ` +
      `${values instanceof tf.Tensor ? `shape [${values.shape}]` : describeValue(values)}.`,
  );
}

/**
 * The loss of a batch as a stage. With the usual loss, only tokens with a weight go through the head.
 *
 * @param onHidden receives the hidden states of all tokens (B, T, D).
 * @throws ValueError on labels outside the vocabulary.
 */
function lossStage(
  model: TrainableModel,
  batch: Batch,
  {loss, metrics}: Compiled,
  vocabulary: number,
  onHidden: (hidden: tf.Tensor) => void,
): Stage {
  checkLabels(needsWholeRows({loss, metrics}) ? batch.labels : batch.targets, vocabulary);
  // A batch without weighted tokens has a loss of 0 and zero gradients: use one position with weight 0 instead.
  const none = batch.positions.length === 0;
  const positions = none ? [0] : batch.positions;
  const usual = (x: tf.Tensor) => {
    const hidden = embedding(tf.tensor1d(positions, 'int32'), flatRows(x)) as tf.Tensor2D;
    const losses = tokenLosses(model, hidden, tf.tensor1d(none ? [0] : batch.targets, 'int32'));
    return tf.sum(tf.mul(losses, tf.tensor1d(none ? [0] : batch.weights)));
  };
  const custom = (x: tf.Tensor) => {
    const shape: [number, number] = [batch.rows, batch.length];
    const losses: unknown = loss.call(tf.tensor2d(batch.labels, shape, 'int32'), wholeLogits(model, x));
    checkPerToken('the loss', losses, batch);
    return tf.sum(tf.mul(losses, tf.tensor2d(batch.sampleWeights, shape)));
  };
  return {
    weights: model.headWeights,
    call: x => {
      onHidden(x!);
      const sum = loss instanceof SparseCategoricalCrossentropy ? usual(x!) : custom(x!);
      return tf.div(sum, loss.divisor(batch));
    },
  };
}

/**
 * The sums of all metrics on a batch, (number of metrics, 2). `hidden` (B, T, D) is projected to logits a few tokens at
 * a time, and only where tokens count.
 */
function metricSums(
  model: TrainableModel,
  hidden: tf.Tensor,
  batch: Batch,
  metrics: readonly CompiledMetric[],
  vocabulary: number,
): tf.Tensor2D {
  const all = metrics.some(({weighted}) => !weighted);
  const count = all ? batch.labels.length : batch.positions.length;
  const labels = all ? batch.labels : batch.targets;
  const sampleWeights = all ? batch.sampleWeights : batch.weights;
  const step = Math.max(1, Math.floor(LOGITS_AT_ONCE / vocabulary));
  const sumsOf = (values: tf.Tensor, weights: tf.Tensor) =>
    tf.stack([tf.sum(tf.mul(values, weights)), tf.sum(weights)]);
  return tf.tidy(() => {
    const rows = flatRows(hidden);
    let whole: tf.Tensor3D | undefined;
    const ofBatch = ({metric, weighted}: CompiledMetric) => {
      const shape: [number, number] = [batch.rows, batch.length];
      whole ??= wholeLogits(model, hidden);
      const values: unknown = (metric as FunctionMetric).fn(tf.tensor2d(batch.labels, shape, 'int32'), whole);
      checkPerToken(`metric "${metric.name}"`, values, batch);
      return sumsOf(values, weighted ? tf.tensor2d(batch.sampleWeights, shape) : tf.ones(shape));
    };
    const ofPieces = metrics.filter(({metric}) => !(metric instanceof FunctionMetric));
    const sums = new Map<CompiledMetric, tf.Tensor>();
    for (let start = 0; ofPieces.length > 0 && start < count; start += step) {
      const end = Math.min(count, start + step);
      const parts = tf.tidy(() => {
        const piece = all
          ? tf.slice(rows, [start, 0], [end - start, -1])
          : tf.gather(rows, tf.tensor1d(batch.positions.slice(start, end), 'int32'));
        const logits = model.logits(piece as tf.Tensor2D);
        const targets = tf.tensor1d(labels.slice(start, end), 'int32');
        const given = tf.tensor1d(sampleWeights.slice(start, end));
        return ofPieces.map(({metric, weighted}) => {
          const mask = metric.mask(targets);
          const weights = weighted ? given : tf.onesLike(given);
          return sumsOf(metric.call(targets, logits), mask ? tf.mul(weights, mask) : weights);
        });
      });
      ofPieces.forEach((metric, i) =>
        sums.set(metric, sums.has(metric) ? tf.add(sums.get(metric)!, parts[i]!) : parts[i]!),
      );
    }
    const of = (metric: CompiledMetric) =>
      metric.metric instanceof FunctionMetric ? ofBatch(metric) : (sums.get(metric) ?? tf.zeros([2]));
    return tf.stack(metrics.map(of)) as tf.Tensor2D;
  });
}

/** Runs batches through a model. */
export class Trainer {
  constructor(
    private readonly model: TrainableModel,
    private readonly compiled: Compiled,
    private readonly vocabulary: number,
  ) {}

  /**
   * Computes loss and gradients of a batch, then applies one step of the optimizer.
   *
   * @param dropout seed of dropout.
   * @param where position in the run, for errors.
   * @throws ValueError for a loss that is not finite. In that case nothing has changed.
   */
  async trainStep(batch: Batch, dropout: string, where: string): Promise<BatchResult> {
    const {model, compiled} = this;
    model.checkInUse();
    const states = new KeptStates(compiled);
    const last = lossStage(model, batch, compiled, this.vocabulary, states.keep);
    let loss: tf.Scalar | undefined;
    let gradients = new Map<tf.LayerVariable, tf.Tensor>();
    try {
      ({loss, gradients} = lossAndGradients(
        [...model.trainingStages(batch.inputs, dropout), last],
        compiled.recompute,
      ));
      const result = await this.read(loss, states.hidden, batch);
      if (!Number.isFinite(result.loss)) {
        throw new ValueError(
          `Expected a finite loss. Received: ${result.loss} ${where}. This step has not changed the weights. Try a lower ` +
            'learning rate, or an optimizer with `globalClipNorm`.',
        );
      }
      // It may have been disposed while the loss was read.
      model.checkInUse();
      const zeros: tf.Tensor[] = [];
      const named = model.trainableWeights.map(weight => {
        const variable = weight.read();
        let tensor = gradients.get(weight);
        if (!tensor) zeros.push((tensor = tf.zerosLike(variable)));
        return {name: (variable as tf.Variable).name, tensor};
      });
      compiled.optimizer.applyGradients(named);
      tf.dispose(zeros);
      return result;
    } finally {
      tf.dispose([...(loss ? [loss] : []), ...gradients.values()]);
      states.dispose();
    }
  }

  /** Remembers the weights, to notice when they change. */
  snapshot(): WeightSnapshot {
    return new WeightSnapshot(() => this.model.weights);
  }

  /** The loss of a batch, without dropout and without changing anything. */
  async evaluate(batch: Batch): Promise<BatchResult> {
    const {model, compiled} = this;
    model.checkInUse();
    const states = new KeptStates(compiled);
    const last = lossStage(model, batch, compiled, this.vocabulary, states.keep);
    let loss: tf.Scalar | undefined;
    try {
      loss = runStages([...model.trainingStages(batch.inputs, null), last], null) as tf.Scalar;
      return await this.read(loss, states.hidden, batch);
    } finally {
      loss?.dispose();
      states.dispose();
    }
  }

  private async read(loss: tf.Scalar, hidden: tf.Tensor | undefined, batch: Batch): Promise<BatchResult> {
    const value = (await loss.data())[0]!;
    if (!hidden) return {loss: value, metrics: []};
    const sums = metricSums(this.model, hidden, batch, this.compiled.metrics, this.vocabulary);
    const flat = await sums.data();
    sums.dispose();
    return {loss: value, metrics: this.compiled.metrics.map((_, i) => [flat[2 * i]!, flat[2 * i + 1]!])};
  }
}

/** Keeps the hidden states of a batch until its metrics are computed. */
class KeptStates {
  hidden: tf.Tensor | undefined;
  constructor(private readonly compiled: Compiled) {}

  readonly keep = (hidden: tf.Tensor): void => {
    if (this.compiled.metrics.length > 0) this.hidden ??= tf.keep(hidden.clone());
  };

  dispose(): void {
    this.hidden?.dispose();
    this.hidden = undefined;
  }
}

/** The metrics of one batch by name. */
export const batchLogs = ({metrics: sums}: BatchResult, metrics: readonly CompiledMetric[]): Record<string, number> =>
  Object.fromEntries(metrics.map(({name, metric}, i) => [name, metric.result(...sums[i]!)]));

/** Means over batches, as Keras computes them: the loss is weighted by the rows of each batch. */
export class Means {
  private sums: Record<string, number> = {loss: 0, rows: 0};

  constructor(private readonly metrics: readonly CompiledMetric[]) {}

  add({loss, metrics}: BatchResult, {rows}: Pick<Batch, 'rows'>): void {
    const add = (key: string, value: number) => {
      this.sums[key] = (this.sums[key] ?? 0) + value;
    };
    add('loss', loss * rows);
    add('rows', rows);
    this.metrics.forEach(({name}, i) => {
      add(`${name}/sum`, metrics[i]![0]);
      add(`${name}/weight`, metrics[i]![1]);
    });
  }

  /** The means by name, each with a prefix. */
  logs(prefix = ''): Record<string, number> {
    const {sums} = this;
    const logs: Record<string, number> = {[`${prefix}loss`]: sums.loss! / sums.rows!};
    for (const {name, metric} of this.metrics) {
      logs[`${prefix}${name}`] = metric.result(sums[`${name}/sum`] ?? 0, sums[`${name}/weight`] ?? 0);
    }
    return logs;
  }

  /** The sums so far, for `restore`. */
  state(): Record<string, number> {
    return {...this.sums};
  }
  restore(sums: Record<string, number>): void {
    this.sums = {...this.sums, ...sums};
  }
}
