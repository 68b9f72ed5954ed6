/** Runs the generation loop in tests. */
import {type Decoder} from '../../src/generation/decoder';
import {generateSteps, type GenerationRequest, type Step} from '../../src/generation/generation';
import {type TokenLogprobs} from '../../src/generation/logprobs';
import {expectNoLeak} from './numbers';

export interface Collected {
  /** New tokens of each row. */
  tokens: number[][];
  logprobs: TokenLogprobs[][];
  steps: Step[];
}

/** Runs a generation to its end, and checks that it leaves no tensors behind. */
export async function collect(
  decoder: Decoder,
  request: Omit<GenerationRequest, 'prompts'> & {prompts: number[][]},
): Promise<Collected> {
  const steps: Step[] = [];
  const tokens: number[][] = request.prompts.map(() => []);
  const logprobs: TokenLogprobs[][] = request.prompts.map(() => []);
  await expectNoLeak(async () => {
    const prompts = request.prompts.map(tokens => ({tokens}));
    for await (const step of generateSteps(decoder, {...request, prompts})) {
      steps.push(step);
      step.tokens.forEach((token, row) => token !== null && tokens[row]!.push(token));
      step.logprobs?.forEach((token, row) => token && logprobs[row]!.push(token));
    }
  });
  return {tokens, logprobs, steps};
}
