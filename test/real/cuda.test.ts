/**
 * The real Gemma 3 270M on the backend `cuda`: hidden states, logits and greedy texts of Python KerasHub, stored as
 * bfloat16, chosen on the device. `npm run test:real:cuda`, after `gemma3 setup-cuda`, or with `--cpu`.
 */
import type * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../src';
import {describeCuda, useCuda} from '../support/cuda';
import {take} from '../support/numbers';
import {readOracle, REAL_PRESET} from './real_preset';

describeCuda('the real 270M on cuda', () => {
  let lm: Gemma3CausalLM;
  const {prompts, maxLength, batch} = readOracle();
  beforeAll(async () => {
    await useCuda();
    lm = await Gemma3CausalLM.fromPreset(REAL_PRESET, {dtype: 'bfloat16'});
  });
  afterAll(() => lm.dispose());

  test.each(prompts)('$prompt: gives the hidden state and logits of KerasHub', async ({tokenIds, top, hidden}) => {
    const inputs = {token_ids: [tokenIds], padding_mask: [tokenIds.map(() => 1)]};
    const out = lm.backbone.predict(inputs) as tf.Tensor3D;
    const last = out.slice([0, tokenIds.length - 1, 0], [1, 1, -1]);
    const logits = await take(lm.backbone.tokenEmbedding.call(last, {reverse: true}));
    // Hidden states reach 30 and logits 20: float32 has seven digits.
    expect((await take(last)).slice(0, hidden.length)).toBeAllClose(hidden, {atol: 2e-4});
    expect(top.ids.map(id => logits[id]!)).toBeAllClose(top.logits, {atol: 2e-4});
    out.dispose();
  });

  test.each(prompts)('$prompt: continues greedily as KerasHub', async ({prompt, text}) => {
    const ahead = jest.spyOn(lm, 'tokensAhead');
    expect(await lm.generate(prompt, {maxLength})).toBe(text);
    expect(ahead.mock.results.map(({value}) => value !== undefined)).toEqual([true]);
    ahead.mockRestore();
  });

  test('continues prompts of different lengths in one batch as KerasHub', async () => {
    expect(await lm.generate(batch.prompts, {maxLength})).toEqual(batch.texts);
  });
});
