/** Generation from images against Python KerasHub (test/reference/make_vision_generation_fixtures.py). */
import * as tf from '@tensorflow/tfjs';
import {Gemma3CausalLM, type PromptImages, useBackend} from '../../../src';
import {onEveryBackend} from '../../support/backends';
import {fixture, fixtureJson, fixtureNames, tinyPicture} from '../../support/fixtures';
import {expectNoLeak} from '../../support/numbers';

interface Inputs {
  token_ids: number[][];
  padding_mask: number[][];
  vision_indices: number[][];
  vision_mask: number[][];
  images: {shape: number[]; values: number[]};
}
interface Expected extends Inputs {
  runs: {stop_token_ids: number[] | null; token_ids: number[][]; padding_mask: number[][]}[];
}

interface Uneven extends Inputs {
  ends_with_image: boolean[];
  /** The first new tokens of each row in a batch with KerasHub's cache, and without a cache. */
  generated: number[][];
  without_cache: number[][];
}

interface Batch {
  prompts: string | string[];
  images: string[] | string[][] | null;
  texts: string | string[];
}
const {cases, max_length: maxLength} = fixtureJson<{cases: Batch[]; max_length: number}>('tiny_preset/batches.json');
/** KerasHub answers a prompt about an image that was not passed; here it is an error. */
const unmatched = ({prompts, images}: Batch) => images === null && [prompts].flat().join().includes('<start_of_image>');
const batches = cases.filter(batch => !unmatched(batch));

const paths = (images: Batch['images']): PromptImages | undefined =>
  images?.map(image => (Array.isArray(image) ? image.map(tinyPicture) : tinyPicture(image)));

const modelInputs = ({token_ids, padding_mask, images, vision_indices, vision_mask}: Inputs) => ({
  token_ids: tf.tensor2d(token_ids, undefined, 'int32'),
  padding_mask: tf.tensor2d(padding_mask, undefined, 'bool'),
  images: tf.tensor(images.values, images.shape),
  vision_indices: tf.tensor2d(vision_indices, undefined, 'int32'),
  vision_mask: tf.tensor2d(vision_mask, undefined, 'bool'),
});

onEveryBackend(({fast}) => {
  // === Random models, token ids ===

  test.each(fixtureNames('vision_generation'))('%s continues as KerasHub', async name => {
    const expected = fixtureJson<Expected>(`vision_generation/${name}/expected.json`);
    await expectNoLeak(async () => {
      const lm = await Gemma3CausalLM.fromPreset(fixture(`vision_generation/${name}`), {preprocessor: null});
      const inputs = modelInputs(expected);
      for (const run of expected.runs) {
        const out = await lm.generate(inputs, {stopTokenIds: run.stop_token_ids});
        const [ids, mask] = [(await out.token_ids.array()) as number[][], await out.padding_mask.array()];
        expect(mask).toEqual(run.padding_mask);
        // Tokens that KerasHub wrote after a stop token are not part of the text.
        const kept = (rows: number[][]) => rows.map((row, i) => row.filter((_, t) => run.padding_mask[i]![t]));
        expect(kept(ids)).toEqual(kept(run.token_ids));
        tf.dispose([out.token_ids, out.padding_mask]);
      }
      tf.dispose(inputs);
      lm.dispose();
    });
  });

  test('images at the end of a prompt, and after the end of a shorter one, stay images', async () => {
    const {
      generated,
      without_cache: whole,
      ends_with_image: imageLast,
      ...expected
    } = fixtureJson<Uneven>('vision_generation/small_images/uneven.json');
    // KerasHub steps through the longer prompts of a batch, from text in place of an image.
    imageLast.forEach((last, i) => expect(JSON.stringify(generated[i]) === JSON.stringify(whole[i])).toBe(!last));
    const lm = await Gemma3CausalLM.fromPreset(fixture('vision_generation/small_images'), {preprocessor: null});
    const inputs = modelInputs(expected);
    const {token_ids: ids, padding_mask: mask} = await lm.generate(inputs, {stopTokenIds: null});
    const rows = (await ids.array()) as number[][];
    const starts = expected.padding_mask.map(row => row.reduce((a, b) => a + b));
    expect(rows.map((row, i) => row.slice(starts[i], starts[i]! + whole[i]!.length))).toEqual(whole);
    tf.dispose([ids, mask, ...Object.values(inputs)]);
    lm.dispose();
  });

  // === The preset in the package ===

  describe('gemma3_tiny', () => {
    let lm: Gemma3CausalLM;
    beforeAll(async () => {
      lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    });
    afterAll(() => lm.dispose());

    test.each(batches)('answers $prompts about $images as KerasHub', async ({prompts, images, texts}) => {
      await expectNoLeak(async () => {
        expect(await lm.generate({prompts, images: paths(images)}, {maxLength})).toEqual(texts);
      });
    });

    test.each(cases.filter(unmatched))('refuses $prompts without images', async ({prompts}) => {
      const message = /Received: 0 images, but <start_of_image> 1 times in prompt 0/;
      await expectNoLeak(async () => {
        await expect(lm.generate(prompts as string)).rejects.toThrow(message);
        for (const images of [undefined, null]) {
          await expect(lm.generate({prompts, images})).rejects.toThrow(message);
          await expect(lm.stream({prompts, images}).next()).rejects.toThrow(message);
        }
        const batch = ['Hello!', prompts as string];
        await expect(lm.generate(batch)).rejects.toThrow(/1 times in prompt 1/);
        await expect(lm.evaluate({prompts: batch, responses: ['a', 'b']})).rejects.toThrow(/1 times in prompt 1/);
      });
    });

    test('streams the text that it generates', async () => {
      const single = batches.filter(({prompts}) => typeof prompts === 'string');
      // The same texts again: where that takes long, one of them.
      for (const {prompts, images, texts} of single.slice(0, fast ? undefined : 1)) {
        await expectNoLeak(async () => {
          let text = '';
          const given = {prompts, images: paths(images)};
          for await (const piece of lm.stream(given, {maxLength, stripPrompt: false})) text += piece;
          expect(text).toBe(texts);
        });
      }
    });

    test('takes the tensors of a preprocessor when it has none itself', async () => {
      await expectNoLeak(async () => {
        const bare = new Gemma3CausalLM({backbone: lm.backbone});
        const stopTokenIds = [lm.preprocessor!.tokenizer.endTokenId];
        // One prompt with one picture, and several prompts with different numbers of pictures.
        for (const {prompts, images, texts} of [batches[0]!, batches[5]!]) {
          const inputs = await lm.preprocessor!.generatePreprocess(
            {prompts, images: paths(images)},
            {sequenceLength: maxLength},
          );
          const out = await bare.generate(inputs, {stopTokenIds});
          expect(out.token_ids.shape).toEqual(inputs.token_ids.shape);
          const found = [await lm.preprocessor!.generatePostprocess(out)].flat();
          // The end of a turn is not a stop token here, so chats continue after the expected text.
          [texts].flat().forEach((text, i) => expect(found[i]!.startsWith(text)).toBe(true));
          tf.dispose([inputs as never, out.token_ids, out.padding_mask]);
        }
        bare.dispose();
      });
    });

    test('leaves no tensors behind when the loop is left early or the input is refused', async () => {
      const given = {prompts: '<start_of_image> a', images: tinyPicture('red_circle')};
      await expectNoLeak(async () => {
        for await (const piece of lm.stream(given)) if (piece) break;
        const several = {prompts: [given.prompts], images: [given.images]};
        await expect(lm.stream(several).next()).rejects.toThrow(/one prompt to stream/);
        await expect(lm.stream(given, {signal: AbortSignal.abort(new Error('enough'))}).next()).rejects.toThrow(
          'enough',
        );
        await expect(lm.generate(given, {stopTokenIds: 'x' as never})).rejects.toThrow(
          /"auto", null or a list of token ids/,
        );
        await expect(lm.generate(given, {maxLength: 8})).rejects.toThrow(/room for the 16 tokens .* `maxLength`/);
      });
    });
  });
});

// === Every shape in every colour ===

interface Picture {
  shape: string;
  colour: number[];
  background: number[];
  width: number;
  height: number;
  cx: number;
  cy: number;
  r: number;
}

/** Draws as `draw` in scripts/tiny_preset/data.py does: a pixel belongs to the shape if its centre does. */
function draw({shape, colour, background, width, height, cx, cy, r}: Picture): tf.Tensor3D {
  const values = new Float32Array(width * height * 3);
  for (let i = 0; i < width * height; i++) {
    const [dx, dy] = [(i % width) + 0.5 - cx, Math.floor(i / width) + 0.5 - cy];
    const [ax, ay, distance] = [Math.abs(dx), Math.abs(dy), dx * dx + dy * dy];
    const inside: Record<string, boolean> = {
      circle: distance <= r * r,
      square: Math.max(ax, ay) <= 0.85 * r,
      triangle: dy <= 0.75 * r && ax <= (dy + r) * 0.6,
      diamond: ax + ay <= r,
      cross: Math.min(ax, ay) <= 0.24 * r && Math.max(ax, ay) <= r,
      ring: distance <= r * r && distance >= 0.3 * r * r,
    };
    values.set(inside[shape] ? colour : background, i * 3);
  }
  return tf.tensor3d(values, [height, width, 3]);
}

test('names every shape in every colour as KerasHub does, all in one batch', async () => {
  await useBackend('simd');
  const {cases} = fixtureJson<{
    cases: {prompt: string; pictures: Picture[]; text: string}[];
  }>('tiny_preset/images.json');
  await expectNoLeak(async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    const images = cases.map(({pictures}) => pictures.map(draw));
    const texts = await lm.generate({prompts: cases.map(({prompt}) => prompt), images}, {maxLength});
    expect(texts).toEqual(cases.map(({text}) => text));
    tf.dispose(images);
    lm.dispose();
  });
});

describe('tensors that do not match', () => {
  const ids = [1, 2, 3, 4];
  const row = (values: number[], dtype: 'int32' | 'bool' = 'int32') => tf.tensor1d(values, dtype);
  const whole = {
    token_ids: row(ids),
    padding_mask: row([1, 1, 1, 0], 'bool'),
    images: tf.zeros([1, 8, 8, 3]),
    vision_indices: row([1, 2]),
    vision_mask: row([0, 1, 1, 0], 'bool'),
  };
  test.each<[object, RegExp]>([
    [{images: undefined}, /all or none, without the first axis for a single text. Received: images missing/],
    [{vision_mask: row([0, 1])}, /vision_mask \[2\]/],
    [{images: tf.zeros([2, 8, 8, 3]), vision_indices: row([1, 2, 0])}, /vision_indices \[3\]/],
    [{vision_mask: row([0, 1, 0, 0])}, /Expected 2 tokens in vision_mask .* at most 1 images. Received: 1 in row 0/],
    [{pixels: tf.zeros([1])}, /expected {token_ids, padding_mask} as tensors or nested arrays, with images also/],
  ])('are refused: %p', async (change, message) => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {preprocessor: null});
    await expect(lm.generate({...whole, ...change}, {stopTokenIds: null})).rejects.toThrow(message);
    lm.dispose();
  });
});
