/** Contrastive search: prefers probable tokens whose hidden states differ from those before. */
import {show, ValueError} from '../../base/errors';
import {type Generation, type Step} from '../generation';
import {GreedySampler} from './greedy_sampler';
import {checkedSamplerArgs, Sampler, SAMPLER_KEYS, type SamplerArgs} from './sampler';

/** Arguments of {@link ContrastiveSampler}. */
export interface ContrastiveSamplerArgs extends SamplerArgs {
  /** How many of the most probable tokens to try at each position. Defaults to 5. */
  k?: number;
  /** Weight of the similarity to earlier tokens; the probability has weight 1 − alpha. Defaults to 0.6. */
  alpha?: number;
}

/**
 * Contrastive search, as `keras_hub.samplers.ContrastiveSampler`; Su et al., https://arxiv.org/abs/2202.06417. Of the
 * `k` most probable tokens it takes the one with the largest (1 − alpha) · probability − alpha · similarity. The
 * similarity is the largest cosine between the token's hidden state and those of all tokens before it.
 *
 * Each step runs the model on k tokens per row.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class ContrastiveSampler extends Sampler {
  readonly k: number;
  readonly alpha: number;

  constructor(args: ContrastiveSamplerArgs = {}) {
    const {
      k = 5,
      alpha = 0.6,
      ...rest
    } = checkedSamplerArgs('ContrastiveSampler', args, ['k', 'alpha', ...SAMPLER_KEYS]);
    super(rest);
    if (!Number.isInteger(k) || k < 1) {
      throw new ValueError(`ContrastiveSampler expected k to be a positive integer. Received: k=${show(k)}.`);
    }
    if (!(typeof alpha === 'number' && alpha >= 0 && alpha <= 1)) {
      throw new ValueError(`ContrastiveSampler expected alpha from 0 to 1. Received: alpha=${show(alpha)}.`);
    }
    this.k = k;
    this.alpha = alpha;
  }

  /** The greedy choice, for callers of `sample`: it has no hidden states to compare. */
  override getNextToken(probabilities: Float32Array): number {
    return GreedySampler.prototype.getNextToken(probabilities);
  }

  override async *steps(generation: Generation): AsyncGenerator<Step, void> {
    // Loaded with the first search, since most pages never use it.
    const {ContrastiveSearch} = await import('./contrastive_search');
    const search = new ContrastiveSearch(this, (logits, rows, run) => this.withPenalties(logits, rows, run));
    yield* search.steps(generation);
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), k: this.k, alpha: this.alpha};
  }
}
