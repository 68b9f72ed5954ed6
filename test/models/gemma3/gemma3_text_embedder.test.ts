/** Text embedders: numbers against KerasHub (test/reference/make_embedder_fixtures.py), files, training and errors. */
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3TextEmbedder,
  type Gemma3TextEmbedderArgs,
  Gemma3TextEmbedderPreprocessor,
  useBackend,
} from '../../../src';
import {snakeKeys} from '../../../src/base/casing';
import {openPreset} from '../../../src/public/files';
import {onEveryBackend} from '../../support/backends';
import {fixture, fixtureJson} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';
import {normal} from '../../support/random';

const CASES = ['last', 'mean', 'last_unnormalized', 'mean_unnormalized', 'embedding_model'];

interface Expected {
  texts: string[];
  embeddings: number[][];
  similarity: number[][];
  inputs: {token_ids: number[][]; padding_mask: number[][]};
  predicted: number[][];
}
const expectedOf = (name: string) => fixtureJson<Expected>(`embedder/${name}/expected.json`);

const TINY = {
  vocabularySize: 40,
  imageSize: null,
  numLayers: 1,
  numQueryHeads: 1,
  numKeyValueHeads: 1,
  hiddenDim: 4,
  intermediateDim: 4,
  headDim: 2,
};

onEveryBackend(() =>
  describe.each(CASES)('%s', name => {
    const expected = expectedOf(name);
    let embedder: Gemma3TextEmbedder;
    beforeAll(async () => {
      embedder = await Gemma3TextEmbedder.fromPreset(fixture(`embedder/${name}`));
    });
    afterAll(() => {
      embedder.dispose();
    });

    test.each([undefined, 1, 2])('encodes texts as KerasHub, %j at once', async batchSize => {
      await expectNoLeak(async () => {
        const y = await embedder.encodeText(expected.texts, batchSize === undefined ? {} : {batchSize});
        expect(y.shape).toEqual([expected.texts.length, expected.embeddings[0]!.length]);
        expect(await take(y)).toBeAllClose(expected.embeddings.flat(), {atol: 1e-4});
      });
    });

    test('predicts for inputs by name as KerasHub', async () => {
      await expectNoLeak(async () => {
        const y = embedder.predict(expected.inputs) as tf.Tensor;
        expect(await take(y)).toBeAllClose(expected.predicted.flat(), {atol: 1e-4});
      });
    });

    test('compares texts as KerasHub', async () => {
      await expectNoLeak(async () => {
        const y = await embedder.encodeText(expected.texts);
        const similarity = embedder.similarity(expected.embeddings.slice(0, 2), y);
        expect(similarity.shape).toEqual([2, expected.texts.length]);
        expect(await take(similarity)).toBeAllClose(expected.similarity.flat(), 1e-4);
        y.dispose();
      });
    });
  }),
);

describe('Gemma3TextEmbedder', () => {
  beforeAll(async () => {
    await useBackend('simd', {threads: 2});
  });

  test('has the pooling of the preset, unless options override it', async () => {
    const folder = fixture('embedder/mean_unnormalized');
    const stored = await Gemma3TextEmbedder.fromPreset(folder, {loadWeights: false});
    expect([stored.poolingMode, stored.normalize]).toEqual(['mean', false]);
    const given = await Gemma3TextEmbedder.fromPreset(folder, {
      loadWeights: false,
      poolingMode: 'last',
      normalize: true,
    });
    expect([given.poolingMode, given.normalize]).toEqual(['last', true]);
    // A preset of a language model has no pooling.
    const other = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', {loadWeights: false});
    expect([other.poolingMode, other.normalize]).toEqual(['last', true]);
    expect(other.preprocessor!.sequenceLength).toBe(256);
    for (const embedder of [stored, given, other]) embedder.dispose();
  });

  test('embeds text with a model for images, without any images', async () => {
    await expectNoLeak(async () => {
      const embedder = await Gemma3TextEmbedder.fromPreset('gemma3_tiny', {poolingMode: 'mean', normalize: false});
      const texts = ['Hi', 'What is the capital of France?'];
      const y = await embedder.encodeText(texts);
      const tokens = embedder.preprocessor!.packedTokens([texts[1]!]);
      const {imageSize} = embedder.backbone.visionEncoder!.config;
      const hidden = tf.tidy(
        () =>
          embedder.backbone.predict({
            token_ids: [tokens],
            padding_mask: [tokens.map(() => 1)],
            images: tf.zeros([1, 0, imageSize, imageSize, 3]),
            vision_indices: tf.zeros([1, 0], 'int32'),
            vision_mask: [tokens.map(() => 0)],
          }) as tf.Tensor3D,
      );
      tf.tidy(() => expect(tf.slice(y, [1, 0], [1, -1])).toBeAllClose(tf.mean(hidden, 1), 1e-4));
      tf.dispose([y, hidden]);
      embedder.dispose();
    });
  });

  test('pools the last token that is not padding, wherever the padding is', () => {
    tf.tidy(() => {
      const backbone = new Gemma3Backbone(TINY);
      const embedder = new Gemma3TextEmbedder({backbone, normalize: false});
      const inputs = {
        token_ids: [
          [5, 6, 7, 8],
          [5, 6, 7, 8],
          [5, 6, 7, 8],
        ],
        padding_mask: [
          [1, 0, 1, 0],
          [0, 0, 1, 1],
          [0, 0, 0, 0],
        ],
      };
      const hidden = backbone.predict(inputs) as tf.Tensor3D;
      const at = (row: number, t: number) => tf.reshape(tf.slice(hidden, [row, t, 0], [1, 1, 4]), [4]);
      expect(embedder.predict(inputs) as tf.Tensor).toBeAllClose(tf.stack([at(0, 2), at(1, 3), tf.zeros([4])]), 1e-6);
      embedder.dispose();
      backbone.dispose();
    });
  });

  test('needs no more memory for a long list of texts', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/mean'));
    const texts = Array.from({length: 400}, (_, i) => 'the quick brown fox '.repeat(1 + (i % 5)));
    (await embedder.encodeText(texts.slice(0, 32))).dispose();
    const before = tf.memory().numTensors;
    let most = 0;
    const predict = jest.spyOn(embedder, 'predict').mockImplementation((...args) => {
      most = Math.max(most, tf.memory().numTensors - before);
      return Gemma3TextEmbedder.prototype.predict.apply(embedder, args);
    });
    const y = await embedder.encodeText(texts);
    expect(predict.mock.calls.length).toBeGreaterThan(400 / 32);
    expect(most).toBe(2);
    expect(tf.memory().numTensors).toBe(before + 1);
    const some = await embedder.encodeText(texts.slice(0, 5));
    tf.tidy(() => expect(tf.slice(y, [0, 0], [5, -1])).toBeAllClose(some, 1e-5));
    tf.dispose([y, some]);
    embedder.dispose();
  });

  test('can be aborted between batches', async () => {
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/last'));
    await expectNoLeak(async () => {
      const controller = new AbortController();
      const encoding = embedder.encodeText(['a', 'b', 'c', 'd'], {batchSize: 1, signal: controller.signal});
      setImmediate(() => controller.abort(new Error('enough')));
      await expect(encoding).rejects.toThrow('enough');
    });
    embedder.dispose();
  });

  test.each(CASES)('%s is restored from its configuration, in either casing, and from tfjs files', async name => {
    await expectNoLeak(async () => {
      const embedder = await Gemma3TextEmbedder.fromPreset(fixture(`embedder/${name}`));
      const {inputs, predicted} = expectedOf(name);
      let saved: tf.io.ModelArtifacts | undefined;
      await embedder.save(
        tf.io.withSaveHandler(async artifacts => {
          saved = artifacts;
          return {modelArtifactsInfo: {dateSaved: new Date(0), modelTopologyType: 'JSON'}};
        }),
      );
      const copies = [
        Gemma3TextEmbedder.fromConfig(embedder.getConfig()),
        Gemma3TextEmbedder.fromConfig(snakeKeys(embedder.getConfig())),
        (await tf.loadLayersModel(tf.io.fromMemory(saved!))) as Gemma3TextEmbedder,
      ];
      for (const [i, copy] of copies.entries()) {
        expect(copy).toBeInstanceOf(Gemma3TextEmbedder);
        expect(copy.getConfig()).toEqual({...embedder.getConfig(), preprocessor: null});
        if (i < 2) tf.tidy(() => copy.setWeights(embedder.getWeights()));
        const y = copy.predict(inputs) as tf.Tensor;
        expect(await take(y)).toBeAllClose(predicted.flat(), {atol: 1e-4});
        copy.dispose();
      }
      embedder.dispose();
    });
  });

  test('trains', async () => {
    await expectNoLeak(async () => {
      const backbone = new Gemma3Backbone(TINY);
      const embedder = new Gemma3TextEmbedder({backbone, poolingMode: 'mean'});
      const x = [
        tf.tensor2d(
          [
            [2, 5, 6],
            [2, 7, 0],
          ],
          [2, 3],
          'int32',
        ),
        tf.tensor2d(
          [
            [1, 1, 1],
            [1, 1, 0],
          ],
          [2, 3],
          'int32',
        ),
      ];
      const y = normal([2, 4], 1);
      const optimizer = tf.train.adam(0.01);
      embedder.compile({optimizer, loss: 'meanSquaredError'});
      const {history} = await embedder.fit(x, y, {epochs: 3, shuffle: false, verbose: 0});
      expect(history.loss!.at(-1)).toBeLessThan(history.loss![0] as number);
      tf.dispose([x, y]);
      embedder.dispose();
      backbone.dispose();
      optimizer.dispose();
    });
  });

  test('compiles with Adam and a learning rate of 5e-5 by default', () => {
    const backbone = new Gemma3Backbone(TINY);
    const embedder = new Gemma3TextEmbedder({backbone});
    embedder.compile({loss: 'meanSquaredError'});
    const {optimizer} = embedder;
    expect(optimizer.getConfig()).toMatchObject({learningRate: 5e-5});
    expect(optimizer.getClassName()).toBe('Adam');
    expect(() => embedder.compile({loss: 'meanSquaredError', sampler: 'greedy'} as never)).toThrow(
      'compile has no argument "sampler".',
    );
    embedder.dispose();
    backbone.dispose();
  });

  test.each(['int8', 'bfloat16'] as const)('packs the weights of its backbone as %s', async mode => {
    const embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/embedding_model'));
    const loaded = await Gemma3TextEmbedder.fromPreset(fixture('embedder/embedding_model'), {dtype: mode});
    await embedder.quantize(mode);
    const [a, b] = [await embedder.encodeText('Mars'), await loaded.encodeText('Mars')];
    expect(a).toBeAllClose(b, 1e-12);
    tf.dispose([a, b]);
    embedder.dispose();
    loaded.dispose();
  });

  test.each(Object.entries(Gemma3TextEmbedder.presets))(
    '%s is built from its name, without files',
    async (name, {metadata, config}) => {
      await expectNoLeak(async () => {
        const embedder = await Gemma3TextEmbedder.fromPreset(name, {loadWeights: false});
        expect(embedder.countParams()).toBe(metadata.params);
        expect(embedder.preprocessor).toBeNull();
        expect(embedder.outputs[0]!.shape).toEqual([null, config.embedding_dim ?? config.hidden_dim]);
        embedder.dispose();
        const lm = Gemma3CausalLM.fromPreset(name, {loadWeights: false});
        if (config.is_embedding_model) {
          await expect(lm).rejects.toThrow('Create a Gemma3TextEmbedder from it.');
        } else {
          expect((await lm).countParams()).toBe(metadata.params);
          (await lm).dispose();
        }
      });
    },
  );

  test('also reads its tokenizer from a source that is already open', async () => {
    const source = await openPreset('gemma3_tiny');
    const embedder = await Gemma3TextEmbedder.fromPreset(source, {loadWeights: false});
    expect(embedder.preprocessor).toBeInstanceOf(Gemma3TextEmbedderPreprocessor);
    const lm = await Gemma3CausalLM.fromPreset(source, {loadWeights: false});
    expect(lm.preprocessor).not.toBeNull();
    embedder.dispose();
    lm.dispose();
  });
});

describe('refuses', () => {
  let backbone: Gemma3Backbone;
  let embedder: Gemma3TextEmbedder;
  beforeAll(async () => {
    await useBackend('simd', {threads: 2});
    backbone = new Gemma3Backbone(TINY);
    embedder = await Gemma3TextEmbedder.fromPreset(fixture('embedder/last'));
  });
  afterAll(() => {
    backbone.dispose();
    embedder.dispose();
  });

  test.each<[Partial<Gemma3TextEmbedderArgs> | object, string]>([
    [{poolingMode: 'max'}, '`poolingMode` to be "last" or "mean". Received: poolingMode="max".'],
    [{normalize: 1}, '`normalize` to be true or false. Received: normalize=1.'],
    [{pooling_mode: 'last'}, 'Gemma3TextEmbedder has no argument "pooling_mode".'],
    [{preprocessor: {}}, 'expected a Gemma3TextEmbedderPreprocessor as `preprocessor`, or null.'],
    [{backbone: {}}, 'expected a Gemma3Backbone as `backbone`.'],
    [{name: 3}, '`name` to be a string'],
  ])('arguments %j', (args, message) => {
    expect(() => new Gemma3TextEmbedder({backbone, ...args} as never)).toThrow(message);
  });

  test('to leave embeddings of an embedding model unnormalized', async () => {
    await expectNoLeak(async () => {
      const options = {normalize: false};
      await expect(Gemma3TextEmbedder.fromPreset(fixture('embedder/embedding_model'), options)).rejects.toThrow(
        'a backbone with isEmbeddingModel normalizes its embeddings itself. Received: normalize=false.',
      );
    });
  });

  test.each<[unknown, object, string]>([
    [[], {}, 'Expected a text or a list of texts, at least one. Received: [].'],
    [3, {}, 'Received: 3.'],
    [['a', null], {}, 'Received: ["a",null].'],
    ['a', {batchSize: 0}, '`batchSize` to be a positive integer. Received: batchSize=0.'],
    ['a', {batch_size: 1}, 'encodeText has no argument "batch_size".'],
  ])('to encode %j with %j', async (text, options, message) => {
    await expect(embedder.encodeText(text as never, options)).rejects.toThrow(message);
  });

  test('to encode text without a preprocessor', async () => {
    const bare = new Gemma3TextEmbedder({backbone});
    await expect(bare.encodeText('a')).rejects.toThrow(
      'A `preprocessor` must be attached to the model to encode text.',
    );
    bare.dispose();
  });

  test('to compare vectors of different widths', async () => {
    await expectNoLeak(() => {
      expect(() => embedder.similarity([[1, 2]], [[1, 2, 3]])).toThrow('Received: shapes [1,2] and [1,3].');
      expect(() => embedder.similarity([1, 2] as never, [[1, 2]])).toThrow('Received: shapes [2] and [1,2].');
    });
  });

  test('configurations of other classes', () => {
    expect(() => Gemma3TextEmbedder.fromConfig({name: 'x'})).toThrow(
      'Expected the configuration of a Gemma3TextEmbedder, with its backbone. Received: {"name":"x"}.',
    );
  });
});
