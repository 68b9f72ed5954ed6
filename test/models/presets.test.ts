/** `fromPreset` of all classes, base classes included, and attributes, against KerasHub (make_preset_fixtures.py). */
import {mkdirSync, mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import * as api from '../../src';
import {camelKeys} from '../../src/base/casing';
import {fixture, fixtureJson, TINY_PRESET} from '../support/fixtures';
import {expectNoLeak} from '../support/numbers';

const {Gemma3Backbone, Gemma3CausalLM, Gemma3Tokenizer, files, useBackend, ValueError} = api;

interface Expected {
  classes: Record<string, string>;
  attributes: Record<string, Record<string, unknown>>;
  tokens: number[];
  backbones: {overrides: Record<string, unknown>; hidden: number[]}[];
  configs: {class: string; overrides: Record<string, unknown>; config: Record<string, unknown>}[];
  tokenizer: {
    texts: string[];
    batches: {ragged: number[][]; dense: number[][]; tensor: number[][]};
    scalars: number[][];
    rows: number[][];
    detokenized: string[];
    detokenizedRow: string;
    detokenizedId: string;
  };
}
const expected = fixtureJson<Expected>('presets.json');

interface Loaded {
  getClassName(): string;
  getConfig(): object;
  dispose?(): void;
}
/** A class of the package by name. */
const cls = (name: string) =>
  (api as unknown as Record<string, {fromPreset(preset: unknown, options?: object): Promise<Loaded>; presets: object}>)[
    name
  ]!;

beforeAll(() => useBackend('simd'));

describe('base classes', () => {
  test.each(Object.entries({...expected.classes, SentencePieceTokenizer: 'Gemma3Tokenizer'}))(
    '%s gives a %s, as in KerasHub',
    async (base, name) => {
      await expectNoLeak(async () => {
        const loaded = await cls(base).fromPreset('gemma3_tiny');
        expect(loaded).toBeInstanceOf(cls(name));
        expect(loaded.getClassName()).toBe(name);
        loaded.dispose?.();
      });
      expect(cls(base).presets).toBe(Gemma3Backbone.presets);
    },
  );

  test.each([
    ['Task', 'gemma3_tiny', 'Gemma3CausalLM'],
    ['Task', fixture('embedder/mean'), 'Gemma3TextEmbedder'],
    ['Preprocessor', 'gemma3_tiny', 'Gemma3CausalLMPreprocessor'],
    ['Preprocessor', fixture('embedder/mean'), 'Gemma3TextEmbedderPreprocessor'],
    ['CausalLMPreprocessor', fixture('embedder/mean'), 'Gemma3CausalLMPreprocessor'],
  ])('%s of %s gives the class it was saved with', async (base, preset, name) => {
    const loaded = await cls(base).fromPreset(preset);
    expect(loaded.getClassName()).toBe(name);
    loaded.dispose?.();
  });

  test('pass options on, also without files', async () => {
    const lm = await api.CausalLM.fromPreset('gemma3_tiny', {dtype: 'float32', preprocessor: null, name: 'mine'});
    expect([lm.name, lm.preprocessor, lm.backbone.dtypePolicy.name]).toEqual(['mine', null, 'float32']);
    lm.dispose();
    const backbone = await api.Backbone.fromPreset('gemma3_270m', {loadWeights: false, dropout: 0.1});
    expect(backbone).toMatchObject({dropout: 0.1, numLayers: 18});
    backbone.dispose();
    const embedder = await api.TextEmbedder.fromPreset('gemma3_270m', {loadWeights: false, poolingMode: 'mean'});
    expect(embedder).toMatchObject({poolingMode: 'mean'});
    embedder.dispose();
    await expect(api.Backbone.fromPreset('gemma3_tiny', {dropuot: 0.1})).rejects.toThrow('Did you mean "dropout"?');
  });

  test('say which class they need if a preset does not', async () => {
    await expect(api.Task.fromPreset('gemma3_270m', {loadWeights: false})).rejects.toThrow(
      'Task.fromPreset expected a preset that says which Task it holds: Gemma3CausalLM, Gemma3TextEmbedder. ' +
        'Received: "gemma3_270m". Call `fromPreset` of the one that you need, such as CausalLM.',
    );
  });
});

describe('presets of other families', () => {
  test.each([
    ['bert_base_en', 'BertBackbone'],
    ['gemma_2b_en', 'GemmaBackbone'],
  ])('%s', async (name, backbone) => {
    const message = `Expected a preset of Gemma 3. Received: "${name}", which KerasHub has for its ${backbone}. `;
    for (const options of [{}, {loadWeights: false}]) {
      await expect(api.Backbone.fromPreset(name, options)).rejects.toThrow(message);
      await expect(Gemma3CausalLM.fromPreset(name, options)).rejects.toThrow('gemma3_instruct_1b');
    }
  });

  test('folders', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'gemma3-other-'));
    const write = (config: object) => writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    try {
      mkdirSync(join(folder, 'assets'));
      write({class_name: 'BertBackbone', registered_name: 'keras_hub>BertBackbone', config: {}});
      for (const base of [api.Backbone, api.CausalLM, api.Tokenizer]) {
        await expect(base.fromPreset(folder)).rejects.toThrow(
          `${base.className}.fromPreset expected a preset with one of these backbones: Gemma3Backbone. ` +
            `Received: "${folder}", a preset with a BertBackbone, which this package does not have.`,
        );
      }
      await expect(Gemma3Backbone.fromPreset(folder)).rejects.toThrow(
        'Received: BertBackbone. This package has only the classes of Gemma 3.',
      );
      write({model_type: 'gemma3_text', hidden_size: 8});
      writeFileSync(join(folder, 'model.weights.h5'), '');
      await expect(api.CausalLM.fromPreset(folder)).rejects.toThrow(
        `Received: one of Hugging Face's transformers, for a model of type "gemma3_text". Keep the files of each ` +
          'format',
      );
    } finally {
      rmSync(folder, {recursive: true});
    }
  });
});

describe('arguments override the preset', () => {
  test.each(expected.backbones)('of the backbone as in KerasHub: $overrides', async ({overrides, hidden}) => {
    const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {dtype: 'float32', ...camelKeys(overrides)});
    const tokens = tf.tensor2d([expected.tokens], undefined, 'int32');
    const given = {token_ids: tokens, padding_mask: tf.onesLike(tokens)};
    const vision = {
      images: tf.zeros([1, 0, 64, 64, 3]),
      vision_indices: tf.zeros([1, 0], 'int32'),
      vision_mask: tf.zerosLike(tokens),
    };
    const outputs = backbone.predict(backbone.textOnlyModel ? given : {...given, ...vision}) as tf.Tensor3D;
    const [last] = (await tf.slice(outputs, [0, expected.tokens.length - 1, 0]).array())[0]!;
    last!.forEach((value, i) => expect(Math.abs(value - hidden[i]!)).toBeLessThan(1e-4));
    expect(backbone).toMatchObject(camelKeys(overrides));
    backbone.dispose();
  });

  test('the text model of a preset for images is its own preset', async () => {
    const lm = new Gemma3CausalLM({
      backbone: await Gemma3Backbone.fromPreset('gemma3_tiny', {visionEncoder: null, imageSize: null}),
      preprocessor: await api.Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny', {imageConverter: null}),
    });
    const preset = new files.MemoryPreset();
    await lm.saveToPreset(preset);
    const copy = await api.CausalLM.fromPreset(preset);
    expect(copy.countParams()).toBe(1_150_464);
    expect(await copy.generate('The capital of France is', {maxLength: 12})).toBe(
      await lm.generate('The capital of France is', {maxLength: 12}),
    );
    for (const model of [lm, lm.backbone, copy]) model.dispose();
  });

  test.each(expected.configs)('of a $class as in KerasHub: $overrides', async ({class: name, overrides, config}) => {
    const loaded = await cls(name).fromPreset('gemma3_tiny', camelKeys(overrides));
    // Keras numbers the names of layers.
    const ours = {...camelKeys(config), name: String(config.name).replace(/_\d+$/, '')};
    expect(loaded.getConfig()).toMatchObject(ours);
  });

  test('a preset of another task lends its tokenizer and converter', async () => {
    const preprocessor = await api.CausalLMPreprocessor.fromPreset(fixture('embedder/mean'), {sequenceLength: 30});
    expect(preprocessor.getConfig()).toMatchObject({sequenceLength: 30, addEndToken: true, imageConverter: null});
  });

  test.each<[object, string]>([
    [{numLayers: 2}, 'numLayers=2, where the preset has 6'],
    [{hiddenDim: 64, headDim: 16}, 'hiddenDim=64, where the preset has 128; headDim=16, where the preset has 32'],
    [{useQueryKeyNorm: false}, 'useQueryKeyNorm=false, where the preset has true'],
    [
      {isEmbeddingModel: true, embeddingDim: 4, poolingIntermediateDim: 8},
      'isEmbeddingModel=true, where the preset has false',
    ],
    [
      {
        visionEncoder: {
          ...{imageSize: 64, patchSize: 8, numHeads: 4, hiddenDim: 64, numLayers: 1, intermediateDim: 128},
          ...{outputDim: 128, poolSize: 2},
        },
      },
      'visionEncoder.numLayers=1, where the preset has 3',
    ],
  ])('%j contradicts the weights', async (overrides, message) => {
    await expectNoLeak(async () => {
      const error = `Expected arguments that fit the weights of preset "${TINY_PRESET}". Received: ${message}. Leave`;
      await expect(Gemma3Backbone.fromPreset(TINY_PRESET, overrides)).rejects.toThrow(error);
      const backbone = await Gemma3Backbone.fromPreset(TINY_PRESET, {...overrides, loadWeights: false});
      backbone.dispose();
    });
  });

  test('of a task: its backbone, preprocessor and name', async () => {
    await expectNoLeak(async () => {
      const backbone = await Gemma3Backbone.fromPreset('gemma3_tiny', {dropout: 0.1});
      const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny', {backbone, name: 'mine'});
      expect([lm.backbone, lm.name, lm.preprocessor?.sequenceLength]).toEqual([backbone, 'mine', 256]);
      lm.dispose();
      // The backbone stays its owner's.
      expect(backbone.tokenEmbedding.built).toBe(true);
      tf.tidy(() => expect(backbone.embedTokens(tf.tensor2d([[2]], undefined, 'int32')).shape).toEqual([1, 1, 128]));
      await expect(Gemma3CausalLM.fromPreset('gemma3_tiny', {backbone, dtype: 'float32'})).rejects.toThrow(
        'Gemma3CausalLM.fromPreset expected either a `backbone` or options for loading one. ' +
          'Received both: backbone and dtype.',
      );
      backbone.dispose();
    });
    const misplaced = Gemma3CausalLM.fromPreset('gemma3_tiny', {dropout: 0.1} as never);
    await expect(misplaced).rejects.toThrow(ValueError);
    await expect(misplaced).rejects.toThrow(
      'Gemma3CausalLM.fromPreset has no arguments of the backbone. Received: dropout. Load the backbone with them',
    );
  });
});

describe('attributes', () => {
  /** Listed in docs/keras_names.md as missing. */
  const missing = ['packer', 'audio_converter', 'audio_converter_cls', 'video_converter', 'video_converter_cls'];

  test('have the values of KerasHub', async () => {
    const lm = await Gemma3CausalLM.fromPreset('gemma3_tiny');
    const embedder = await api.Gemma3TextEmbedder.fromPreset('gemma3_tiny');
    const {backbone, preprocessor} = lm;
    const block = backbone.transformerLayers[0]!;
    const [imageEncoder, pooling, visionOutput] = backbone.visionEncoder!.layers.slice(1) as [
      tf.layers.Layer & {visionEmbeddings: object; resblocks: {attn: object}[]},
      object,
      object,
    ];
    const objects: Record<string, object> = {
      ...{backbone, block, attention: block.attention, lastBlock: backbone.transformerLayers[5]!},
      ...{visionEncoder: backbone.visionEncoder!, imageEncoder, pooling, visionOutput},
      ...{visionEmbedding: imageEncoder.visionEmbeddings, visionLayer: imageEncoder.resblocks[0]!},
      ...{visionAttention: imageEncoder.resblocks[0]!.attn, interleave: backbone.interleaveEmbeddings!},
      ...{preprocessor: preprocessor!, tokenizer: preprocessor!.tokenizer},
      ...{imageConverter: preprocessor!.imageConverter!, embedder, embedderPreprocessor: embedder.preprocessor!},
    };
    const sorted = (value: unknown) =>
      Array.isArray(value) && value.length > 2 ? [...(value as never[])].sort() : value;
    for (const [key, attributes] of Object.entries(expected.attributes)) {
      const names = Object.keys(attributes).filter(name => !missing.includes(name) && !name.endsWith('_cls'));
      const ours = objects[key] as Record<string, unknown>;
      const values = names.map(name => [name, sorted(ours[Object.keys(camelKeys({[name]: 0}))[0]!])]);
      expect({[key]: Object.fromEntries(values) as object}).toEqual({
        [key]: Object.fromEntries(names.map(name => [name, sorted(attributes[name])])),
      });
    }
    lm.dispose();
    embedder.dispose();
  });

  test('of dtypes', async () => {
    const dtypes = ({dtypePolicy, computeDtype, variableDtype, quantizationMode}: api.Backbone | api.layers.Layer) => [
      dtypePolicy.name,
      computeDtype,
      variableDtype,
      quantizationMode,
    ];
    const backbone = await Gemma3Backbone.fromPreset('gemma3_tiny');
    expect(dtypes(backbone)).toEqual(['bfloat16', 'float32', 'bfloat16', null]);
    expect(dtypes(backbone.tokenEmbedding)).toEqual(['bfloat16', 'float32', 'bfloat16', null]);
    await backbone.quantize('int8');
    expect(dtypes(backbone)).toEqual(['int8', 'float32', 'float32', 'int8']);
    expect(backbone.transformerLayers[0]!.attention.queryDense.quantizationMode).toBe('int8');
    backbone.dispose();
  });

  test('that can be set', async () => {
    const preprocessor = await api.Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
    preprocessor.sequenceLength = 40;
    preprocessor.addStartToken = false;
    const {token_ids, ...rest} = await preprocessor.generatePreprocess('Hi');
    expect(token_ids.shape).toEqual([40]);
    expect((await token_ids.data())[0]).not.toBe(2);
    tf.dispose([token_ids, ...Object.values(rest)] as tf.Tensor[]);
    preprocessor.imageSize = [5, 7];
    expect(preprocessor.imageConverter!.imageSize).toEqual([5, 7]);
    expect(() => (preprocessor.sequenceLength = 0)).toThrow('expected `sequenceLength` to be a positive integer');
    expect(() => (preprocessor.maxImagesPerPrompt = 1.5)).toThrow('expected `maxImagesPerPrompt`');
    expect(() => (preprocessor.imageSize = [5] as never)).toThrow('expected `imageSize` to be null or [height, width]');
    expect(preprocessor).toMatchObject({sequenceLength: 40, maxImagesPerPrompt: 2, imageSize: [5, 7]});
    const text = await api.Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny', {imageConverter: null});
    expect([text.imageSize, text.imagePlaceholder, text.startOfImageToken]).toEqual([null, null, null]);
    expect(() => (text.imageSize = [5, 7])).toThrow('Cannot set `imageSize`');
  });
});

describe('tokenizer', () => {
  const {texts, batches, scalars, rows, ...decoded} = expected.tokenizer;

  test('takes arrays and tensors, as in KerasHub', async () => {
    const tokenizer = await api.Tokenizer.fromPreset('gemma3_tiny');
    const dense = await api.Tokenizer.fromPreset('gemma3_tiny', {sequenceLength: 4});
    tf.tidy(() => {
      expect(tokenizer.call(texts)).toEqual(batches.ragged);
      expect(dense.call(texts)).toEqual(batches.dense);
      expect(tokenizer.call(tf.tensor1d(texts, 'string'))).toEqual(batches.tensor);
      expect(texts.map(text => tokenizer.call(tf.scalar(text, 'string')))).toEqual(scalars);
      const ids = tf.tensor2d(rows, undefined, 'int32');
      expect(tokenizer.detokenize(ids)).toEqual(decoded.detokenized);
      expect(tokenizer.detokenize(tf.tensor1d(rows[0]!, 'int32'))).toBe(decoded.detokenizedRow);
      expect(tokenizer.detokenize(600)).toBe(decoded.detokenizedId);
      expect(tokenizer.detokenize(tf.scalar(600, 'int32'))).toBe(decoded.detokenizedId);
      expect(() => tokenizer.call(tf.tensor2d([['a']], undefined, 'string'))).toThrow('of rank 0 or 1');
      expect(() => tokenizer.call(ids)).toThrow('Expected a tensor of strings');
      expect(() => tokenizer.detokenize(tf.tensor1d([1.5]))).toThrow('Expected a tensor of token ids, int32');
    });
  });

  test('may get its vocabulary later', async () => {
    const source = await Gemma3Tokenizer.fromPreset('gemma3_tiny', {addBos: true});
    const tokenizer = Gemma3Tokenizer.fromConfig(source.getConfig());
    expect(() => tokenizer.tokenize('a')).toThrow('Gemma3Tokenizer expected a vocabulary. Received none');
    expect(() => tokenizer.startTokenId).toThrow(ValueError);
    const folder = new files.MemoryPreset();
    await source.saveAssets(folder);
    await tokenizer.loadAssets(folder);
    expect(tokenizer.tokenize('The capital')).toEqual(source.tokenize('The capital'));
    tokenizer.setProto(null);
    expect(() => tokenizer.vocabularySize).toThrow('expected a vocabulary');
    await tokenizer.loadPresetAssets('gemma3_tiny');
    expect(tokenizer.getVocabulary()).toEqual(source.getVocabulary());
    expect(() => tokenizer.setProto(new Uint8Array(3))).toThrow(ValueError);
    expect(tokenizer.startTokenId).toBe(2);
    const preprocessor = await api.Gemma3CausalLMPreprocessor.fromPreset('gemma3_tiny');
    const copy = api.Gemma3CausalLMPreprocessor.fromConfig(preprocessor.getConfig());
    await copy.loadPresetAssets('gemma3_tiny');
    expect(copy.getConfig()).toEqual(preprocessor.getConfig());
    expect((await copy.promptTokens('Hi')).tokens).toEqual((await preprocessor.promptTokens('Hi')).tokens);
  });

  test('of any SentencePiece model', async () => {
    const {proto} = await Gemma3Tokenizer.fromPreset('gemma3_tiny');
    const tokenizer = new api.SentencePieceTokenizer({proto, addEos: true, sequenceLength: 3});
    expect(tokenizer.call('The')).toEqual([...batches.ragged[0]!.slice(0, 1), 1, 0]);
    expect([tokenizer.name, tokenizer.specialTokens]).toEqual(['sentence_piece_tokenizer', []]);
    const preset = new files.MemoryPreset();
    await tokenizer.saveToPreset(preset);
    const saved = JSON.parse(new TextDecoder().decode(preset.files.get('tokenizer.json'))) as Record<string, unknown>;
    expect(saved).toMatchObject({
      module: 'keras_hub.src.tokenizers.sentence_piece_tokenizer',
      registered_name: 'keras_hub>SentencePieceTokenizer',
    });
  });
});
