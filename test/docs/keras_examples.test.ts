/**
 * The examples of Keras' pages about Gemma3Backbone and Gemma3CausalLMPreprocessor, translated line by line. The
 * packaged preset replaces the large ones they load, and the models they create are small.
 */
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3CausalLMPreprocessor, Gemma3VisionEncoder, useBackend} from '../../src';

beforeAll(async () => {
  await useBackend('simd');
});

const S = '<start_of_image>';

// === Gemma3Backbone ===

const decoder = {
  vocabularySize: 512,
  numLayers: 2,
  numQueryHeads: 2,
  numKeyValueHeads: 1,
  hiddenDim: 16,
  intermediateDim: 32,
  headDim: 8,
  queryHeadDimNormalize: true,
  usePostFfwNorm: true,
  usePostAttentionNorm: true,
  finalLogitSoftCap: null,
  attentionLogitSoftCap: null,
  slidingWindowSize: 1024,
  useSlidingWindowAttention: true,
  layerNormEpsilon: 1e-6,
  dtype: 'bfloat16',
};

/** `length` numbers: `count` ones from `start` on, else zeros. */
const run = (start: number, count: number, length = 300) =>
  Array.from({length}, (_, i) => Number(i >= start && i < start + count));

test('a language model', () => {
  const inputs = {
    token_ids: tf.ones([1, 300], 'int32'),
    padding_mask: tf.tensor2d([run(0, 280)], [1, 300], 'bool'),
  };
  const model = new Gemma3Backbone({...decoder, imageSize: 896, visionEncoder: null});
  expect((model.predict(inputs) as tf.Tensor).shape).toEqual([1, 300, 16]);
  model.dispose();
});

test('a model of vision and language', () => {
  const inputs = {
    images: tf.ones([1, 1, 64, 64, 3]),
    token_ids: tf.ones([1, 300], 'int32'),
    // Images after the text part of the sequence.
    vision_mask: tf.tensor2d([run(30, 256)], [1, 300], 'bool'),
    vision_indices: tf.expandDims(tf.range(30, 286, 1, 'int32'), 0),
    padding_mask: tf.tensor2d([run(0, 286)], [1, 300], 'bool'),
  };
  const visionEncoder = new Gemma3VisionEncoder({
    imageSize: 64,
    patchSize: 4,
    numHeads: 2,
    hiddenDim: 8,
    numLayers: 1,
    intermediateDim: 16,
    outputDim: 16,
    poolSize: 1,
    layerNormEpsilon: 1e-6,
    dtype: 'float32',
  });
  const model = new Gemma3Backbone({...decoder, imageSize: 64, visionEncoder});
  expect((model.predict(inputs) as tf.Tensor).shape).toEqual([1, 300, 16]);
  model.dispose();
});

// === Gemma3CausalLMPreprocessor ===

describe('the preprocessor', () => {
  let preprocessor: Gemma3CausalLMPreprocessor;
  beforeAll(async () => {
    preprocessor = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
  });
  const image = () => tf.ones([896, 896, 3]) as tf.Tensor3D;

  test.each([
    ['unbatched inputs', {prompts: 'What is the capital of India?', responses: 'New Delhi'}],
    [
      'batched inputs',
      {
        prompts: ['What is the capital of India?', 'What is the capital of Spain?'],
        responses: ['New Delhi', 'Madrid'],
      },
    ],
  ])('only text: %s', async (_, inputs) => {
    const batch = Array.isArray(inputs.prompts) ? [2] : [];
    const {x, y} = await preprocessor.call(inputs);
    expect(x.token_ids.shape).toEqual([...batch, 256]);
    expect(x.images!.shape).toEqual([...batch, 0, 64, 64, 3]);
    expect(x.vision_indices!.shape).toEqual([...batch, 0]);
    expect(y.shape).toEqual([...batch, 256]);
  });

  test('a language model needs no images', async () => {
    const {tokenizer} = preprocessor;
    const textual = new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 64});
    const {x} = await textual.call({prompts: 'What is the capital of India?', responses: 'New Delhi'});
    expect(Object.keys(x)).toEqual(['token_ids', 'padding_mask']);
  });

  test('tokens for generation, and outputs as strings', async () => {
    const x = await preprocessor.generatePreprocess(['The quick brown fox jumped.']);
    expect(await preprocessor.generatePostprocess(x)).toEqual(['The quick brown fox jumped.']);
  });

  test('unbatched, with one image', async () => {
    const {x} = await preprocessor.call({prompts: `this is a lily ${S}`, responses: 'pristine!', images: image()});
    expect([x.images!.shape, x.vision_indices!.shape]).toEqual([[2, 64, 64, 3], [32]]);
  });

  test('unbatched, with two images', async () => {
    const {x} = await preprocessor.call({
      prompts: `lily: ${S}, sunflower: ${S}`,
      responses: 'pristine!',
      images: [image(), image()],
    });
    expect(x.images!.shape).toEqual([2, 64, 64, 3]);
  });

  test.each([
    ['one image per prompt', () => [image(), image()]],
    ['written in another way', () => [[image()], [image()]]],
  ])('batched: %s', async (_, images) => {
    const {x} = await preprocessor.call({
      prompts: [`this is a lily: ${S}`, `this is a sunflower: ${S}`],
      responses: ['pristine!', 'radiant!'],
      images: images(),
    });
    expect(x.images!.shape).toEqual([2, 2, 64, 64, 3]);
  });

  test('a different number of images in each sample', async () => {
    const inputs = {
      prompts: [`Who is this singer: ${S}?`, `Who are these musicians ${S}, ${S}?`],
      responses: ['Arijit Singh', 'John Lennon, Paul Mccartney'],
    };
    // The page has the images the other way round, which KerasHub accepts silently.
    const asOnThePage = {...inputs, images: [[image(), image()], [image()]]};
    await expect(preprocessor.call(asOnThePage)).rejects.toThrow(/2 images, but <start_of_image> 1 times in prompt 0/);
    const {x} = await preprocessor.call({...inputs, images: [[image()], [image(), image()]]});
    expect(x.images!.shape).toEqual([2, 2, 64, 64, 3]);
  });

  test('samples with two images, one and none', async () => {
    const small = () => tf.ones([10, 10, 3]) as tf.Tensor3D;
    const {x} = await preprocessor.call({
      prompts: [`Who are these two: ${S}, ${S}`, `Who is this: ${S}?`, 'What is the capital of India?'],
      responses: ['John Lennon, Paul Mccartney', 'Arijit Singh', 'New Delhi'],
      images: [[small(), small()], [small()], []],
    });
    expect(x.images!.shape).toEqual([3, 2, 64, 64, 3]);
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    expect((lm.predict(x as never) as tf.Tensor).shape).toEqual([3, 256, 2048]);
    lm.dispose();
  });
});
