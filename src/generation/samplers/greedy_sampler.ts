import * as tf from '@tensorflow/tfjs';
import {checkedSamplerArgs, Sampler, SAMPLER_KEYS, type SamplerArgs} from './sampler';

/** Always chooses the most probable token, as `keras_hub.samplers.GreedySampler`. */
export class GreedySampler extends Sampler {
  constructor(args: SamplerArgs = {}) {
    super(checkedSamplerArgs('GreedySampler', args, SAMPLER_KEYS));
  }

  /** Only the chosen tokens leave the backend: dividing by a temperature does not change which logit is largest. */
  override async choose(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(GreedySampler.prototype.getNextToken)) return super.choose(logits);
    const best = tf.argMax(logits, -1);
    const tokens = Array.from(await best.data());
    best.dispose();
    return tokens;
  }

  override getNextToken(probabilities: Float32Array): number {
    let best = 0;
    for (let i = 1; i < probabilities.length; i++) if (probabilities[i]! > probabilities[best]!) best = i;
    return best;
  }
}
