/** Draws from the whole vocabulary. */
import type * as tf from '@tensorflow/tfjs';
import {logWeight} from '../../ops/row_numbers';
import {drawSoftmax} from '../../ops/sampling';
import {bestUntil} from './best_tokens';
import {unusableLogits} from './checked_tokens';
import {checkedSamplerArgs, type ChoiceOnDevice, RandomizedSampler, SEEDED_KEYS, type SeededArgs} from './sampler';

/**
 * Draws from all tokens by their probability, as `keras_hub.samplers.RandomSampler`.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class RandomSampler extends RandomizedSampler {
  constructor(args: SeededArgs = {}) {
    super(checkedSamplerArgs('RandomSampler', args, SEEDED_KEYS));
  }

  /**
   * Draws on the backend, with one random number per row, and reads only the drawn tokens. With `minP` it reads the
   * admitted logits and draws here.
   */
  override async choose(logits: tf.Tensor2D): Promise<number[]> {
    if (this.choosesOtherwise(RandomSampler.prototype.getNextToken)) return super.choose(logits);
    if (this.minP > 0) return this.chooseAdmitted(logits);
    const uniforms = Array.from({length: logits.shape[0]}, () => this.random());
    const drawn = drawSoftmax(logits, {temperature: this.temperature, uniforms});
    const tokens = Array.from(await drawn.data());
    drawn.dispose();
    if (tokens.includes(-1)) throw await unusableLogits(logits);
    return tokens;
  }

  private async chooseAdmitted(logits: tf.Tensor2D): Promise<number[]> {
    const rows = await bestUntil(logits, logits.shape[1], ({values, tokens}) => {
      const weights = this.admit(
        values.map(value => Math.exp(logWeight(value, values[0]!, this.temperature))),
        1,
      );
      return {tokens, weights, enough: weights.at(-1) === 0};
    });
    return rows.map(({tokens, weights}) => tokens[this.drawFrom(weights)]!);
  }

  /** @internal */
  override onDevice(): ChoiceOnDevice | undefined {
    return this.constructor === RandomSampler ? this.drawing({}) : undefined;
  }

  override getNextToken(probabilities: Float32Array): number {
    return this.drawFrom(probabilities);
  }
}
