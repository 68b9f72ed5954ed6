/** Loss functions with the names and results of Keras. */
import {checkArguments} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {type Batch} from './batch';

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
 * The negative log probability of the token that should come next, like `keras.losses.SparseCategoricalCrossentropy`
 * with `from_logits=True`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class SparseCategoricalCrossentropy {
  readonly reduction: Reduction;

  constructor(args: LossArgs = {}) {
    checkArguments('SparseCategoricalCrossentropy', args, ['reduction']);
    const {reduction = 'sum_over_batch_size'} = args;
    if (!REDUCTIONS.includes(reduction)) {
      throw new ValueError(
        `SparseCategoricalCrossentropy expected \`reduction\` as one of ${REDUCTIONS.map(show).join(', ')}. ` +
          `Received: reduction=${show(reduction)}.`,
      );
    }
    this.reduction = reduction;
  }

  /** The divisor of a batch's weighted sum; never 0. */
  divisor({size, weights}: Pick<Batch, 'size' | 'weights'>): number {
    if (this.reduction === 'sum') return 1;
    if (this.reduction === 'sum_over_batch_size') return size;
    return weights.reduce((sum, weight) => sum + weight, 0) || 1;
  }
}

/**
 * The loss with this name, or the given loss itself.
 *
 * @throws ValueError on anything else.
 */
export function get(loss: unknown): SparseCategoricalCrossentropy {
  if (loss instanceof SparseCategoricalCrossentropy) return loss;
  if (loss === 'auto' || loss === 'sparse_categorical_crossentropy') return new SparseCategoricalCrossentropy();
  throw new ValueError(
    'Expected `loss` as "auto", "sparse_categorical_crossentropy" or a losses.SparseCategoricalCrossentropy: a language ' +
      `model is trained on the tokens that come next. Received: ${show(loss)}.`,
  );
}
