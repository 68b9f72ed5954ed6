/** Beam search: follows several continuations of each prompt and keeps the most probable ones. */
import {show, ValueError} from '../../base/errors';
import {type Generation, type Step} from '../generation';
import {type Beam} from './beam_search';
import {GreedySampler} from './greedy_sampler';
import {checkedSamplerArgs, Sampler, SAMPLER_KEYS, type SamplerArgs} from './sampler';

export type {Beam} from './beam_search';

/** Arguments of {@link BeamSampler}. */
export interface BeamSamplerArgs extends SamplerArgs {
  /** Number of continuations to follow. Defaults to 5. */
  numBeams?: number;
  /** Follow each continuation to its end, and keep all of them in `beams`. Defaults to false. */
  returnAllBeams?: boolean;
}

/**
 * Beam search, as `keras_hub.samplers.BeamSampler`: keeps the `numBeams` most probable continuations, by the sum of
 * their log probabilities, and returns the best of them. As in KerasHub, the sum is not divided by the length.
 *
 * A beam that has reached a stop token keeps its score, and is kept until better beams replace it. Tokens on which all
 * beams of a row agree are final and are yielded at once, so `stream` may yield several tokens at a time, or none for a
 * while.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class BeamSampler extends Sampler {
  readonly numBeams: number;
  readonly returnAllBeams: boolean;
  /** With `returnAllBeams`, the beams of each prompt of the last completed generation, best first. Otherwise null. */
  beams: Beam[][] | null = null;

  constructor(args: BeamSamplerArgs = {}) {
    const known = ['numBeams', 'returnAllBeams', ...SAMPLER_KEYS];
    const {numBeams = 5, returnAllBeams = false, ...rest} = checkedSamplerArgs('BeamSampler', args, known);
    super(rest);
    if (!Number.isInteger(numBeams) || numBeams < 1) {
      throw new ValueError(
        `BeamSampler expected numBeams to be a positive integer. Received: numBeams=${show(numBeams)}.`,
      );
    }
    if (typeof returnAllBeams !== 'boolean') {
      throw new ValueError(
        `BeamSampler expected returnAllBeams to be true or false. Received: returnAllBeams=${show(returnAllBeams)}.`,
      );
    }
    this.numBeams = numBeams;
    this.returnAllBeams = returnAllBeams;
  }

  /** The greedy choice, for callers of `sample`. Beam search itself compares the continuations of all beams. */
  override getNextToken(probabilities: Float32Array): number {
    return GreedySampler.prototype.getNextToken(probabilities);
  }

  override async *steps(generation: Generation): AsyncGenerator<Step, void> {
    this.beams = null;
    // Loaded with the first search, since most pages never use it.
    const {BeamSearch} = await import('./beam_search');
    const search = new BeamSearch(this, (logits, rows, run) => this.withPenalties(logits, rows, run));
    const beams = yield* search.steps(generation);
    if (this.returnAllBeams) this.beams = beams;
  }

  override getConfig(): Record<string, unknown> {
    return {...super.getConfig(), numBeams: this.numBeams, returnAllBeams: this.returnAllBeams};
  }
}
