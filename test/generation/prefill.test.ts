/** Prefill in chunks against prefill in one pass. */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3CausalLM} from '../../src';
import {type NewTokens, type Prompt} from '../../src/generation/decoder';
import {outsideImage, prefill, type PrefillProgress} from '../../src/generation/prefill';
import {onEachBackend} from '../support/backends';
import {expectNoLeak, take} from '../support/numbers';
import {IMAGE_SIZE, IMAGE_TOKENS, smallModel, someTokens} from '../support/small_model';

const text = (count: number, seed: number): Prompt => ({tokens: someTokens(count, seed)});

/** Random text with an image before each token whose index is in `at`. */
function withImages(count: number, at: number[], seed: number): Prompt {
  const tokens: number[] = [];
  const visionMask: boolean[] = [];
  someTokens(count, seed).forEach((token, t) => {
    if (at.includes(t)) {
      tokens.push(...Array<number>(IMAGE_TOKENS).fill(4));
      visionMask.push(...Array<boolean>(IMAGE_TOKENS).fill(true));
    }
    tokens.push(token);
    visionMask.push(false);
  });
  const images = tf.randomNormal([at.length, IMAGE_SIZE, IMAGE_SIZE, 3], 0, 1, 'float32', seed) as tf.Tensor4D;
  return {tokens, visionMask, images};
}

/** Records the tokens of the model's forward passes. */
function watch(lm: Gemma3CausalLM): {calls: NewTokens[]; stop: () => void} {
  const calls: NewTokens[] = [];
  const spies = [
    jest.spyOn(lm, 'hiddenSteps').mockImplementation((tokens, cache) => {
      calls.push(tokens);
      return (Object.getPrototypeOf(lm) as Gemma3CausalLM).hiddenSteps.call(lm, tokens, cache);
    }),
  ];
  return {calls, stop: () => spies.forEach(spy => spy.mockRestore())};
}

async function logitsOf(lm: Gemma3CausalLM, prompts: Prompt[], prefillChunk: number): Promise<number[]> {
  const cache = lm.newCache(prompts.length, 120);
  const logits = await take(await prefill(lm, prompts, cache, {prefillChunk}));
  expect(cache.lengths).toEqual(prompts.map(({tokens}) => tokens.length));
  // If the cache holds the same keys and values, one more token gets the same logits.
  const next = lm.nextLogits(
    prompts.map(() => [33]),
    prompts.map(() => 1),
    cache,
  );
  cache.dispose();
  return [...logits, ...(await take(next))];
}

onEachBackend(({formats}) => {
  let [lm, seeing]: Gemma3CausalLM[] = [];
  beforeAll(async () => {
    [lm, seeing] = [smallModel(), smallModel({vision: true})];
    await logitsOf(lm, [text(2, 1)], 9);
    const {images, ...prompt} = withImages(3, [1], 1);
    await logitsOf(seeing, [{...prompt, images}], 9);
    images!.dispose();
  });
  afterAll(() => {
    lm!.dispose();
    seeing!.dispose();
  });

  // Integer weights round activations to 16 bits. Float32's last bit, which depends on the order of sums, can move
  // activations by one step, which is 3e-5 of the largest in its block. Several steps in several layers add up.
  test.each(formats.map(format => [format, format === 'bfloat16' ? 2e-5 : 3e-4] as const))(
    'weights as %s: a prompt has the same logits alone, in a batch and in chunks',
    async (format, atol) => {
      const packed = smallModel();
      await packed.quantize(format);
      const prompts = [text(25, 1), text(3, 2), text(1, 3), text(21, 4)];
      const all = await logitsOf(packed, prompts, 1000);
      const size = all.length / 2 / prompts.length;
      for (const [row, prompt] of prompts.entries()) {
        const expected = [row, prompts.length + row].flatMap(at => all.slice(at * size, (at + 1) * size));
        for (const chunk of [1, 1000]) {
          expect(await logitsOf(packed, [prompt], chunk)).toBeAllClose(expected, {atol});
        }
      }
      packed.dispose();
    },
  );

  test.each([1, 2, 7, 8, 30, 100])(
    'chunks of %s tokens give the logits of one pass, far beyond the window',
    async chunk => {
      await expectNoLeak(async () => {
        const prompts = [text(90, 1), text(3, 2), text(64, 3)];
        expect(await logitsOf(lm!, prompts, chunk)).toBeAllClose(await logitsOf(lm!, prompts, 1000), {atol: 2e-5});
      });
    },
  );

  test.each([1, 3, 6, 30])('chunks of %s tokens give the logits of one pass with images', async chunk => {
    const prompts = [withImages(40, [2, 3, 20], 4), text(30, 5), withImages(9, [0, 8], 6)];
    await expectNoLeak(async () => {
      const {calls, stop} = watch(seeing!);
      const pieces = await logitsOf(seeing!, prompts, chunk);
      stop();
      // No image is split between chunks.
      for (const {images} of calls) {
        for (const row of images?.parts ?? []) expect(row.filter(part => part >= 0).length % IMAGE_TOKENS).toBe(0);
      }
      expect(pieces).toBeAllClose(await logitsOf(seeing!, prompts, 1000), {atol: 2e-5});
    });
    tf.dispose(prompts.map(({images}) => images ?? []));
  });

  test('continues after the tokens in a cache, and encodes only the images after them', async () => {
    const prompt = withImages(12, [1, 7], 7);
    const whole = await logitsOf(seeing!, [prompt], 1000);
    await expectNoLeak(async () => {
      const encode = jest.spyOn(seeing!, 'encodeSteps');
      const cache = seeing!.newCache(1, 40);
      const until = 2 + IMAGE_TOKENS;
      const first = {
        tokens: prompt.tokens.slice(0, until),
        visionMask: prompt.visionMask!.slice(0, until),
        images: tf.slice(prompt.images!, [0], [1]),
      };
      tf.dispose([await prefill(seeing!, [first], cache), first.images]);
      const logits = await take(await prefill(seeing!, [prompt], cache));
      expect(logits).toBeAllClose(whole.slice(0, logits.length), {atol: 2e-5});
      expect(encode.mock.calls.map(([{shape}]) => shape[0])).toEqual([1, 1]);
      encode.mockRestore();
      cache.dispose();
    });
    prompt.images!.dispose();
  });
});

describe('prefill', () => {
  let lm: Gemma3CausalLM;
  beforeAll(() => {
    lm = smallModel();
    tf.dispose(lm.predict({token_ids: [[2]], padding_mask: [[1]]}));
  });
  afterAll(() => lm.dispose());

  test('runs the head only once, and reports progress', async () => {
    await expectNoLeak(async () => {
      const [head, progress] = [jest.spyOn(lm, 'logits'), [] as PrefillProgress[]];
      const {calls, stop} = watch(lm);
      const cache = lm.newCache(2, 20);
      const prompts = [text(10, 1), text(3, 2)];
      const onPrefill = (reported: PrefillProgress) => progress.push(reported);
      const logits = await prefill(lm, prompts, cache, {prefillChunk: 4, onPrefill});
      expect(head.mock.calls.map(([{shape}]) => shape)).toEqual([[2, 16]]);
      expect(calls.map(({counts}) => counts)).toEqual([
        [4, 3],
        [4, 0],
        [2, 0],
      ]);
      expect(progress).toEqual([7, 11, 13].map(tokens => ({tokens, total: 13})));
      stop();
      head.mockRestore();
      logits.dispose();
      cache.dispose();
    });
  });

  test('can be aborted between chunks', async () => {
    await expectNoLeak(async () => {
      const {calls, stop} = watch(lm);
      const controller = new AbortController();
      const cache = lm.newCache(1, 20);
      const onPrefill = () => void setImmediate(() => controller.abort(new Error('enough')));
      const {signal} = controller;
      const running = prefill(lm, [text(20, 1)], cache, {prefillChunk: 4, onPrefill, signal});
      await expect(running).rejects.toThrow('enough');
      expect(calls.length).toBeLessThan(4);
      stop();
      cache.dispose();
    });
  });

  test('lets other code run between the blocks of the model and of the vision encoder', async () => {
    const now = jest.spyOn(performance, 'now');
    let clock = 0;
    // Every reading of the clock advances it by more than a turn may take.
    now.mockImplementation(() => (clock += 60));
    const seeing = smallModel({vision: true});
    await expectNoLeak(async () => {
      let turns = 0;
      let counting = true;
      const count = () => {
        turns += 1;
        if (counting) setImmediate(count);
      };
      setImmediate(count);
      const prompt = withImages(12, [1], 3);
      const cache = seeing.newCache(1, 40);
      const {calls, stop} = watch(seeing);
      const logits = await prefill(seeing, [prompt], cache, {prefillChunk: 40});
      counting = false;
      stop();
      expect(calls).toHaveLength(1);
      // Seven blocks, and one layer of the vision encoder with its norm.
      expect(turns).toBeGreaterThanOrEqual(8);
      tf.dispose([logits, prompt.images!]);
      cache.dispose();
    });
    now.mockRestore();
    seeing.dispose();
  });

  test('pieces of 512 tokens, unless the caller chooses', async () => {
    const lengths = async (options: object) => {
      const {calls, stop} = watch(lm);
      const cache = lm.newCache(1, 600);
      (await prefill(lm, [text(600, 1)], cache, options)).dispose();
      cache.dispose();
      stop();
      return calls.map(({counts}) => counts[0]);
    };
    expect(await lengths({})).toEqual([512, 88]);
    expect(await lengths({prefillChunk: 200})).toEqual([200, 200, 200]);
  });

  test('can be aborted within a piece, and leaves nothing behind', async () => {
    const now = jest.spyOn(performance, 'now');
    let clock = 0;
    now.mockImplementation(() => (clock += 60));
    await expectNoLeak(async () => {
      const controller = new AbortController();
      const cache = lm.newCache(1, 100);
      const onPrefill = jest.fn();
      setImmediate(() => controller.abort(new Error('enough')));
      const running = prefill(lm, [text(100, 1)], cache, {onPrefill, signal: controller.signal});
      await expect(running).rejects.toThrow('enough');
      expect(onPrefill).not.toHaveBeenCalled();
      cache.dispose();
    });
    now.mockRestore();
  });

  test('a model that is disposed between two blocks ends with an error, and leaves nothing behind', async () => {
    const now = jest.spyOn(performance, 'now');
    let clock = 0;
    now.mockImplementation(() => (clock += 60));
    const before = tf.memory().numTensors;
    const other = smallModel();
    const cache = other.newCache(1, 40);
    const running = prefill(other, [text(20, 1)], cache);
    setImmediate(() => other.dispose());
    await expect(running).rejects.toThrow('which was disposed');
    cache.dispose();
    now.mockRestore();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('refuses image tokens without images', async () => {
    await expectNoLeak(async () => {
      const cache = lm.newCache(1, 20);
      const prompt = {tokens: [5, 4, 6], visionMask: [false, true, false]};
      await expect(prefill(lm, [prompt], cache)).rejects.toThrow(
        /one token for each part.*0 parts in 0 tensors.*1 tokens/,
      );
      cache.dispose();
    });
  });

  test('finds the last position that is not inside an image', () => {
    const prompt = {tokens: [], visionMask: [false, true, true, true, false]};
    expect([0, 1, 2, 3, 4, 5].map(position => outsideImage(prompt, position))).toEqual([0, 1, 1, 1, 4, 5]);
  });
});
