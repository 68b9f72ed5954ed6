/** Loss functions with the names and results of Keras. */
import type * as tf from '@tensorflow/tfjs';
import {checkArguments} from '../base/checks';
import {describeValue, show, ValueError} from '../base/errors';
import {tokenLoss} from '../ops/token_loss';
import {type Batch} from './batch';
import {type TokenFunction} from './metrics';

const REDUCTIONS = ['sum_over_batch_size', 'mean_with_sample_weight', 'sum'] as const;

/**
 * How the weighted losses of all tokens become one number. "sum_over_batch_size": their sum divided by the number of
 * positions, padding included. "mean_with_sample_weight": their sum divided by the sum of the weights, so that padding
 * does not count. "sum": their sum.
 */
export type Reduction = (typeof REDUCTIONS)[number];

export interface LossArgs {
  /** Defaults to "sum_over_batch_size", as in Keras. */
  reduction?: Reduction;
}

/**
 * The base class of losses, like `keras.losses.Loss`. A subclass computes the loss of each token in `call`. It gets the
 * logits of a whole batch; only {@link SparseCategoricalCrossentropy} does without them.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export abstract class Loss {
  readonly reduction: Reduction;

  constructor(args: LossArgs = {}) {
    const owner = new.target.name;
    checkArguments(owner, args, ['reduction']);
    const {reduction = 'sum_over_batch_size'} = args;
    if (!REDUCTIONS.includes(reduction)) {
      throw new ValueError(
        `${owner} expected \`reduction\` as one of ${REDUCTIONS.map(show).join(', ')}. ` +
          `Received: reduction=${show(reduction)}.`,
      );
    }
    this.reduction = reduction;
  }

  /** Labels (B, T), int32, and logits (B, T, V) → the loss of each token, (B, T), with a gradient for the logits. */
  abstract call(yTrue: tf.Tensor, yPred: tf.Tensor): tf.Tensor;

  /** The divisor of a batch's weighted sum; never 0. */
  divisor({size, weights}: Pick<Batch, 'size' | 'weights'>): number {
    if (this.reduction === 'sum') return 1;
    if (this.reduction === 'sum_over_batch_size') return size;
    return weights.reduce((sum, weight) => sum + weight, 0) || 1;
  }
}

/**
 * The negative log probability of the token that should come next, like `keras.losses.SparseCategoricalCrossentropy`
 * with `from_logits=True`. In training, the logits of a batch are never held as a whole.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class SparseCategoricalCrossentropy extends Loss {
  override call(yTrue: tf.Tensor, yPred: tf.Tensor): tf.Tensor {
    return tokenLoss(yPred, yTrue);
  }
}

class FunctionLoss extends Loss {
  constructor(private readonly fn: TokenFunction) {
    super();
  }
  override call(yTrue: tf.Tensor, yPred: tf.Tensor): tf.Tensor {
    return this.fn(yTrue as tf.Tensor2D, yPred as tf.Tensor3D);
  }
}

/**
 * The loss with this name, of this function, or the given loss itself.
 *
 * @throws ValueError on anything else.
 */
export function get(loss: unknown): Loss {
  if (loss instanceof Loss) return loss;
  if (typeof loss === 'function') return new FunctionLoss(loss as TokenFunction);
  if (loss === 'auto' || loss === 'sparse_categorical_crossentropy') return new SparseCategoricalCrossentropy();
  throw new ValueError(
    'Expected `loss` as "auto", "sparse_categorical_crossentropy", a losses.Loss, or a function (yTrue, yPred) of the ' +
      `tokens that come next and of the logits. Received: ${describeValue(loss)}.`,
  );
}
