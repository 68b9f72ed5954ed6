/** Draws from a fixed number of most probable tokens. */
import type * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../base/errors';
import {logWeight, topIndices} from '../../ops/row_numbers';
import {bestTokens} from './best_tokens';
import {
  checkedLargest,
  checkedSamplerArgs,
  type ChoiceOnDevice,
  RandomizedSampler,
  SEEDED_KEYS,
  type SeededArgs,
} from './sampler';

/** Arguments of {@link TopKSampler}. */
export interface TopKSamplerArgs extends SeededArgs {
  /** How many of the most probable tokens may be drawn. Defaults to 5. */
  k?: number;
}

/**
 * Draws from the `k` most probable tokens, as `keras_hub.samplers.TopKSampler`; Fan et al.,
 * https://arxiv.org/abs/1805.04833.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class TopKSampler extends RandomizedSampler {
  readonly k: number;

  constructor(args: TopKSamplerArgs = {}) {
    const {k = 5, ...rest} = checkedSamplerArgs('TopKSampler', args, ['k', ...SEEDED_KEYS]);
    super(rest);
    if (!Number.isInteger(k) || k < 1) {
      throw new ValueError(`TopKSampler expected k to be a positive integer. Received: k=${show(k)}.`);
    }
    this.k = k;
  }

  /** Reads k logits of each row. */
  override async choose(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(TopKSampler.prototype.getNextToken)) return super.choose(logits);
    const best = await bestTokens(logits, this.k);
    return best.map(({values, tokens}) => {
      // A factor that all weights share does not change the draw.
      const weights = values.map(value => Math.exp(logWeight(value, values[0]!, this.temperature)));
      return tokens[this.drawFrom(this.admit(weights, 1))]!;
    });
  }

  /** @internal */
  override onDevice(): ChoiceOnDevice | undefined {
    return this.constructor === TopKSampler ? this.drawing({topK: this.k}) : undefined;
  }

  override getNextToken(probabilities: Float32Array): number {
    checkedLargest(probabilities);
    const best = topIndices(probabilities, this.k);
    return best[this.drawFrom(best.map(token => probabilities[token]!))]!;
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), k: this.k};
  }
}
