/** The real Gemma 3 270M: logits and greedy text against Python KerasHub in float32. */
import type * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, samplers} from '../../src';
import {onEachBackend} from '../support/backends';
import {take} from '../support/numbers';
import {readOracle, REAL_PRESET} from './real_preset';

const oracle = readOracle();

onEachBackend(({fast}) => {
  // A slow backend generates a token per second: some prompts are enough there.
  const prompts = fast ? oracle.prompts : oracle.prompts.slice(0, 2);
  let lm: Gemma3CausalLM;
  beforeAll(async () => {
    lm = await Gemma3CausalLM.fromPreset(REAL_PRESET);
  });
  afterAll(() => {
    lm.dispose();
  });

  test('keeps bfloat16 weights as bfloat16', () => {
    expect(lm.countParams()).toBe(268098176);
    const bytes = (lm.backbone.weights as unknown as {byteLength: number}[]).reduce((sum, w) => sum + w.byteLength, 0);
    // Norms are stored as float32: 0.1 MB.
    expect(bytes - 2 * lm.countParams()).toBeLessThan(200_000);
  });

  describe.each(prompts)('$prompt', ({prompt, tokenIds, text, top, hidden}) => {
    test('gives the hidden state and logits of KerasHub through predict', async () => {
      const inputs = {token_ids: [tokenIds], padding_mask: [tokenIds.map(() => 1)]};
      const out = lm.backbone.predict(inputs) as tf.Tensor3D;
      const last = out.slice([0, tokenIds.length - 1, 0], [1, 1, -1]);
      const logits = await take(lm.backbone.tokenEmbedding.call(last, {reverse: true}));
      // Hidden states reach 30 and logits 20: float32 has seven digits.
      expect((await take(last)).slice(0, hidden.length)).toBeAllClose(hidden, {atol: 2e-4});
      expect(top.ids.map(id => logits[id]!)).toBeAllClose(top.logits, {atol: 2e-4});
      expect(logits.indexOf(logits.reduce((a, b) => Math.max(a, b)))).toBe(top.ids[0]);
      out.dispose();
    });

    test('continues greedily as KerasHub, character by character, streamed', async () => {
      expect((await lm.preprocessor!.promptTokens(prompt)).tokens).toEqual([tokenIds]);
      let streamed = '';
      const options = {maxLength: oracle.maxLength, stripPrompt: false};
      for await (const piece of lm.stream(prompt, options)) streamed += piece;
      expect(streamed).toBe(text);
    });
  });

  if (fast) {
    test.each([512, 200, 4096])(
      'continues far beyond the window as KerasHub, %s tokens at once',
      async prefillChunk => {
        const {prompt, tokenIds, maxLength, text} = oracle.long;
        expect(tokenIds.length).toBeGreaterThan(1500);
        expect((await lm.preprocessor!.promptTokens(prompt, {sequenceLength: maxLength})).tokens).toEqual([tokenIds]);
        expect(await lm.generate(prompt, {maxLength, prefillChunk})).toBe(text);
      },
    );

    test('answers later turns of a conversation as without a session, at the cost of what is new', async () => {
      const chat = lm.startChat({maxLength: 2048});
      const steps = jest.spyOn(lm, 'steps');
      const passed: number[] = [];
      for (const question of ['Name a colour.', 'Name another one.', 'Name another one.', 'Name another one.']) {
        const answer = await chat.send(question, {maxNewTokens: 24});
        const [[prompt]] = steps.mock.lastCall!;
        let fresh: number[] = [];
        for await (const [token] of lm.steps([prompt!], {maxLength: prompt!.tokens.length + 24})) fresh.push(token!);
        const {tokenizer} = lm.preprocessor!;
        fresh = fresh.filter(id => ![tokenizer.endTokenId, tokenizer.tokenToId('<end_of_turn>')].includes(id));
        expect(answer).toBe(tokenizer.detokenize(fresh));
        passed.push(chat.promptLength - chat.reused);
      }
      // The end of the previous answer, its last token and the question.
      expect(Math.max(...passed.slice(1)) - Math.min(...passed.slice(1))).toBeLessThanOrEqual(1);
      steps.mockRestore();
      chat.dispose();
    });

    test('continues prompts of different lengths in one batch as KerasHub', async () => {
      const texts = await lm.generate(oracle.batch.prompts, {maxLength: oracle.maxLength});
      expect(texts).toEqual(oracle.batch.texts);
    });

    test('generates the same texts with guesses, in few passes where the text repeats', async () => {
      const {hiddenSteps} = lm;
      const lists = ['1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3, 1,', 'la la la la la la la la la la'];
      const prompts = [...oracle.batch.prompts, ...lists];
      const options = {maxLength: 64, stopTokenIds: null};
      lm.compile();
      const expected = await lm.generate(prompts, options);
      lm.compile({sampler: new samplers.SpeculativeSampler({lookup: [3, 1]})});
      let passes = 0;
      lm.hiddenSteps = (...args) => {
        passes += 1;
        return hiddenSteps.apply(lm, args);
      };
      expect(await lm.generate(prompts, options)).toEqual(expected);
      passes = 0;
      await lm.generate(lists[1]!, options);
      expect(passes).toBeLessThan(30);
      lm.hiddenSteps = hiddenSteps;
      lm.compile();
    });
  }
});
