/** One training step, and the evaluation of one batch. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {embedding} from '../ops/embedding';
import {type Batch} from './batch';
import {type SparseCategoricalCrossentropy} from './losses';
import {lossAndGradients, runStages, type Stage} from './stages';

/** The part of a language model that training uses. */
export interface TrainableModel {
  readonly trainableWeights: tf.LayerVariable[];
  /**
   * The stages from named inputs to hidden states (B, T, D). `dropout` is the seed of dropout, or null to turn it off.
   */
  trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[];
  /** The weights that `tokenLosses` and `logits` read. */
  readonly headWeights: readonly tf.LayerVariable[];
  /** Hidden states (N, D) and target tokens (N), int32 → −log p of each target, (N). */
  tokenLosses(hidden: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D;
  /** Hidden states (N, D) → (N, V). */
  logits(hidden: tf.Tensor2D): tf.Tensor2D;
}

export const ACCURACY = 'sparse_categorical_accuracy';

/** The settings of `compile`. */
export interface Compiled {
  optimizer: tf.Optimizer;
  loss: SparseCategoricalCrossentropy;
  /** Whether to count correctly predicted tokens. */
  accuracy: boolean;
  /** See `lossAndGradients`. */
  recompute: boolean;
}

export interface BatchResult {
  loss: number;
  /** Sum of the weights of correctly predicted tokens. Only with `accuracy`. */
  correct?: number;
}

/** Maximum number of logits in memory at once while predictions are compared with targets (64 MB). */
const LOGITS_AT_ONCE = 1 << 24;

/**
 * The loss of a batch as a stage. Only tokens with a weight go through the head.
 *
 * @param onHidden receives the hidden states of these tokens (N, D).
 * @throws ValueError on labels outside the vocabulary.
 */
function lossStage(
  model: TrainableModel,
  batch: Batch,
  loss: SparseCategoricalCrossentropy,
  vocabulary: number,
  onHidden: (hidden: tf.Tensor2D) => void,
): Stage {
  const invalid = batch.targets.find(target => target < 0 || target >= vocabulary);
  if (invalid !== undefined) {
    throw new ValueError(`Expected labels in [0, ${vocabulary}), the vocabulary of the model. Received: ${invalid}.`);
  }
  // A batch without weighted tokens has a loss of 0 and zero gradients: use one position with weight 0 instead.
  const none = batch.positions.length === 0;
  const positions = none ? [0] : batch.positions;
  return {
    weights: model.headWeights,
    call: x => {
      const width = x!.shape.at(-1)!;
      const hidden = embedding(tf.tensor1d(positions, 'int32'), tf.reshape(x!, [-1, width])) as tf.Tensor2D;
      onHidden(hidden);
      const losses = model.tokenLosses(hidden, tf.tensor1d(none ? [0] : batch.targets, 'int32'));
      const weights = tf.tensor1d(none ? [0] : batch.weights);
      return tf.div(tf.sum(tf.mul(losses, weights)), loss.divisor(batch));
    },
  };
}

/** Sum of the weights of correctly predicted tokens. `hidden` (N, D) is processed in slices of rows. */
function correctWeight(model: TrainableModel, hidden: tf.Tensor2D, batch: Batch, vocabulary: number): tf.Scalar {
  return tf.tidy(() => {
    const count = batch.positions.length;
    const step = Math.max(1, Math.floor(LOGITS_AT_ONCE / vocabulary));
    const sums = Array.from({length: Math.ceil(count / step)}, (_, i) =>
      tf.tidy(() => {
        const [start, end] = [i * step, Math.min(count, (i + 1) * step)];
        const rows = tf.slice(hidden, [start, 0], [end - start, -1]);
        const predicted = tf.argMax(model.logits(rows), -1);
        const correct = tf.equal(predicted, tf.tensor1d(batch.targets.slice(start, end), 'int32'));
        return tf.sum(tf.mul(tf.cast(correct, 'float32'), tf.tensor1d(batch.weights.slice(start, end))));
      }),
    );
    return (sums.length ? tf.addN(sums) : tf.scalar(0)) as tf.Scalar;
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
    let hidden: tf.Tensor2D | undefined;
    const last = lossStage(model, batch, compiled.loss, this.vocabulary, rows => {
      if (compiled.accuracy) hidden = tf.keep(rows.clone());
    });
    const {loss, gradients} = lossAndGradients(
      [...model.trainingStages(batch.inputs, dropout), last],
      compiled.recompute,
    );
    try {
      const result = await this.read(loss, hidden, batch);
      if (!Number.isFinite(result.loss)) {
        throw new ValueError(
          `Expected a finite loss. Received: ${result.loss} ${where}. This step has not changed the weights. Try a lower ` +
            'learning rate, or an optimizer with `globalClipNorm`.',
        );
      }
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
      tf.dispose([loss, ...gradients.values()]);
      hidden?.dispose();
    }
  }

  /** The loss of a batch, without dropout and without changing anything. */
  async evaluate(batch: Batch): Promise<BatchResult> {
    const {model, compiled} = this;
    let hidden: tf.Tensor2D | undefined;
    const last = lossStage(model, batch, compiled.loss, this.vocabulary, rows => {
      if (compiled.accuracy) hidden = tf.keep(rows.clone());
    });
    const loss = runStages([...model.trainingStages(batch.inputs, null), last], null) as tf.Scalar;
    try {
      return await this.read(loss, hidden, batch);
    } finally {
      loss.dispose();
      hidden?.dispose();
    }
  }

  private async read(loss: tf.Scalar, hidden: tf.Tensor2D | undefined, batch: Batch): Promise<BatchResult> {
    const value = (await loss.data())[0]!;
    if (!hidden) return {loss: value};
    const correct = correctWeight(this.model, hidden, batch, this.vocabulary);
    const result = {loss: value, correct: (await correct.data())[0]!};
    correct.dispose();
    return result;
  }
}

/**
 * Means over batches, as Keras computes them: the loss is weighted by the rows of each batch, the accuracy by the
 * weights of the tokens.
 */
export class Means {
  private sums = {loss: 0, rows: 0, correct: 0, weight: 0};

  constructor(private readonly accuracy: boolean) {}

  add({loss, correct = 0}: BatchResult, {rows, weights}: Pick<Batch, 'rows' | 'weights'>): void {
    this.sums.loss += loss * rows;
    this.sums.rows += rows;
    this.sums.correct += correct;
    this.sums.weight += weights.reduce((sum, weight) => sum + weight, 0);
  }

  /** The means by name, each with a prefix. */
  logs(prefix = ''): Record<string, number> {
    const {loss, rows, correct, weight} = this.sums;
    const logs = {[`${prefix}loss`]: loss / rows};
    return this.accuracy ? {...logs, [`${prefix}${ACCURACY}`]: weight ? correct / weight : 0} : logs;
  }

  /** The sums so far, for `restore`. */
  state(): Record<string, number> {
    return {...this.sums};
  }
  restore(sums: Record<string, number>): void {
    this.sums = {...this.sums, ...sums};
  }
}
