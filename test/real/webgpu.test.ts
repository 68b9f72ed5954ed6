/**
 * The real Gemma 3 270M in bfloat16 on the backend `webgpu`: logits and greedy text against Python KerasHub. In software it
 * takes minutes: `npm run test:real:webgpu`.
 */
import type * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../src';
import {take} from '../support/numbers';
import {describeWebGpu, throwGpuErrors, useWebGpu} from '../support/webgpu';
import {readOracle, REAL_PRESET} from './real_preset';

const NEW_TOKENS = 8;

describeWebGpu('the real model on webgpu', () => {
  const {prompts} = readOracle();
  const {prompt, tokenIds, text, top, hidden} = prompts.reduce((a, b) =>
    a.tokenIds.length <= b.tokenIds.length ? a : b,
  );
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    await useWebGpu();
    lm = await Gemma3CausalLM.fromPreset(REAL_PRESET);
  });
  afterEach(throwGpuErrors);
  afterAll(() => lm.dispose());

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

  test('continues greedily as KerasHub', async () => {
    const found = await lm.generate(prompt, {maxNewTokens: NEW_TOKENS});
    expect(found.length).toBeGreaterThan(prompt.length);
    expect(text.slice(0, found.length)).toBe(found);
  });
});
