/** Speculative decoding: guesses several tokens and checks them in one pass of the model. */
import {describeValue, show, ValueError} from '../../base/errors';
import {type Generation, type Step} from '../generation';
import {type DraftModel} from './drafted_by_model';
import {GreedySampler} from './greedy_sampler';
import {checkedSamplerArgs, Sampler} from './sampler';

/** Arguments of {@link SpeculativeSampler}. */
export interface SpeculativeSamplerArgs {
  /** Largest number of tokens to guess at a time. Defaults to 5. */
  numSpeculativeTokens?: number;
  /** Chooses tokens from the model's logits. Null, the default: always the most probable token. */
  baseSampler?: Sampler | null;
  /**
   * A smaller model with the same vocabulary that guesses the tokens. The caller disposes it. Null, the default: the
   * guesses are the tokens that followed an earlier occurrence of the last tokens in the text.
   */
  draft?: DraftModel | null;
  /** Without a draft: how many of the last tokens to search for, at most and at least. Defaults to [3, 2]. */
  lookup?: readonly [longest: number, shortest: number];
}

/** A draft with a preprocessor is compared with the model when it is used. */
const isDecoder = (draft: Partial<DraftModel>): boolean =>
  typeof draft === 'object' && (typeof draft.newCache === 'function' || !!draft.preprocessor);

/**
 * Speculative decoding, as `keras_hub.samplers.SpeculativeSampler`; Leviathan et al., https://arxiv.org/abs/2211.17192:
 * several tokens are guessed, and the model checks all of them in one pass. This pays off if guesses are often right
 * and a pass over a few tokens costs little more than a pass over one: measure it with bench/speculative.mjs.
 *
 * The text is the one that `baseSampler` would produce on its own or, if it draws at random, has the same distribution.
 * A guess is a single token x, so q(x) = 1 in the paper: x is accepted with probability p(x); otherwise a token is
 * drawn from p without x. Drawing from p, and accepting the guess if it was drawn, does both at once.
 *
 * @throws ValueError on unknown, unusable or contradictory arguments.
 */
export class SpeculativeSampler extends Sampler {
  readonly numSpeculativeTokens: number;
  readonly baseSampler: Sampler | null;
  readonly draft: DraftModel | null;
  readonly lookup: readonly [longest: number, shortest: number];
  private readonly base: Sampler;

  constructor(args: SpeculativeSamplerArgs = {}) {
    const known = ['numSpeculativeTokens', 'baseSampler', 'draft', 'lookup'];
    const {numSpeculativeTokens = 5, baseSampler = null, draft = null, lookup = [3, 2]} = args;
    checkedSamplerArgs('SpeculativeSampler', args, known);
    if (!Number.isInteger(numSpeculativeTokens) || numSpeculativeTokens < 1) {
      throw new ValueError(
        'SpeculativeSampler expected numSpeculativeTokens to be a positive integer. ' +
          `Received: numSpeculativeTokens=${show(numSpeculativeTokens)}.`,
      );
    }
    if (baseSampler !== null && !(baseSampler instanceof Sampler && baseSampler.steps === Sampler.prototype.steps)) {
      throw new ValueError(
        'SpeculativeSampler expected baseSampler to be null or a sampler that chooses token by token, such as ' +
          `new samplers.TopKSampler(). Received: ${describeValue(baseSampler)}.`,
      );
    }
    super({temperature: baseSampler?.temperature});
    if (draft !== null && !isDecoder(draft)) {
      throw new ValueError(
        'SpeculativeSampler expected draft to be null or a language model, such as a Gemma3CausalLM. ' +
          `Received: ${describeValue(draft)}.`,
      );
    }
    const fits = Array.isArray(lookup) && lookup.length === 2 && lookup.every(Number.isSafeInteger);
    if (!(fits && lookup[1] >= 1 && lookup[0] >= lookup[1])) {
      throw new ValueError(
        `SpeculativeSampler expected lookup to be [longest, shortest], positive integers. Received: ${show(lookup)}.`,
      );
    }
    if (draft && args.lookup) {
      throw new ValueError(
        'SpeculativeSampler expected either `draft` or `lookup`: with a draft, nothing is looked up. Received: both.',
      );
    }
    this.numSpeculativeTokens = numSpeculativeTokens;
    this.baseSampler = baseSampler;
    this.draft = draft;
    this.lookup = lookup;
    this.base = baseSampler ?? new GreedySampler();
  }

  override getNextToken(probabilities: Float32Array): number {
    return this.base.getNextToken(probabilities);
  }

  override async *steps(generation: Generation): AsyncGenerator<Step, void> {
    // Loaded with the first use, since most pages never use it.
    const {SpeculativeDecoding} = await import('./speculative_decoding');
    yield* new SpeculativeDecoding(this, this.base).steps(generation);
  }

  override getConfig(): Record<string, unknown> {
    const {numSpeculativeTokens, baseSampler, draft, lookup} = this;
    return {
      ...super.getConfig(),
      numSpeculativeTokens,
      baseSampler: baseSampler && {className: baseSampler.constructor.name, config: baseSampler.getConfig()},
      ...(!draft && {lookup: [...lookup]}),
    };
  }
}
