/** Draws from the most probable tokens that together reach a given probability. */
import type * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../base/errors';
import {logWeight, topIndices} from '../../ops/row_numbers';
import {softmaxSums} from '../../ops/sampling';
import {bestUntil, FIRST_COUNT, GROWTH} from './best_tokens';
import {
  checkedLargest,
  checkedSamplerArgs,
  type ChoiceOnDevice,
  RandomizedSampler,
  SEEDED_KEYS,
  type SeededArgs,
} from './sampler';

/** Arguments of {@link TopPSampler}. */
export interface TopPSamplerArgs extends SeededArgs {
  /** Total probability that the tokens to draw from must reach. Defaults to 0.1. */
  p?: number;
  /** Largest number of tokens to draw from. Null, the default: no limit. */
  k?: number | null;
}

/**
 * Draws from the smallest set of most probable tokens whose total probability reaches `p`, as
 * `keras_hub.samplers.TopPSampler`; Holtzman et al., https://arxiv.org/abs/1904.09751.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class TopPSampler extends RandomizedSampler {
  readonly p: number;
  readonly k: number | null;

  constructor(args: TopPSamplerArgs = {}) {
    const {p = 0.1, k = null, ...rest} = checkedSamplerArgs('TopPSampler', args, ['p', 'k', ...SEEDED_KEYS]);
    super(rest);
    if (!(typeof p === 'number' && p > 0 && p <= 1))
      throw new ValueError(`TopPSampler expected p in (0, 1]. Received: p=${show(p)}.`);
    if (k !== null && (!Number.isInteger(k) || k < 1)) {
      throw new ValueError(`TopPSampler expected k to be a positive integer or null. Received: k=${show(k)}.`);
    }
    this.p = p;
    this.k = k;
  }

  /** Reads only as many of each row's largest logits as needed. */
  override async choose(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(TopPSampler.prototype.getNextToken)) return super.choose(logits);
    const summed = softmaxSums(logits, this.temperature);
    const sums = await summed.data();
    summed.dispose();
    const limit = Math.min(this.k ?? Infinity, logits.shape[1]);
    const rows = await bestUntil(logits, limit, ({values, tokens}, row) => {
      const [largest, sum] = [sums[2 * row]!, sums[2 * row + 1]!];
      const weights = values.map(value => Math.exp(logWeight(value, largest, this.temperature)) / sum);
      return {tokens, ...this.keep(weights)};
    });
    return rows.map(({kept, tokens}) => tokens[this.drawFrom(this.admit(kept, kept[0]!))]!);
  }

  /** @internal */
  override onDevice(): ChoiceOnDevice | undefined {
    return this.constructor === TopPSampler ? this.drawing({topP: this.p, topK: this.k}) : undefined;
  }

  override getNextToken(probabilities: Float32Array): number {
    checkedLargest(probabilities);
    const limit = Math.min(this.k ?? Infinity, probabilities.length);
    for (let count = Math.min(FIRST_COUNT, limit); ; count = Math.min(count * GROWTH, limit)) {
      const best = topIndices(probabilities, count);
      const {kept, enough} = this.keep(best.map(token => probabilities[token]!));
      if (enough || count === limit) return best[this.drawFrom(kept)]!;
    }
  }

  /** The first weights, up to the one that makes their sum exceed p. */
  private keep(weights: readonly number[]): {kept: number[]; enough: boolean} {
    let sum = 0;
    const last = weights.findIndex(weight => (sum += weight) > this.p);
    return {kept: weights.slice(0, last < 0 ? weights.length : last + 1), enough: last >= 0};
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), p: this.p, k: this.k};
  }
}
