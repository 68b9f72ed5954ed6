import {checkedSamplerArgs, draw, RandomizedSampler, type SeededArgs} from './sampler';

/** Draws from all tokens by their probability, as `keras_hub.samplers.RandomSampler`. */
export class RandomSampler extends RandomizedSampler {
  constructor(args: SeededArgs = {}) {
    super(checkedSamplerArgs('RandomSampler', args, ['temperature', 'seed']));
  }

  override getNextToken(probabilities: Float32Array): number {
    return draw(probabilities, this.random);
  }
}
