/** Arguments of `TextEmbedder.compile`: names of Keras and of tfjs, and their checks. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, didYouMean, show, ValueError} from '../base/errors';

/** Names of losses in Keras and in tfjs. */
const KERAS_LOSSES = {
  mse: 'meanSquaredError',
  mae: 'meanAbsoluteError',
  mape: 'meanAbsolutePercentageError',
  msle: 'meanSquaredLogarithmicError',
  mean_squared_error: 'meanSquaredError',
  mean_absolute_error: 'meanAbsoluteError',
  mean_absolute_percentage_error: 'meanAbsolutePercentageError',
  mean_squared_logarithmic_error: 'meanSquaredLogarithmicError',
  cosine_similarity: 'cosineProximity',
  binary_crossentropy: 'binaryCrossentropy',
  categorical_crossentropy: 'categoricalCrossentropy',
  sparse_categorical_crossentropy: 'sparseCategoricalCrossentropy',
  kl_divergence: 'kullbackLeiblerDivergence',
  log_cosh: 'logcosh',
  categorical_hinge: 'categoricalHinge',
  hinge: 'hinge',
  squared_hinge: 'squaredHinge',
  poisson: 'poisson',
} as const;

const OPTIMIZERS = ['auto', 'adagrad', 'adadelta', 'adam', 'adamax', 'rmsprop', 'sgd'] as const;

/** A loss of embedders by its name in Keras or in tfjs. */
export type EmbedderLossName = keyof typeof KERAS_LOSSES | (typeof KERAS_LOSSES)[keyof typeof KERAS_LOSSES];

/** A loss as a function of targets and embeddings, both with one row per text. */
export type EmbedderLossFunction = (yTrue: tf.Tensor, yPred: tf.Tensor) => tf.Tensor;

/** One value, or one for each output, in their order or by name. */
type ForOutputs<T> = T | T[] | {[outputName: string]: T};

/** An optimizer by its name, with tfjs' defaults; "auto" is Adam with a learning rate of 5e-5. */
export type EmbedderOptimizerName = (typeof OPTIMIZERS)[number];

/** Arguments of {@link TextEmbedder.compile}. */
export interface TextEmbedderCompileArgs {
  /** Defaults to "auto". */
  optimizer?: EmbedderOptimizerName | tf.Optimizer;
  /** Required: one loss, or one for each output. */
  loss: ForOutputs<EmbedderLossName> | ForOutputs<EmbedderLossFunction>;
  /** Names or functions of metrics, as in tfjs. */
  metrics?: tf.ModelCompileArgs['metrics'];
}

const quoted = (names: readonly string[]) => names.map(show).join(', ');

function tfjsLoss(loss: unknown): unknown {
  if (Array.isArray(loss)) return loss.map(tfjsLoss);
  if (typeof loss === 'object' && loss !== null) {
    return Object.fromEntries(Object.entries(loss).map(([name, one]) => [name, tfjsLoss(one)]));
  }
  const names: Readonly<Record<string, string>> = KERAS_LOSSES;
  if (typeof loss === 'function') return loss;
  if (typeof loss === 'string' && Object.hasOwn(names, loss)) return names[loss];
  if (typeof loss === 'string' && Object.values(names).includes(loss)) return loss;
  throw new ValueError(
    `Expected \`loss\` of an embedder as a function (yTrue, yPred) or as one of ${quoted(Object.keys(names))}. ` +
      `Received: ${show(loss)}.${typeof loss === 'string' ? didYouMean([loss], Object.keys(names)) : ''}`,
  );
}

/**
 * The arguments as tfjs takes them. Its own optimizer, for "auto", is new.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export function tfjsCompileArgs(args: TextEmbedderCompileArgs): tf.ModelCompileArgs {
  checkKeys('compile', args, ['optimizer', 'loss', 'metrics']);
  const {optimizer = 'auto', ...rest} = args;
  const known = typeof optimizer === 'string' && OPTIMIZERS.includes(optimizer.toLowerCase() as EmbedderOptimizerName);
  if (!known && !(optimizer instanceof tf.Optimizer)) {
    throw new ValueError(
      `Expected \`optimizer\` of an embedder as a tf.Optimizer or as one of ${quoted(OPTIMIZERS)}. ` +
        `Received: ${show(optimizer)}.${typeof optimizer === 'string' ? didYouMean([optimizer], OPTIMIZERS) : ''}`,
    );
  }
  return {
    ...rest,
    loss: tfjsLoss(args.loss) as tf.ModelCompileArgs['loss'],
    optimizer: optimizer === 'auto' ? tf.train.adam(5e-5) : optimizer,
  };
}
