/** Metrics with the names and results of Keras and KerasHub, over the logits of a language model. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument, checkArguments} from '../base/checks';
import {describeValue, show, ValueError} from '../base/errors';
import {tokenLoss} from '../ops/token_loss';

/** Arguments of every metric. */
export interface MetricArgs {
  /** Name in logs. Defaults to that of Keras. */
  name?: string;
}

/** One number per token, averaged over the tokens of all batches of an epoch. */
export abstract class Metric {
  constructor(readonly name: string) {
    checkArgument('A metric', 'name', name, 'text');
  }

  /**
   * The value of each token, (N).
   *
   * @param yTrue the token that should come next, int32 (N). @param yPred logits (N, V).
   */
  abstract call(yTrue: tf.Tensor1D, yPred: tf.Tensor2D): tf.Tensor;

  /** Which tokens count: 1 or 0 for each, (N). By default all. */
  mask(yTrue: tf.Tensor1D): tf.Tensor | null {
    void yTrue;
    return null;
  }

  /** The metric, from the weighted sum of the values and the sum of the weights. */
  result(sum: number, weight: number): number {
    return weight === 0 ? 0 : sum / weight;
  }
}

/** The fraction of tokens with the highest logit, as `keras.metrics.SparseCategoricalAccuracy`. */
export class SparseCategoricalAccuracy extends Metric {
  constructor(args: MetricArgs = {}) {
    checkArguments('SparseCategoricalAccuracy', args, ['name']);
    super(args.name ?? 'sparse_categorical_accuracy');
  }
  override call(yTrue: tf.Tensor1D, yPred: tf.Tensor2D): tf.Tensor {
    return tf.tidy(() => tf.cast(tf.equal(tf.argMax(yPred, -1), yTrue), 'float32'));
  }
}

/** Arguments of {@link SparseTopKCategoricalAccuracy}. */
export interface TopKArgs extends MetricArgs {
  /** Defaults to 5. */
  k?: number;
}

/** The fraction of tokens among the `k` highest logits, as `keras.metrics.SparseTopKCategoricalAccuracy`. */
export class SparseTopKCategoricalAccuracy extends Metric {
  readonly k: number;
  constructor(args: TopKArgs = {}) {
    checkArguments('SparseTopKCategoricalAccuracy', args, ['name', 'k']);
    super(args.name ?? 'sparse_top_k_categorical_accuracy');
    this.k = args.k ?? 5;
    checkArgument('SparseTopKCategoricalAccuracy', 'k', this.k, 'size');
  }
  override call(yTrue: tf.Tensor1D, yPred: tf.Tensor2D): tf.Tensor {
    return tf.tidy(() => {
      const places = tf.stack([tf.range(0, yTrue.shape[0], 1, 'int32'), yTrue], 1);
      const own = tf.expandDims(tf.gatherND(yPred, places), 1);
      const higher = tf.sum(tf.cast(tf.greater(yPred, own), 'float32'), 1);
      return tf.cast(tf.less(higher, this.k), 'float32');
    });
  }
}

/** −log p of the right token, as `keras.metrics.SparseCategoricalCrossentropy` with `from_logits=True`. */
export class SparseCategoricalCrossentropy extends Metric {
  constructor(args: MetricArgs = {}) {
    checkArguments('SparseCategoricalCrossentropy', args, ['name']);
    super(args.name ?? 'sparse_categorical_crossentropy');
  }
  override call(yTrue: tf.Tensor1D, yPred: tf.Tensor2D): tf.Tensor {
    return tokenLoss(yPred, yTrue);
  }
}

/** Arguments of {@link Perplexity}. */
export interface PerplexityArgs extends MetricArgs {
  /** A token that does not count, such as the one for padding. Null, the default: all count. */
  maskTokenId?: number | null;
}

/** The exponential of the mean −log p of the right token, as `keras_hub.metrics.Perplexity` with `from_logits=True`. */
export class Perplexity extends Metric {
  readonly maskTokenId: number | null;
  constructor(args: PerplexityArgs = {}) {
    checkArguments('Perplexity', args, ['name', 'maskTokenId']);
    super(args.name ?? 'perplexity');
    this.maskTokenId = args.maskTokenId ?? null;
    if (this.maskTokenId !== null && !Number.isSafeInteger(this.maskTokenId)) {
      throw new ValueError(`Perplexity expected \`maskTokenId\` as a token id or null. Received: ${show(args)}.`);
    }
  }
  override call(yTrue: tf.Tensor1D, yPred: tf.Tensor2D): tf.Tensor {
    return tokenLoss(yPred, yTrue);
  }
  override mask(yTrue: tf.Tensor1D): tf.Tensor | null {
    const {maskTokenId} = this;
    return maskTokenId === null ? null : tf.tidy(() => tf.cast(tf.notEqual(yTrue, maskTokenId), 'float32'));
  }
  override result(sum: number, weight: number): number {
    return weight === 0 ? 0 : Math.exp(sum / weight);
  }
}

/** Labels (B, T), int32, and logits (B, T, V) → one number per token, (B, T). Its name is that of the metric. */
export type TokenFunction = (yTrue: tf.Tensor2D, yPred: tf.Tensor3D) => tf.Tensor;

/** A function as a metric. It gets a whole batch, (B, T) and (B, T, V). */
export class FunctionMetric extends Metric {
  constructor(readonly fn: TokenFunction) {
    super(fn.name);
    if (fn.name === '') throw new ValueError('Expected a metric as a function with a name. Received one without.');
  }
  override call(): tf.Tensor {
    throw new ValueError(`Metric "${this.name}" is computed from whole batches.`);
  }
}

const NAMED: Record<string, () => Metric> = {
  accuracy: () => new SparseCategoricalAccuracy({name: 'accuracy'}),
  acc: () => new SparseCategoricalAccuracy({name: 'acc'}),
  sparse_categorical_accuracy: () => new SparseCategoricalAccuracy(),
  sparse_top_k_categorical_accuracy: () => new SparseTopKCategoricalAccuracy(),
  sparse_categorical_crossentropy: () => new SparseCategoricalCrossentropy(),
  perplexity: () => new Perplexity(),
};

/** Names of metrics, as in Keras; "perplexity" is KerasHub's. */
export type MetricName =
  | 'accuracy'
  | 'acc'
  | 'sparse_categorical_accuracy'
  | 'sparse_top_k_categorical_accuracy'
  | 'sparse_categorical_crossentropy'
  | 'perplexity';

/** A metric, its name, or a function. */
export type MetricLike = MetricName | Metric | TokenFunction;

/**
 * The metric with this name, of this function, or the given metric itself.
 *
 * @throws ValueError on anything else.
 */
export function get(metric: unknown): Metric {
  if (metric instanceof Metric) return metric;
  if (typeof metric === 'function') return new FunctionMetric(metric as TokenFunction);
  if (typeof metric === 'string' && Object.hasOwn(NAMED, metric)) return NAMED[metric]!();
  throw new ValueError(
    `Expected a metric as one of ${Object.keys(NAMED).map(show).join(', ')}, as an object of \`metrics\`, or as a ` +
      `function (yTrue, yPred). Received: ${describeValue(metric)}.`,
  );
}

/** A metric of a compiled model. */
export interface CompiledMetric {
  metric: Metric;
  /** Name in logs. */
  name: string;
  /** Whether the sample weights count. Without them, all positions count equally, padding included, as in Keras. */
  weighted: boolean;
}

/** The metrics of `compile`, with the names that Keras gives them where two have the same one. */
export function compiledMetrics(plain: readonly unknown[], weighted: readonly unknown[]): CompiledMetric[] {
  const counts = new Map<string, number>();
  const unique = (name: string) => {
    const count = counts.get(name) ?? 0;
    counts.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  };
  return [
    ...plain.map(like => {
      const metric = get(like);
      return {metric, name: unique(metric.name), weighted: false};
    }),
    ...weighted.map(like => {
      const metric = get(like);
      return {metric, name: unique(counts.has(metric.name) ? `weighted_${metric.name}` : metric.name), weighted: true};
    }),
  ];
}
