/**
 * The examples of Keras' pages about Gemma 3, translated line by line: backbone, language model, preprocessors,
 * tokenizer, vision encoder, image converter, text embedder, mean pooling. The packaged preset replaces the large ones
 * they load, and the models they create are small.
 */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3ImageConverter,
  Gemma3MeanPooling,
  Gemma3TextEmbedder,
  Gemma3TextEmbedderPreprocessor,
  Gemma3Tokenizer,
  Gemma3VisionEncoder,
  useBackend,
} from '../../src';
import {fixtureBytes} from '../support/fixtures';

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
} as const;

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

// === CausalLM ===

test('generate with two samplers, also at bfloat16 precision', async () => {
  let lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
  lm.compile({sampler: 'top_k'});
  expect(await lm.generate('Keras is a', {maxLength: 16})).toMatch(/^Keras is a/);
  lm.dispose();
  lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {dtype: 'bfloat16'});
  lm.compile({sampler: 'greedy'});
  expect(await lm.generate('Keras is a', {maxLength: 16})).toMatch(/^Keras is a/);
  lm.dispose();
});

// === Gemma3Tokenizer ===

test('the tokenizer', async () => {
  let tokenizer = await Gemma3Tokenizer.fromPreset('gemma3_tiny');
  const ids = tokenizer.tokenize('The quick brown fox jumped.') as number[];
  const batch = tokenizer.tokenize(['The quick brown fox jumped.', 'The fox slept.']) as number[][];
  expect(batch[0]).toEqual(ids);
  expect(batch).toHaveLength(2);
  expect(tokenizer.detokenize(ids)).toBe('The quick brown fox jumped.');

  // A custom vocabulary. The page trains one of type "WORD"; models of that type are no Gemma vocabulary.
  tokenizer = new Gemma3Tokenizer({proto: fixtureBytes('tokenizer/vocabulary.spm')});
  const own = tokenizer.tokenize('The quick brown fox jumped.') as number[];
  expect(tokenizer.detokenize(own)).toBe('The quick brown fox jumped.');
});

// === Gemma3VisionEncoder ===

test('the vision encoder', () => {
  // The page passes only `image_size`, but the others are required there, too.
  const vitModel = new Gemma3VisionEncoder({
    imageSize: 56,
    patchSize: 14,
    numHeads: 2,
    hiddenDim: 8,
    numLayers: 1,
    intermediateDim: 16,
    outputDim: 12,
    poolSize: 2,
  });
  const image = tf.randomUniform([56, 56, 3]);
  // Here, images have a batch axis and an axis for the images of a row.
  const output = vitModel.apply(tf.reshape(image, [1, 1, 56, 56, 3])) as tf.Tensor;
  expect(output.shape).toEqual([1, vitModel.numVisionTokensPerImage, 12]);
});

// === Gemma3ImageConverter ===

test('the image converter', async () => {
  const batch = tf.randomUniformInt([2, 51, 51, 3], 0, 256).toInt() as tf.Tensor4D;
  let converter = new Gemma3ImageConverter({imageSize: [12, 12], scale: 1 / 255});
  const scaled = await converter.call(batch);
  expect(scaled.shape).toEqual([2, 12, 12, 3]);
  expect(scaled.max().dataSync()[0]).toBeLessThanOrEqual(1);
  converter = await Gemma3ImageConverter.fromPreset('gemma3_tiny');
  expect((await converter.call(batch)).shape).toEqual([2, 64, 64, 3]);
  converter = await Gemma3ImageConverter.fromPreset('gemma3_tiny', {cropToAspectRatio: false});
  expect((await converter.call(batch)).shape).toEqual([2, 64, 64, 3]);
});

// === Gemma3TextEmbedder ===

test('semantic search with the text embedder', async () => {
  const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny');
  const query = 'Which planet is known as the Red Planet?';
  const documents = ['Mars is often referred to as the Red Planet.', "Venus is often called Earth's twin."];
  const queries = await embedder.encodeText(
    `Instruct: Given a web search query, retrieve relevant passages\nQuery: ${query}`,
  );
  const vectors = await embedder.encodeText(documents);
  const similarities = embedder.similarity(queries, vectors);
  expect(similarities.shape).toEqual([1, 2]);
  expect(documents[(await similarities.argMax(-1).data())[0]!]).toEqual(expect.any(String));
  embedder.dispose();
});

test('the text embedder on preprocessed data', async () => {
  const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', {preprocessor: null});
  const features = {token_ids: tf.ones([2, 12], 'int32'), padding_mask: tf.ones([2, 12], 'int32')};
  // The model of the page has no vision; this one has, so it also takes images: none.
  const none = {
    images: tf.zeros([2, 0, 64, 64, 3]),
    vision_indices: tf.zeros([2, 0], 'int32'),
    vision_mask: tf.zeros([2, 12], 'int32'),
  };
  const embeddings = embedder.predict({...features, ...none}) as tf.Tensor;
  expect(embeddings.shape).toEqual([2, embedder.backbone.config.hiddenDim]);
  embedder.dispose();
});

// === Gemma3TextEmbedderPreprocessor ===

test("the embedder's preprocessor, also in a dataset", async () => {
  const preprocessor = await Gemma3TextEmbedderPreprocessor.fromPreset('gemma3_tiny');
  const {sequenceLength} = preprocessor;
  expect((await preprocessor.call('The quick brown fox jumped.')).token_ids.shape).toEqual([sequenceLength]);
  const first = ['The quick brown fox jumped.', 'Call me Ishmael.'];
  expect((await preprocessor.call(first)).token_ids.shape).toEqual([2, sequenceLength]);
  const dataset = tf.data.array(first).mapAsync(async text => preprocessor.call(text as unknown as string) as never);
  const rows = (await dataset.toArray()) as unknown as {token_ids: tf.Tensor}[];
  expect(rows.map(row => row.token_ids.shape)).toEqual([[sequenceLength], [sequenceLength]]);
});

// === Gemma3MeanPooling ===

test('mean pooling', () => {
  const sequenceOutput = tf.randomUniform([2, 4, 8]);
  const paddingMask = tf.tensor2d(
    [
      [1, 1, 1, 0],
      [1, 1, 0, 0],
    ],
    [2, 4],
    'int32',
  );
  const pooled = new Gemma3MeanPooling().apply([sequenceOutput, paddingMask]) as tf.Tensor;
  expect(pooled.shape).toEqual([2, 8]);
  expect(pooled).toBeAllClose(
    tf.stack([
      sequenceOutput.slice([0, 0, 0], [1, 3, 8]).mean([0, 1]),
      sequenceOutput.slice([1, 0, 0], [1, 2, 8]).mean([0, 1]),
    ]),
  );
});
