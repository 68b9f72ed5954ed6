/** All samplers, and `get`, which finds them by name. */
export {type Beam, BeamSampler, type BeamSamplerArgs} from './beam_sampler';
export {ContrastiveSampler, type ContrastiveSamplerArgs} from './contrastive_sampler';
export {type DraftModel} from './drafted_by_model';
export {GreedySampler} from './greedy_sampler';
export {RandomSampler} from './random_sampler';
export {type Penalties} from './penalties';
export {type RowText} from '../decoder';
export {type Generation, type Row, type Step} from '../generation';
export {Sampler, type SamplerArgs, type SeededArgs} from './sampler';
export {SpeculativeSampler, type SpeculativeSamplerArgs} from './speculative_sampler';
export {TopKSampler, type TopKSamplerArgs} from './top_k_sampler';
export {TopPSampler, type TopPSamplerArgs} from './top_p_sampler';
export {get, type SamplerName} from './by_name';
