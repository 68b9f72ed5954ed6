/**
 * KerasHub's own unit tests of preprocessing for Gemma 3, with their numbers: `gemma3_causal_lm_preprocessor_test.py`,
 * `gemma3_text_embedder_preprocessor_test.py`, `gemma3_tokenizer_test.py`, `image_converter_test.py`, and the generation
 * of `gemma3_causal_lm_test.py`.
 */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3ImageConverter,
  Gemma3TextEmbedderPreprocessor,
  ImageConverter,
} from '../../../src';
import {kerasHubTestTokenizer} from '../../support/kerashub_tokenizer';
import {take} from '../../support/numbers';

const tokenizer = kerasHubTestTokenizer();
const padded = (length: number, ...ids: number[]) => [...ids, ...new Array<number>(length - ids.length).fill(0)];
const times = (count: number, id: number) => new Array<number>(count).fill(id);
const arrays = async (tensors: object): Promise<Record<string, unknown>> =>
  Object.fromEntries(
    await Promise.all(
      Object.entries(tensors).map(async ([name, x]) => [name, await (x as tf.Tensor).array()] as const),
    ),
  );

describe('gemma3_causal_lm_preprocessor_test.py', () => {
  const text = {tokenizer, sequenceLength: 8};
  const withImages = {
    ...{tokenizer, sequenceLength: 20, maxImagesPerPrompt: 2, numVisionTokensPerImage: 5},
    imageConverter: new Gemma3ImageConverter({imageSize: [4, 4]}),
  };
  // The tokenizer there separates tokens by spaces.
  const prompt = 'the quick brown fox<start_of_image>';
  const image = tf.ones<tf.Rank.R3>([8, 8, 3]);
  const start = [1, 9, 14, 10, 12, 16, 4, ...times(5, 8), 5, 16];

  test('text preprocessor basics', async () => {
    const batch = {prompts: ['the quick brown fox'], responses: ['round']};
    const {x, y, sampleWeight} = await new Gemma3CausalLMPreprocessor(text).call(batch);
    expect(await arrays({...x, y, sampleWeight})).toEqual({
      token_ids: [[1, 9, 14, 10, 12, 15, 2, 0]],
      padding_mask: [[1, 1, 1, 1, 1, 1, 1, 0]],
      y: [[9, 14, 10, 12, 15, 2, 0, 0]],
      sampleWeight: [[0, 0, 0, 0, 1, 1, 0, 0]],
    });
  });

  test('preprocessor basics', async () => {
    const batch = {prompts: [prompt], responses: ['round'], images: [[image]]};
    const {x, y, sampleWeight} = await new Gemma3CausalLMPreprocessor(withImages).call(batch);
    const {images, ...rest} = x;
    expect(images!.shape).toEqual([1, 2, 4, 4, 3]);
    const ids = [...start, 15, 2];
    expect(await arrays({...rest, y, sampleWeight})).toEqual({
      vision_indices: [padded(10, 7, 8, 9, 10, 11)],
      vision_mask: [padded(20, ...times(7, 0), ...times(5, 1))],
      token_ids: [padded(20, ...ids)],
      padding_mask: [padded(20, ...times(16, 1))],
      y: [padded(20, ...ids.slice(1))],
      sampleWeight: [padded(20, ...times(13, 0), 1, 1)],
    });
  });

  test('no start and end token', async () => {
    const preprocessor = new Gemma3CausalLMPreprocessor({...text, addStartToken: false, addEndToken: false});
    const batch = {
      prompts: new Array<string>(4).fill('the quick brown fox'),
      responses: new Array<string>(4).fill('round'),
    };
    const {x, y, sampleWeight} = await preprocessor.call(batch);
    const rows = (...ids: number[]) => new Array(4).fill(padded(8, ...ids)) as number[][];
    expect(await arrays({...x, y, sampleWeight})).toEqual({
      token_ids: rows(9, 14, 10, 12, 15),
      padding_mask: rows(1, 1, 1, 1, 1),
      y: rows(14, 10, 12, 15),
      sampleWeight: rows(0, 0, 0, 1),
    });
  });

  test('generate preprocess, text', async () => {
    const x = await new Gemma3CausalLMPreprocessor(text).generatePreprocess('the quick brown fox');
    expect(await arrays(x)).toEqual({
      token_ids: [1, 9, 14, 10, 12, 0, 0, 0],
      padding_mask: [1, 1, 1, 1, 1, 0, 0, 0],
    });
  });

  test('generate preprocess, images', async () => {
    const {images, ...rest} = await new Gemma3CausalLMPreprocessor(withImages).generatePreprocess({
      prompts: prompt,
      images: image,
    });
    expect(images!.shape).toEqual([2, 4, 4, 3]);
    expect(await arrays(rest)).toEqual({
      token_ids: padded(20, ...start),
      padding_mask: padded(20, ...times(14, 1)),
      vision_indices: padded(10, 7, 8, 9, 10, 11),
      vision_mask: padded(20, ...times(7, 0), ...times(5, 1)),
    });
  });

  test('generate postprocess, text and images', async () => {
    const preprocessor = new Gemma3CausalLMPreprocessor(text);
    const decode = (length: number, ...ids: number[]) =>
      preprocessor.generatePostprocess({
        token_ids: tf.tensor1d(padded(length, ...ids), 'int32'),
        padding_mask: tf.tensor1d(padded(length, ...times(ids.length, 1)), 'bool'),
      });
    expect(await decode(8, 1, 9, 14, 10, 12)).toBe('the quick brown fox');
    expect(await decode(20, ...start)).toBe('the quick brown fox\n\n<start_of_image>\n\n');
  });

  test('invalid shape', async () => {
    const preprocessor = new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 100});
    const prompts = ['hello world', 'this is testing'];
    await expect(preprocessor.call({prompts, responses: ['']})).rejects.toThrow('2 prompts, 1 responses');
    await expect(preprocessor.call({prompts, responses: ['hello', '', '']})).rejects.toThrow('2 prompts, 3 responses');
  });

  test('prompts of different lengths, without images', async () => {
    const preprocessor = new Gemma3CausalLMPreprocessor(withImages);
    const prompts = ['the quick brown fox', 'the quick'];
    const x = await preprocessor.generatePreprocess(prompts, {sequenceLength: 20});
    expect(await x.token_ids.array()).toEqual([padded(20, 1, 9, 14, 10, 12), padded(20, 1, 9, 14)]);
    expect(x.padding_mask.shape).toEqual([2, 20]);
    const {x: training} = await preprocessor.call({prompts, responses: ['round', 'round']});
    expect(await training.token_ids.array()).toEqual([
      padded(20, 1, 9, 14, 10, 12, 15, 2),
      padded(20, 1, 9, 14, 15, 2),
    ]);
  });
});

describe('gemma3_text_embedder_preprocessor_test.py', () => {
  test('basics: only ids and their mask, with the first and the last token', async () => {
    const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 8});
    expect(await arrays(await preprocessor.call(['the quick brown fox']))).toEqual({
      token_ids: [[1, 9, 14, 10, 12, 2, 0, 0]],
      padding_mask: [[1, 1, 1, 1, 1, 1, 0, 0]],
    });
  });

  test('truncation', async () => {
    const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 4});
    expect((await preprocessor.call(['the quick brown fox'])).token_ids.shape).toEqual([1, 4]);
  });
});

test('gemma3_tokenizer_test.py: basics', () => {
  expect(tokenizer.tokenize(['the quick brown fox', 'the earth is round'])).toEqual([
    [9, 14, 10, 12],
    [9, 11, 13, 15],
  ]);
});

describe('image_converter_test.py', () => {
  const imageSize = [4, 4] as const;
  const scale = [1 / 255, 0.8 / 255, 1.2 / 255];
  const offset = [0.2, -0.1, 0.25];

  test('basics, and images of whole numbers', async () => {
    const converter = new ImageConverter({imageSize, scale: 1 / 255});
    for (const [shape, dtype] of [
      [[2, 10, 10, 3], 'float32'],
      [[10, 10, 3], 'float32'],
      [[10, 10, 3], 'int32'],
    ] as const) {
      const y = await converter.call(tf.fill<tf.Rank>([...shape], 255, dtype) as tf.Tensor3D);
      expect([y.dtype, y.shape]).toEqual(['float32', [...shape.slice(0, -3), 4, 4, 3]]);
      expect(y).toBeAllClose(tf.onesLike(y), {atol: 1e-6});
    }
  });

  test.each([
    [false, false],
    [true, false],
    [false, true],
  ])('a scale and an offset for each channel, cropped: %j, padded: %j', async (cropToAspectRatio, padToAspectRatio) => {
    const converter = new ImageConverter({imageSize, scale, offset, cropToAspectRatio, padToAspectRatio});
    const pixel = [0.701961, 0.301569, 0.852353];
    const one = await converter.call(tf.fill<tf.Rank.R3>([10, 10, 3], 128));
    expect(await take(one)).toBeAllClose(
      times(16, 0).flatMap(() => pixel),
      {atol: 1e-6},
    );
    const batch = await converter.call(tf.fill<tf.Rank.R4>([2, 10, 10, 3], 128));
    expect(batch.shape).toEqual([2, 4, 4, 3]);
    expect(await take(batch)).toBeAllClose(
      times(32, 0).flatMap(() => pixel),
      {atol: 1e-6},
    );
  });

  test('images of different sizes', async () => {
    const converter = new ImageConverter({imageSize, scale: 1 / 255});
    const y = await converter.call([tf.fill<tf.Rank.R3>([10, 10, 3], 255), tf.fill<tf.Rank.R3>([20, 20, 3], 128)]);
    expect(await take(y)).toBeAllClose([...times(48, 1), ...times(48, 128 / 255)], {atol: 1e-6});
  });
});

describe('gemma3_causal_lm_test.py', () => {
  const makeModel = () =>
    new Gemma3CausalLM({
      preprocessor: new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 20}),
      backbone: new Gemma3Backbone({
        ...{vocabularySize: tokenizer.vocabularySize, imageSize: 16, numLayers: 6, numQueryHeads: 2},
        ...{numKeyValueHeads: 1, hiddenDim: 8, intermediateDim: 16, headDim: 4, slidingWindowSize: 1024},
        ...{usePostFfwNorm: true, usePostAttentionNorm: true, useSlidingWindowAttention: true},
      }),
    });

  test.each([
    ['early stopping', {}],
    ['other stop tokens', {stopTokenIds: [3]}],
  ])('%s', async (_, options) => {
    const lm = makeModel();
    const logits = lm.logits.bind(lm);
    // Only <eos> is likely, which has no text.
    const end = tf.oneHot(tf.scalar(tokenizer.endTokenId, 'int32'), 17, 1e9, 0);
    lm.logits = hidden => tf.tidy(() => tf.add(logits(hidden), end));
    const prompts = ['the quick brown fox', 'the quick'];
    expect(await lm.generate(prompts, options)).toEqual(prompts);
    lm.dispose();
  });

  test('basics: the shape of logits', async () => {
    const lm = makeModel();
    const prompts = ['the quick brown fox', 'the quick brown fox'];
    const {x} = await lm.preprocessor!.call({prompts, responses: ['the earth is round', 'the earth is round']});
    expect((lm.predict(x as never) as tf.Tensor).shape).toEqual([2, 20, 17]);
    lm.dispose();
  });
});
