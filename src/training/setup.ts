/** The settings of training: the implementation of `compile` of `CausalLM`. */
import type * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {describeValue, ValueError} from '../base/errors';
import * as losses from './losses';
import {type CompiledMetric, compiledMetrics, type MetricLike, type TokenFunction} from './metrics';
import * as optimizers from './optimizers';

export interface TrainingCompileArgs {
  /**
   * "auto", the default, is Adam with a learning rate of 2e-5. "adam", "adamw" and "sgd" have Keras' defaults. Or pass
   * an optimizer.
   */
  optimizer?: optimizers.OptimizerName | tf.Optimizer;
  /**
   * "auto", the default, is sparse categorical cross-entropy of the next token. Any other loss is a `losses.Loss` or a
   * function: labels (B, T) and logits (B, T, V) → the loss of each token, (B, T). It gets the logits of a whole batch,
   * which take B · T · V · 4 bytes several times.
   */
  loss?: 'auto' | 'sparse_categorical_crossentropy' | losses.Loss | TokenFunction;
  /**
   * Metrics in which all positions count equally, padding included, as in Keras: batches then have their full length.
   * Defaults to none. Usually, `weightedMetrics` are what you want.
   */
  metrics?: readonly MetricLike[];
  /**
   * Metrics in which tokens count by their weights. Defaults to none. "auto" is KerasHub's default, the metric
   * "sparse_categorical_accuracy": the weighted fraction of correctly predicted tokens. Metrics compute the logits a
   * second time.
   */
  weightedMetrics?: 'auto' | readonly MetricLike[];
  /**
   * Whether to keep only the input of each decoder block and recompute the rest in the backward pass: this takes about
   * a third more time, needs a fraction of the memory and gives the same gradients. Defaults to false.
   */
  recompute?: boolean;
}
export const TRAINING_COMPILE_ARGS = ['optimizer', 'loss', 'metrics', 'weightedMetrics', 'recompute'] as const;

/** @throws ValueError unless the value is a list. */
function checkList(name: string, value: unknown, alternative = ''): asserts value is readonly unknown[] {
  if (Array.isArray(value)) return;
  throw new ValueError(`Expected \`${name}\` as ${alternative}a list of metrics. Received: ${describeValue(value)}.`);
}

/** The settings of `compile`. */
export interface Compiled {
  optimizer: tf.Optimizer;
  loss: losses.Loss;
  metrics: readonly CompiledMetric[];
  /** See `lossAndGradients`. */
  recompute: boolean;
}

/** The settings of `compile`. They exist before the training code, which is loaded on demand. */
export class TrainingSetup {
  /** Called by `compile`. */
  onCompile: (() => void) | undefined;
  private compiled: Compiled | null = null;
  private ownsOptimizer = false;

  /** @throws ValueError on unusable arguments. In that case nothing has changed. */
  compile(args: TrainingCompileArgs): Compiled {
    const {optimizer = 'auto', loss = 'auto', metrics = [], weightedMetrics = [], recompute = false} = args;
    checkArgument('compile', 'recompute', recompute, 'flag');
    checkList('metrics', metrics);
    const weighted = weightedMetrics === 'auto' ? ['sparse_categorical_accuracy'] : weightedMetrics;
    checkList('weightedMetrics', weighted, '"auto" or as ');
    const named = compiledMetrics(metrics, weighted);
    const compiled = {loss: losses.get(loss), metrics: named, recompute, optimizer: optimizers.get(optimizer)};
    const previous = this.compiled?.optimizer;
    if (previous !== compiled.optimizer) this.disposeOptimizer();
    this.ownsOptimizer = typeof optimizer === 'string';
    this.compiled = compiled;
    this.onCompile?.();
    return compiled;
  }

  get settings(): Compiled {
    return this.compiled ?? this.compile({});
  }

  private disposeOptimizer(): void {
    if (this.ownsOptimizer) this.compiled?.optimizer.dispose();
    this.ownsOptimizer = false;
  }

  dispose(): void {
    this.disposeOptimizer();
    this.compiled = null;
  }
}
