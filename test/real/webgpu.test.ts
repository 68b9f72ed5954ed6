/**
 * The real Gemma 3 270M in bfloat16 on the backend `webgpu`: hidden states, logits and greedy text of Python KerasHub.
 * `npm run test:real:webgpu`; an adapter in software takes minutes.
 */
import type * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../src';
import {take} from '../support/numbers';
import {describeWebGpu, throwGpuErrors, useWebGpu} from '../support/webgpu';
import {readOracle, REAL_PRESET} from './real_preset';

/** Number of tokens that are compared, each of which takes seconds in software. */
const NEW = 8;

describeWebGpu('the real 270M on webgpu', () => {
  let lm: Gemma3CausalLM;
  const {prompt, tokenIds, text, top, hidden} = readOracle().prompts[0]!;
  beforeAll(async () => {
    await useWebGpu();
    lm = await Gemma3CausalLM.fromPreset(REAL_PRESET, {dtype: 'bfloat16'});
  });
  afterAll(() => lm.dispose());
  afterEach(throwGpuErrors);

  test('gives the hidden state and logits of KerasHub through predict', async () => {
    const inputs = {token_ids: [tokenIds], padding_mask: [tokenIds.map(() => 1)]};
    const out = lm.backbone.predict(inputs) as tf.Tensor3D;
    const last = out.slice([0, tokenIds.length - 1, 0], [1, 1, -1]);
    const logits = await take(lm.backbone.tokenEmbedding.call(last, {reverse: true}));
    // Hidden states reach 30 and logits 20: float32 has seven digits.
    expect((await take(last)).slice(0, hidden.length)).toBeAllClose(hidden, {atol: 2e-4});
    expect(top.ids.map(id => logits[id]!)).toBeAllClose(top.logits, {atol: 2e-4});
    out.dispose();
  });

  test('continues greedily as KerasHub, chosen on the GPU', async () => {
    const ahead = jest.spyOn(lm, 'tokensAhead');
    const {text: own, usage} = await lm.generate(prompt, {maxNewTokens: NEW, sampler: 'greedy', details: true});
    expect(usage.newTokens).toBe(NEW);
    expect(text.startsWith(own)).toBe(true);
    expect(ahead.mock.results.map(({value}) => value !== undefined)).toEqual([true]);
    ahead.mockRestore();
  });
});
