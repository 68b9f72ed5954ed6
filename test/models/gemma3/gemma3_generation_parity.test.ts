/** Greedy generation from token ids against Python KerasHub: prompts of different lengths, beyond the window. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../../src';
import {onEveryBackend} from '../../support/backends';
import {fixture, fixtureJson, fixtureNames} from '../../support/fixtures';
import {expectNoLeak} from '../../support/numbers';

interface Run {
  stop_token_ids: number[] | null;
  token_ids: number[][];
  padding_mask: number[][];
}
interface Generation {
  token_ids: number[][];
  padding_mask: number[][];
  runs: Run[];
}
const cases = fixtureNames('backbone').flatMap(name => {
  const {generate} = fixtureJson<{generate?: Generation}>(`backbone/${name}/expected.json`);
  return generate ? [{name, generate}] : [];
});

onEveryBackend(() =>
  describe.each(cases)('$name', ({name, generate}) => {
    let lm: Gemma3CausalLM;
    beforeAll(async () => {
      lm = await Gemma3CausalLM.fromPreset(fixture(`backbone/${name}`), {preprocessor: null});
    });
    afterAll(() => lm.dispose());

    // Each prompt in one chunk, and in several.
    const runs = generate.runs.flatMap(run => [undefined, 7].map(prefillChunk => ({...run, prefillChunk})));
    test.each(runs)('continues as KerasHub, stop ids $stop_token_ids, chunks of $prefillChunk', async run => {
      await expectNoLeak(async () => {
        const inputs = {
          token_ids: tf.tensor2d(generate.token_ids, undefined, 'int32'),
          padding_mask: tf.tensor2d(generate.padding_mask, undefined, 'bool'),
        };
        const out = await lm.generate(inputs, {stopTokenIds: run.stop_token_ids, prefillChunk: run.prefillChunk});
        const [ids, mask] = [(await out.token_ids.array()) as number[][], await out.padding_mask.array()];
        expect(mask).toEqual(run.padding_mask);
        // Tokens that KerasHub wrote after a stop token are not part of the text.
        const kept = (rows: number[][]) => rows.map((row, i) => row.filter((_, t) => run.padding_mask[i]![t]));
        expect(kept(ids)).toEqual(kept(run.token_ids));
        tf.dispose([inputs, out]);
      });
    });
  }),
);
