/**
 * Arrays of numbers wherever tensors are accepted, and what a preprocessor returns as inputs of a model. Results must
 * equal those of tensors, which other tests compare with KerasHub.
 */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3TextEmbedder,
  Gemma3TextEmbedderPreprocessor,
  Gemma3Tokenizer,
  useBackend,
  ValueError,
} from '../../src';
import {fixtureBytes} from '../support/fixtures';
import {expectNoLeak, take} from '../support/numbers';
import {smallModel} from '../support/small_model';

const IDS = [
  [2, 5, 7, 9],
  [2, 8, 0, 0],
];
const MASK = [
  [1, 1, 1, 1],
  [1, 1, 0, 0],
];
const shaped = (rows: number[][]) => ({data: Int32Array.from(rows.flat()), shape: [rows.length, rows[0]!.length]});
const tensor = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

describe('a language model', () => {
  let lm: Gemma3CausalLM;
  beforeAll(() => (lm = smallModel()));
  afterAll(() => lm.dispose());

  test('predicts from arrays, and from what its preprocessor returns for one text or several', async () => {
    await expectNoLeak(async () => {
      const inputs = {token_ids: tensor(IDS), padding_mask: tensor(MASK)};
      const expected = await take(lm.predict(inputs) as tf.Tensor);
      for (const x of [
        {token_ids: IDS, padding_mask: MASK},
        {token_ids: shaped(IDS), padding_mask: shaped(MASK)},
      ]) {
        expect(await take(lm.predict(x) as tf.Tensor)).toEqual(expected);
      }
      const [one, several] = [
        await lm.preprocessor!.generatePreprocess('Hi'),
        await lm.preprocessor!.generatePreprocess(['Hi']),
      ];
      expect([one.token_ids.shape, several.token_ids.shape]).toEqual([[64], [1, 64]]);
      const y = lm.predict(one) as tf.Tensor;
      expect(y.shape).toEqual([1, 64, lm.backbone.vocabularySize]);
      expect(await take(y)).toEqual(await take(lm.predict(several) as tf.Tensor));
      tf.dispose([inputs, one, several]);
    });
  });

  test('generates from arrays without a preprocessor, and decodes them', async () => {
    const bare = new Gemma3CausalLM({backbone: lm.backbone});
    await expectNoLeak(async () => {
      const inputs = {token_ids: tensor(IDS), padding_mask: tensor(MASK)};
      const expected = await bare.generate(inputs, {stopTokenIds: null});
      const received = await bare.generate({token_ids: IDS, padding_mask: shaped(MASK)}, {stopTokenIds: null});
      expect(await received.token_ids.array()).toEqual(await expected.token_ids.array());
      const {preprocessor} = lm;
      const texts = await preprocessor!.generatePostprocess(expected);
      const arrays = {
        token_ids: (await expected.token_ids.array()) as number[][],
        padding_mask: (await expected.padding_mask.array()) as number[][],
      };
      expect(await preprocessor!.generatePostprocess(arrays)).toEqual(texts);
      const [ids] = arrays.token_ids;
      const {tokenizer} = preprocessor!;
      expect(tokenizer.detokenize(Int32Array.from(ids!))).toBe(tokenizer.detokenize(ids!));
      expect(tokenizer.detokenize(shaped(arrays.token_ids))).toEqual(tokenizer.detokenize(arrays.token_ids));
      tf.dispose([inputs, expected, received]);
    });
    await expectNoLeak(async () => {
      const ragged = {token_ids: [[2, 5], [2]], padding_mask: MASK};
      await expect(bare.generate(ragged)).rejects.toThrow('token_ids[0] of length 2, but token_ids[1] of length 1.');
      await expect(bare.generate({token_ids: IDS, padding_mask: [[1, 1]]})).rejects.toThrow('Received: [2,4], [1,2].');
      await expect(bare.generate({token_ids: IDS} as never)).rejects.toThrow('Received: token_ids.');
      await expect(lm.preprocessor!.generatePostprocess({token_ids: IDS, padding_mask: [1]})).rejects.toThrow(
        ValueError,
      );
      expect(() => lm.preprocessor!.tokenizer.detokenize([[2], 'a'] as never)).toThrow('Received: "a" at [1].');
    });
    bare.dispose();
  });

  test('scores arrays', async () => {
    await expectNoLeak(async () => {
      const args = {tokenIds: tensor(IDS), paddingMask: tensor(MASK), targetIds: tensor(IDS)};
      const expected = await take(lm.score({...args, scoringMode: 'loss'}));
      const arrays = {tokenIds: IDS, paddingMask: shaped(MASK), targetIds: IDS};
      expect(await take(lm.score({...arrays, scoringMode: 'loss'}))).toEqual(expected);
      tf.dispose(Object.values(args));
    });
    expect(() => lm.score({tokenIds: [[2, 5], [2]]})).toThrow('tokenIds[1] of length 1');
    expect(() => lm.score({tokenIds: IDS, paddingMask: [[1]]})).toThrow(
      '`paddingMask` of the shape of tokenIds, [2,4].',
    );
  });

  test('is evaluated on what its preprocessor returns, for one text or several', async () => {
    await expectNoLeak(async () => {
      const losses: number[] = [];
      for (const texts of [
        {prompts: 'a', responses: 'b c'},
        {prompts: ['a'], responses: ['b c']},
      ]) {
        const {x, y, sampleWeight} = await lm.preprocessor!.call(texts);
        losses.push((await lm.testOnBatch(x, y, sampleWeight)) as number);
        const evaluated = (await lm.evaluate(x, y, {sampleWeight})) as tf.Scalar;
        losses.push((await evaluated.data())[0]!);
        tf.dispose([Object.values(x), y, sampleWeight, evaluated]);
      }
      losses.push((await lm.testOnBatch({prompts: ['a'], responses: ['b c']})) as number);
      expect(losses).toEqual(losses.map(() => losses[0]));
    });
  });
});

describe('images', () => {
  const red = Array.from({length: 4}, () => Array.from({length: 6}, () => [250, 10, 20]));
  const blue = Array.from({length: 5}, () => Array.from({length: 3}, () => [0, 0, 255]));
  const prompts = ['<start_of_image> What is in the picture?', '<start_of_image> What is in the picture?'];

  test('are the same as arrays and as tensors: alone, in lists, for several prompts', async () => {
    const preprocessor = await Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
    const pixels = async (images: unknown, texts: string | string[]) => {
      const x = await preprocessor.generatePreprocess({prompts: texts, images: images as never});
      const found = Array.from(await x.images!.data());
      tf.dispose(Object.values(x));
      return found;
    };
    const [first, second] = [tf.tensor3d(red), tf.tensor3d(blue)];
    await expectNoLeak(async () => {
      const one = await pixels(first, prompts[0]!);
      const flat = {data: red.flat(2), shape: [4, 6, 3]};
      for (const image of [red, [red], flat, [flat]]) expect(await pixels(image, prompts[0]!)).toEqual(one);
      const both = await pixels([first, second], prompts);
      for (const images of [
        [red, blue],
        [[red], [blue]],
        [flat, blue],
      ])
        expect(await pixels(images, prompts)).toEqual(both);
      const twice = await pixels([first, first], prompts);
      const pair = {data: Float32Array.from([...flat.data, ...flat.data]), shape: [2, 4, 6, 3]};
      expect(await pixels(pair, prompts)).toEqual(twice);
      await expect(pixels([red], prompts)).rejects.toThrow('Received: a list of 1.');
      await expect(pixels(red, prompts)).rejects.toThrow('Received: one image.');
      await expect(pixels([[[red]]], prompts[0]!)).rejects.toThrow('Received: an array with 5 axes.');
      await expect(
        pixels(
          [
            [
              [1, 2, 3],
              [1, 2],
            ],
          ],
          prompts[0]!,
        ),
      ).rejects.toThrow('images[0][1] of length 2.');
    });
    const converter = preprocessor.imageConverter!;
    await expectNoLeak(async () => {
      const batch = await converter.call({data: [...red.flat(2), ...red.flat(2)], shape: [2, 4, 6, 3]});
      const list = await converter.call([red, red]);
      expect(batch.shape).toEqual(list.shape);
      expect(await take(batch)).toEqual(await take(list));
      const single = await converter.call(red);
      expect(single.rank).toBe(3);
      single.dispose();
    });
    tf.dispose([first, second]);
  });

  test('may be arrays in training', async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    const [first, second] = [tf.tensor3d(red), tf.tensor3d(red)];
    const stacked = tf.stack([first, second]);
    const flat = {data: [...red.flat(2), ...red.flat(2)], shape: [2, 4, 6, 3]};
    await expectNoLeak(async () => {
      const texts = {prompts, responses: ['a', 'b c']};
      const losses: unknown[] = [];
      for (const images of [stacked, [first, second], [red, red], flat])
        losses.push(await lm.testOnBatch({...texts, images}));
      expect(losses).toEqual(losses.map(() => losses[0]));
    });
    tf.dispose([first, second, stacked]);
    lm.dispose();
  });
});

describe('an embedder', () => {
  test('predicts from what its preprocessor returns, and trains on it and on arrays', async () => {
    const tokenizer = new Gemma3Tokenizer({proto: fixtureBytes('tokenizer/vocabulary.spm')});
    const backbone = new Gemma3Backbone({
      ...{vocabularySize: tokenizer.vocabularySize, numLayers: 1, numQueryHeads: 2, numKeyValueHeads: 1, hiddenDim: 8},
      ...{imageSize: null, intermediateDim: 12, headDim: 4, dtype: 'float32'},
    });
    const preprocessor = new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 8});
    const embedder = new Gemma3TextEmbedder({backbone, preprocessor});
    embedder.compile({loss: 'mse', optimizer: 'sgd'});
    await expectNoLeak(async () => {
      const one = await preprocessor.call('Hi');
      const two = await preprocessor.call(['Hi', 'Ho']);
      const alone = embedder.predict(one) as tf.Tensor;
      expect(alone.shape).toEqual([1, 8]);
      const both = embedder.predict(two) as tf.Tensor;
      expect(await take(alone)).toEqual((await take(both)).slice(0, 8));
      const targets = [Array<number>(8).fill(0.1), Array<number>(8).fill(-0.1)];
      const y = tf.tensor2d(targets);
      const arrays = {
        token_ids: (await two.token_ids.array()) as number[][],
        padding_mask: (await two.padding_mask.array()) as number[][],
      };
      const losses = [await embedder.testOnBatch(two, y), await embedder.testOnBatch(arrays, targets)];
      const evaluated = embedder.evaluate(arrays, {data: targets.flat(), shape: [2, 8]}) as tf.Scalar;
      expect([...losses, (await evaluated.data())[0]]).toEqual([losses[0], losses[0], losses[0]]);
      await embedder.fit(two, targets, {validationData: [arrays, targets]});
      await embedder.trainOnBatch(arrays, y);
      const product = embedder.similarity([Float32Array.of(1, 2)], {data: [3, 4], shape: [1, 2]});
      expect(await take(product)).toEqual([11]);
      expect(() => embedder.similarity([[1, 2], [1]], [[1]])).toThrow('queryEmbeddings[1] of length 1');
      await expect(embedder.fit(two, [[1, 2], [3]])).rejects.toThrow('y[0] of length 2, but y[1] of length 1');
      tf.dispose([Object.values(one), Object.values(two), y, evaluated]);
    });
    embedder.dispose();
    backbone.dispose();
  });

  test('refuses names that are not losses or optimizers, and lists those that are', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny');
    expect(() => embedder.compile({loss: 'cosine_similarty' as never})).toThrow(
      /one of "mse", .*Received: "cosine_similarty"\. Did you mean "cosine_similarity"\?$/,
    );
    expect(() => embedder.compile({loss: 'mse', optimizer: 'lion' as never})).toThrow(
      /one of "auto", .*Received: "lion"\./,
    );
    expect(() => embedder.compile({} as never)).toThrow('Expected `loss` of an embedder');
    embedder.dispose();
  });
});
