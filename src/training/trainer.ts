/** One step of training, one batch of evaluation: what a language model and its optimizer make of a batch. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {embedding} from '../ops/embedding';
import {PackedWeight} from '../weights/packed_weight';
import {type Batch} from './batch';
import {type SparseCategoricalCrossentropy} from './losses';
import {lossAndGradients, runStages, type Stage} from './stages';

/** What training needs of a language model. */
export interface TrainableModel {
  readonly trainableWeights: tf.LayerVariable[];
  /** From inputs by name to hidden states (B, T, D); see `dropout` of `gemma3Stages`. */
  trainingStages(inputs: Record<string, tf.Tensor>, dropout: string | null): Stage[];
  /** What `tokenLosses` and `logits` read. */
  readonly headWeights: readonly tf.LayerVariable[];
  /** Hidden states (N, D) and int32 (N) → −log p of each of these tokens, (N). */
  tokenLosses(hidden: tf.Tensor2D, targets: tf.Tensor1D): tf.Tensor1D;
  /** Hidden states (N, D) → (N, V). */
  logits(hidden: tf.Tensor2D): tf.Tensor2D;
}

export const ACCURACY = 'sparse_categorical_accuracy';

/** What `compile` decided. */
export interface Compiled {
  optimizer: tf.Optimizer;
  loss: SparseCategoricalCrossentropy;
  /** Whether to count how often the likeliest token is the right one. */
  accuracy: boolean;
  /** See `lossAndGradients`. */
  recompute: boolean;
}

export interface BatchResult {
  loss: number;
  /** Sum of the weights of tokens that were foretold rightly; with `accuracy` alone. */
  correct?: number;
}

/** Logits that exist at once when the likeliest token is looked for: 64 MB. */
const LOGITS_AT_ONCE = 1 << 24;

/** @throws ValueError if weights that cannot be trained would be, or none at all. */
export function checkTrainable(weights: readonly tf.LayerVariable[]): void {
  if (weights.length === 0) {
    throw new ValueError('Expected weights to train. Received a model whose weights are all frozen.');
  }
  const packed = weights.filter(weight => weight instanceof PackedWeight);
  if (packed.length === 0) return;
  throw new ValueError(
    `Expected weights that rest as float32 for training. Received: ${packed.length} that rest as ` +
      `${packed[0]!.format}, "${packed[0]!.originalName}" first, which are frozen. Load the model with ` +
      'dtype: "float32" to train it. To train the others alone, set `trainable = false` on these.',
  );
}

/**
 * The loss of a batch as a stage: only tokens with a weight go through the head.
 *
 * @param onHidden is given their hidden states (N, D).
 * @throws ValueError on labels that are no tokens.
 */
function lossStage(
  model: TrainableModel,
  batch: Batch,
  loss: SparseCategoricalCrossentropy,
  vocabulary: number,
  onHidden: (hidden: tf.Tensor2D) => void,
): Stage {
  // A batch without such a token has the loss 0 and gradients of 0: one place stands in, with the weight 0.
  const strange = batch.targets.find(target => target < 0 || target >= vocabulary);
  if (strange !== undefined) {
    throw new ValueError(`Expected labels in [0, ${vocabulary}), the vocabulary of the model. Received: ${strange}.`);
  }
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

/** Sum of the weights of the tokens that are the likeliest ones. hidden: (N, D), some rows at a time. */
function correctWeight(model: TrainableModel, hidden: tf.Tensor2D, batch: Batch, vocabulary: number): tf.Scalar {
  return tf.tidy(() => {
    const count = batch.positions.length;
    const step = Math.max(1, Math.floor(LOGITS_AT_ONCE / vocabulary));
    const sums = Array.from({length: Math.ceil(count / step)}, (_, i) =>
      tf.tidy(() => {
        const [start, end] = [i * step, Math.min(count, (i + 1) * step)];
        const rows = tf.slice(hidden, [start, 0], [end - start, -1]);
        const likeliest = tf.argMax(model.logits(rows), -1);
        const right = tf.equal(likeliest, tf.tensor1d(batch.targets.slice(start, end), 'int32'));
        return tf.sum(tf.mul(tf.cast(right, 'float32'), tf.tensor1d(batch.weights.slice(start, end))));
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
   * Loss and gradients of a batch, then one step of the optimizer.
   *
   * @param dropout seed of what drops out.
   * @param where in the run, for errors.
   * @throws ValueError for a loss that is not finite, before anything has changed.
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
          `Expected a finite loss. Received: ${result.loss} ${where}. The weights are those of before this step. Try a lower ` +
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

  /** Loss of a batch as it stands. */
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

/** Means over batches, as Keras has them: of losses by rows, of right tokens by weights. */
export class Means {
  private sums = {loss: 0, rows: 0, correct: 0, weight: 0};

  constructor(private readonly accuracy: boolean) {}

  add({loss, correct = 0}: BatchResult, {rows, weights}: Pick<Batch, 'rows' | 'weights'>): void {
    this.sums.loss += loss * rows;
    this.sums.rows += rows;
    this.sums.correct += correct;
    this.sums.weight += weights.reduce((sum, weight) => sum + weight, 0);
  }

  /** Numbers by name, with a prefix. */
  logs(prefix = ''): Record<string, number> {
    const {loss, rows, correct, weight} = this.sums;
    const logs = {[`${prefix}loss`]: loss / rows};
    return this.accuracy ? {...logs, [`${prefix}${ACCURACY}`]: weight ? correct / weight : 0} : logs;
  }

  /** What `restore` takes. */
  state(): Record<string, number> {
    return {...this.sums};
  }
  restore(sums: Record<string, number>): void {
    this.sums = {...this.sums, ...sums};
  }
}
