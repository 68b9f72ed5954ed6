import type * as tf from '@tensorflow/tfjs';
import {draw} from '../../ops/row_numbers';
import {drawSoftmax} from '../../ops/sampling';
import {checkedSamplerArgs, RandomizedSampler, type SeededArgs} from './sampler';

/** Draws from all tokens by their probability, as `keras_hub.samplers.RandomSampler`. */
export class RandomSampler extends RandomizedSampler {
  constructor(args: SeededArgs = {}) {
    super(checkedSamplerArgs('RandomSampler', args, ['temperature', 'seed']));
  }

  /** Only the answers leave the backend: it is told one random number a row. */
  override async sample(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(RandomSampler.prototype.getNextToken)) return super.sample(logits);
    const uniforms = Array.from({length: logits.shape[0]}, () => this.random());
    const drawn = drawSoftmax(logits, {temperature: this.temperature, uniforms});
    const tokens = Array.from(await drawn.data());
    drawn.dispose();
    return tokens;
  }

  override getNextToken(probabilities: Float32Array): number {
    return draw(probabilities, this.random);
  }
}
