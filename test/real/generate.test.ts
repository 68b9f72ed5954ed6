/** The real Gemma 3 270M: logits and greedy text against Python KerasHub in float32. */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM} from '../../src';
import {maxDifference, take} from '../support/numbers';
import {readOracle, REAL_PRESET} from './real_preset';

const oracle = readOracle();
let lm: Gemma3CausalLM;

beforeAll(async () => {
  await tf.setBackend('cpu');
  lm = await Gemma3CausalLM.fromPreset(REAL_PRESET);
});
afterAll(() => {
  lm.dispose();
});

it('keeps bfloat16 weights as bfloat16', () => {
  expect(lm.countParams()).toBe(268098176);
  expect(lm.backbone.config.dtype).toBe('bfloat16');
});

describe.each(oracle.prompts)('$prompt', ({prompt, tokenIds, text, top, hidden}) => {
  it('gives the hidden state and logits of KerasHub through predict', async () => {
    const inputs = {token_ids: [tokenIds], padding_mask: [tokenIds.map(() => 1)]};
    const out = lm.backbone.predict(inputs) as tf.Tensor3D;
    const last = tf.slice(out, [0, tokenIds.length - 1, 0], [1, 1, -1]);
    const logits = await take(lm.backbone.tokenEmbedding.call(last, {reverse: true}));
    expect(maxDifference((await take(last)).slice(0, hidden.length), hidden)).toBeLessThan(1e-3);
    expect(
      maxDifference(
        top.ids.map(id => logits[id]!),
        top.logits,
      ),
    ).toBeLessThan(1e-3);
    expect(logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))).toBe(top.ids[0]);
    out.dispose();
  });

  it('continues greedily as KerasHub, character by character, streamed and at once', async () => {
    const {tokens} = lm.preprocessor!.promptTokens(prompt);
    expect(tokens).toEqual([tokenIds]);
    let streamed = '';
    for await (const piece of lm.stream(prompt, {maxLength: oracle.maxLength})) streamed += piece;
    const start = lm.preprocessor!.tokenizer.detokenize(lm.preprocessor!.stripSpecial(tokenIds));
    expect(start + streamed).toBe(text);
  });
});

it('continues prompts of different lengths in one batch as KerasHub', async () => {
  const texts = await lm.generate(oracle.batch.prompts, {maxLength: oracle.maxLength});
  expect(texts).toEqual(oracle.batch.texts);
});
