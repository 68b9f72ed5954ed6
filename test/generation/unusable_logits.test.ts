/** Logits from which no sampler can choose a token, and tokens that do not exist. */
import {samplers} from '../../src';
import {generateSteps} from '../../src/generation/generation';
import {FakeDecoder} from '../support/fake_decoder';

describe('logits that no sampler can use', () => {
  /** Logits that are all NaN or -Infinity after some texts. */
  class DamagedDecoder extends FakeDecoder {
    constructor(private readonly damage: (text: readonly number[]) => number | undefined) {
      super(6);
    }
    override logitsOf(text: readonly number[]): number[] {
      const damaged = this.damage(text);
      return super.logitsOf(text).map(logit => damaged ?? logit);
    }
  }
  const SAMPLERS: [string, samplers.Sampler][] = [
    ['greedy', new samplers.GreedySampler()],
    ['random', new samplers.RandomSampler({seed: 1})],
    ['random with minP', new samplers.RandomSampler({seed: 1, minP: 0.1})],
    ['top k', new samplers.TopKSampler({seed: 1})],
    ['top p', new samplers.TopPSampler({seed: 1, p: 0.9})],
    ['beam', new samplers.BeamSampler()],
    ['contrastive', new samplers.ContrastiveSampler()],
    ['speculative', new samplers.SpeculativeSampler()],
  ];
  const generate = async (decoder: FakeDecoder, sampler: samplers.Sampler) => {
    const prompts = [{tokens: [1]}, {tokens: [1, 2, 3, 4, 5]}];
    const texts: number[] = [];
    for await (const {tokens} of generateSteps(decoder, {prompts, maxLength: 5, stopTokenIds: null, sampler})) {
      texts.push(...tokens.filter(token => token !== null));
    }
    return texts;
  };

  test.each(SAMPLERS)('%s', async (_, sampler) => {
    for (const value of [NaN, -Infinity]) {
      for (const length of [1, 3]) {
        const decoder = new DamagedDecoder(text => (text.length === length ? value : undefined));
        await expect(generate(decoder, sampler)).rejects.toThrow('Expected logits of the model without NaN');
        expect(decoder.open).toBe(0);
      }
    }
  });

  test.each([-1, 6, 0.5, NaN])('a token that does not exist: %d', async token => {
    class Wrong extends samplers.Sampler {
      override getNextToken(): number {
        return token;
      }
    }
    await expect(generate(new FakeDecoder(6), new Wrong())).rejects.toThrow(
      /to choose one token from 0 to 5 for each of 2 rows/,
    );
  });
});
