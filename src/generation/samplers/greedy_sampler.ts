/** Greedy search. */
import type * as tf from '@tensorflow/tfjs';
import {bestColumn} from '../../ops/sampling';
import {unusableLogits} from './checked_tokens';
import {
  checkedLargest,
  checkedSamplerArgs,
  type ChoiceOnDevice,
  Sampler,
  SAMPLER_KEYS,
  type SamplerArgs,
} from './sampler';

/**
 * Always chooses the most probable token, as `keras_hub.samplers.GreedySampler`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class GreedySampler extends Sampler {
  constructor(args: SamplerArgs = {}) {
    super(checkedSamplerArgs('GreedySampler', args, SAMPLER_KEYS));
  }

  /** Reads only the chosen tokens from the backend: a temperature does not change which logit is the largest. */
  override async choose(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(GreedySampler.prototype.getNextToken)) return super.choose(logits);
    const best = bestColumn(logits);
    const tokens = Array.from(await best.data());
    best.dispose();
    if (tokens.includes(-1)) throw await unusableLogits(logits);
    return tokens;
  }

  /** @internal */
  override get choosesAlone(): boolean {
    return this.constructor === GreedySampler;
  }

  /** @internal */
  override onDevice(): ChoiceOnDevice | undefined {
    return this.constructor === GreedySampler ? {draw: null} : undefined;
  }

  override getNextToken(probabilities: Float32Array): number {
    return probabilities.indexOf(checkedLargest(probabilities));
  }
}
