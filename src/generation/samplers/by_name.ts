/** Samplers by name. */
import {describeValue, ValueError} from '../../base/errors';
import {BeamSampler} from './beam_sampler';
import {ContrastiveSampler} from './contrastive_sampler';
import {GreedySampler} from './greedy_sampler';
import {RandomSampler} from './random_sampler';
import {Sampler} from './sampler';
import {SpeculativeSampler} from './speculative_sampler';
import {TopKSampler} from './top_k_sampler';
import {TopPSampler} from './top_p_sampler';

/** Names of samplers, as in KerasHub. */
export type SamplerName = 'beam' | 'contrastive' | 'greedy' | 'random' | 'speculative' | 'top_k' | 'top_p';

/** The class of each name. It takes its arguments in one object. */
export const byName: Record<SamplerName, new (args?: object) => Sampler> = {
  beam: BeamSampler,
  contrastive: ContrastiveSampler,
  greedy: GreedySampler,
  random: RandomSampler,
  speculative: SpeculativeSampler,
  top_k: TopKSampler,
  top_p: TopPSampler,
};

/**
 * Creates a sampler by name, with default arguments. A sampler is returned as it is.
 *
 * @throws ValueError for other names.
 */
export function get(sampler: SamplerName | Sampler): Sampler {
  if (sampler instanceof Sampler) return sampler;
  const SamplerClass = Object.hasOwn(byName, sampler) ? byName[sampler] : undefined;
  if (!SamplerClass) {
    throw new ValueError(
      `Expected a sampler or one of ${Object.keys(byName)
        .map(name => `"${name}"`)
        .join(', ')}. Received: ${describeValue(sampler)}.`,
    );
  }
  return new SamplerClass();
}
