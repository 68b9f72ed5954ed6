import {show, ValueError} from '../../errors';
import {checkedSamplerArgs, draw, RandomizedSampler, type SeededArgs, topIndices} from './sampler';

export interface TopPSamplerArgs extends SeededArgs {
  /** Probability that the tokens which may be drawn have together, at least. Defaults to 0.1. */
  p?: number;
  /** Look only at this many of the most probable tokens. Null, the default: at all. */
  k?: number | null;
}

/**
 * Draws from the fewest most probable tokens that have probability `p` together, as `keras_hub.samplers.TopPSampler`;
 * Holtzman et al., https://arxiv.org/abs/1904.09751.
 */
export class TopPSampler extends RandomizedSampler {
  readonly p: number;
  readonly k: number | null;

  constructor(args: TopPSamplerArgs = {}) {
    const {p = 0.1, k = null, ...rest} = checkedSamplerArgs('TopPSampler', args, ['p', 'k', 'temperature', 'seed']);
    super(rest);
    if (!(p > 0 && p <= 1)) throw new ValueError(`TopPSampler expected p in (0, 1]. Received: p=${show(p)}.`);
    if (k !== null && (!Number.isInteger(k) || k < 1)) {
      throw new ValueError(`TopPSampler expected k to be a positive integer or null. Received: k=${show(k)}.`);
    }
    this.p = p;
    this.k = k;
  }

  override getNextToken(probabilities: Float32Array): number {
    const limit = Math.min(this.k ?? Infinity, probabilities.length);
    // Few tokens suffice as a rule: ask for more only while their sum stays below p.
    for (let count = Math.min(64, limit); ; count = Math.min(count * 8, limit)) {
      const best = topIndices(probabilities, count);
      const kept: number[] = [];
      let sum = 0;
      for (const token of best) {
        kept.push(probabilities[token]!);
        sum += probabilities[token]!;
        // The token that takes the sum past p is the last one kept.
        if (sum > this.p) break;
      }
      if (sum > this.p || count === limit) return best[draw(kept, this.random)]!;
    }
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), p: this.p, k: this.k};
  }
}
