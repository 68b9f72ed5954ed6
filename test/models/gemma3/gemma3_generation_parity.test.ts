/** Greedy generation from token ids against Python KerasHub: uneven prompts in a batch, beyond the window. */
import {readFileSync} from 'node:fs';
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, useBackend} from '../../../src';
import {expectNoLeak} from '../../support/numbers';
import {fixture, fixtureNames} from '../../support/fixtures';

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
  const text = readFileSync(fixture(`backbone/${name}/expected.json`), 'utf8');
  const {generate} = JSON.parse(text) as {generate?: Generation};
  return generate ? (['cpu', 'simd'] as const).map(backend => ({backend, name, generate})) : [];
});

describe.each(cases)('$name on $backend', ({name, generate, backend}) => {
  beforeAll(async () => {
    await useBackend(backend);
  });

  // In one piece and in several.
  const runs = generate.runs.flatMap(run => [undefined, 7].map(prefillChunk => ({...run, prefillChunk})));
  test.each(runs)('continues as KerasHub, stop ids $stop_token_ids, pieces of $prefillChunk', async run => {
    await expectNoLeak(async () => {
      const lm = await Gemma3CausalLM.fromPreset(fixture(`backbone/${name}`), {preprocessor: null});
      const inputs = {
        token_ids: tf.tensor2d(generate.token_ids, undefined, 'int32'),
        padding_mask: tf.tensor2d(generate.padding_mask, undefined, 'bool'),
      };
      const out = await lm.generate(inputs, {stopTokenIds: run.stop_token_ids, prefillChunk: run.prefillChunk});
      const [ids, mask] = [(await out.token_ids.array()) as number[][], await out.padding_mask.array()];
      expect(mask).toEqual(run.padding_mask);
      // What KerasHub wrote behind a stop token is not part of the text.
      const kept = (rows: number[][]) => rows.map((row, i) => row.filter((_, t) => run.padding_mask[i]![t]));
      expect(kept(ids)).toEqual(kept(run.token_ids));
      tf.dispose([inputs, out]);
      lm.dispose();
    });
  });
});
