/** Saved presets against the KerasHub presets they came from: JSON key by key, variables bit by bit. */
import {cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {
  Gemma3Backbone,
  Gemma3CausalLM,
  Gemma3CausalLMPreprocessor,
  Gemma3ImageConverter,
  Gemma3TextEmbedder,
  Gemma3TextEmbedderPreprocessor,
  Gemma3Tokenizer,
  type SaveProgress,
  useBackend,
} from '../../../src';
import {Hdf5File} from '../../../src/formats/hdf5';
import {MemoryPreset, openPreset, type PresetSource} from '../../../src/public/files';
import {fixture, fixtureNames, TINY_PRESET} from '../../support/fixtures';
import {rejection} from '../../support/hdf5_files';
import {take} from '../../support/numbers';

const folders: string[] = [];
const temporary = () => {
  const folder = mkdtempSync(join(tmpdir(), 'save-'));
  folders.push(folder);
  return folder;
};
afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));
beforeAll(async () => {
  await useBackend('simd');
});

let tensors = 0;
beforeEach(() => (tensors = tf.memory().numTensors));
afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

const jsonOf = (bytes: Uint8Array | undefined) =>
  JSON.parse(new TextDecoder().decode(bytes)) as Record<string, unknown> & {config: Record<string, unknown>};
const jsonFile = (folder: string, name: string) => jsonOf(new Uint8Array(readFileSync(join(folder, name))));

/** dtype, shape and bytes of all variables, by path. */
async function variables(source: PresetSource): Promise<Map<string, [string, string, string]>> {
  const found = new Map<string, [string, string, string]>();
  const single = await source.has('model.weights.h5');
  const index = single ? undefined : jsonOf(await bytesOf(source, 'model.weights.json'));
  const names = index
    ? [...new Set(Object.values(index.weight_map as object).flat() as string[])]
    : ['model.weights.h5'];
  for (const name of names) {
    const file = await Hdf5File.open(await source.open(name));
    for (const path of file.paths()) {
      const {dtype, shape, byteLength} = file.dataset(path)!;
      const bytes = Buffer.alloc(byteLength);
      await file.dataset(path)!.readInto(0, bytes);
      found.set(path, [dtype, shape.join(), bytes.toString('hex')]);
    }
    await file.close();
  }
  return found;
}

async function bytesOf(source: PresetSource, path: string): Promise<Uint8Array> {
  const file = await source.open(path);
  const bytes = new Uint8Array(file.size);
  await file.readInto(0, bytes);
  await file.close();
  return bytes;
}

describe.each(fixtureNames('backbone'))('backbone %s', name => {
  const folder = fixture(`backbone/${name}`);

  test('is saved as KerasHub saved it', async () => {
    const backbone = await Gemma3Backbone.fromPreset(folder);
    const saved = new MemoryPreset();
    await backbone.saveToPreset(saved);
    backbone.dispose();
    expect(jsonOf(saved.files.get('config.json'))).toEqual(jsonFile(folder, 'config.json'));
    const {date_saved: date, ...metadata} = jsonOf(saved.files.get('metadata.json'));
    const {date_saved: _, ...expected} = jsonFile(folder, 'metadata.json');
    expect(metadata).toEqual(expected);
    expect(date).toMatch(/^\d{4}-\d\d-\d\d@\d\d:\d\d:\d\d$/);
    expect(await variables(saved)).toEqual(await variables(await openPreset(folder)));
  });
});

// The sizes that test/reference/make_backbone_fixtures.py gave to KerasHub.
test.each([
  ['sharded', 3e-6],
  ['sharded_float32', 5e-6],
])('%s has the same variables in the same shards as in KerasHub', async (name, maxShardSize) => {
  const folder = fixture(`backbone/${name}`);
  const backbone = await Gemma3Backbone.fromPreset(folder);
  const saved = new MemoryPreset();
  await backbone.saveToPreset(saved, {maxShardSize});
  backbone.dispose();
  expect(jsonOf(saved.files.get('model.weights.json'))).toEqual(jsonFile(folder, 'model.weights.json'));
});

/** Size of the largest variable of the tiny preset in bfloat16. */
const LARGEST_GB = (2048 * 128 * 2) / 1024 ** 3;

describe('a causal language model', () => {
  test('is saved with all files, as KerasHub saved them', async () => {
    const folder = join(temporary(), 'a', 'b');
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    const reported: SaveProgress[] = [];
    await lm.saveToPreset(folder, {onProgress: progress => reported.push(progress)});
    lm.dispose();
    const all = readdirSync(TINY_PRESET, {recursive: true}).sort();
    expect(readdirSync(folder, {recursive: true}).sort()).toEqual(all);
    for (const file of ['config', 'task', 'preprocessor', 'tokenizer', 'image_converter'].map(n => `${n}.json`)) {
      expect(jsonFile(folder, file)).toEqual(jsonFile(TINY_PRESET, file));
      expect(Object.keys(jsonFile(folder, file).config)).toEqual(Object.keys(jsonFile(TINY_PRESET, file).config));
    }
    const spm = 'assets/tokenizer/vocabulary.spm';
    expect(readFileSync(join(folder, spm))).toEqual(readFileSync(join(TINY_PRESET, spm)));
    expect(await variables(await openPreset(folder))).toEqual(await variables(await openPreset(TINY_PRESET)));
    const {total} = reported[0]!;
    expect(reported.at(-1)).toEqual({file: 'model.weights.h5', saved: total, total});
    expect(readdirSync(join(folder, '..'))).toEqual(['b']);
  });

  test('is saved in shards, which are then replaced by one file', async () => {
    const folder = temporary();
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    await lm.saveToPreset(folder, {maxShardSize: LARGEST_GB});
    const {metadata, weight_map: map} = jsonFile(folder, 'model.weights.json');
    expect((metadata as {total_size: number}).total_size).toBeGreaterThan(2 * lm.countParams());
    const files = [...new Set(Object.values(map as object).flat() as string[])].sort();
    expect(files.length).toBeGreaterThan(3);
    expect(files[0]).toBe('model_00000.weights.h5');
    expect(Object.keys(map as object)).toContain('/layers/reversible_embedding/vars');
    expect(await variables(await openPreset(folder))).toEqual(await variables(await openPreset(TINY_PRESET)));
    const again = await Gemma3Backbone.fromPreset(folder);
    again.dispose();

    writeFileSync(join(folder, 'notes.txt'), 'mine');
    await lm.saveToPreset(folder);
    lm.dispose();
    expect(readdirSync(folder, {recursive: true}).sort()).toEqual(
      [...readdirSync(TINY_PRESET, {recursive: true}), 'notes.txt'].sort(),
    );
  });

  test('refuses shards that a variable does not fit into', async () => {
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    const saved = new MemoryPreset([['config.json', new Uint8Array(1)]]);
    await expect(lm.saveToPreset(saved, {maxShardSize: LARGEST_GB / 2})).rejects.toThrow(
      /Expected a maxShardSize that holds the largest variable.*"layers\/reversible_embedding\/vars\/0" has 524 kB/,
    );
    expect([...saved.files]).toEqual([['config.json', new Uint8Array(1)]]);
    lm.dispose();
  });

  test('can be saved over what it was loaded from', async () => {
    const folder = temporary();
    cpSync(TINY_PRESET, folder, {recursive: true});
    const lm = await Gemma3CausalLM.fromPreset(folder, {dtype: 'float32'});
    await lm.saveToPreset(folder, {dtype: 'bfloat16'});
    lm.dispose();
    expect(await variables(await openPreset(folder))).toEqual(await variables(await openPreset(TINY_PRESET)));
  });

  test('is saved in another dtype; the vision encoder stays float32', async () => {
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    const saved = new MemoryPreset();
    await lm.saveToPreset(saved, {dtype: 'float32'});
    lm.dispose();
    const {config} = jsonOf(saved.files.get('config.json'));
    expect(config.dtype).toMatchObject({class_name: 'DTypePolicy', config: {name: 'float32'}});
    expect([...(await variables(saved)).values()].every(([dtype]) => dtype === 'float32')).toBe(true);
    // All bfloat16 values are float32 values, so the round trip changes nothing.
    const back = await Gemma3CausalLM.fromPreset(saved);
    await back.saveToPreset(saved, {dtype: 'bfloat16'});
    back.dispose();
    const dtypes = [...(await variables(saved))].map(([path, [dtype]]) => [path.includes('vision'), dtype].join());
    expect([...new Set(dtypes)].sort()).toEqual(['false,bfloat16', 'true,float32']);
    expect(await variables(saved)).toEqual(await variables(await openPreset(TINY_PRESET)));
  });

  test('weights stored as integers need a dtype', async () => {
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET, {dtype: 'int8'});
    const saved = new MemoryPreset();
    expect(await rejection(lm.saveToPreset(saved))).toMatch(
      /writing quantized weights in Keras' format is not supported.*int8. Pass {dtype: "bfloat16"}/,
    );
    expect(saved.files.size).toBe(0);
    await lm.saveToPreset(saved, {dtype: 'float32'});
    const widened = await Gemma3CausalLM.fromPreset(saved);
    const inputs = {token_ids: tf.tensor2d([[2, 9, 4]], [1, 3], 'int32'), padding_mask: tf.ones([1, 3], 'int32')};
    const embedding = (model: Gemma3CausalLM) => take(model.backbone.tokenEmbedding.call(inputs.token_ids));
    expect(await embedding(widened)).toEqual(await embedding(lm));
    tf.dispose(inputs);
    for (const model of [lm, widened]) model.dispose();
  });
});

describe('an embedder', () => {
  test('is saved with its pooling and preprocessing, and computes the same vectors', async () => {
    const preprocessor = await Gemma3TextEmbedderPreprocessor.fromPreset(TINY_PRESET, {
      sequenceLength: 9,
      truncate: 'waterfall',
    });
    const embedder = await Gemma3TextEmbedder.fromPreset(TINY_PRESET, {
      preprocessor,
      poolingMode: 'mean',
      normalize: false,
    });
    const vectors = await take(await embedder.encodeText(['capital', 'Paris']));
    const saved = new MemoryPreset();
    await embedder.saveToPreset(saved);
    const copy = embedder.clone();
    embedder.dispose();
    expect(await take(await copy.encodeText(['capital', 'Paris']))).toEqual(vectors);
    copy.dispose();
    expect(jsonOf(saved.files.get('task.json'))).toMatchObject({
      registered_name: 'keras_hub>Gemma3TextEmbedder',
      config: {pooling_mode: 'mean', normalize: false},
    });
    expect(saved.files.has('image_converter.json')).toBe(false);
    const again = await Gemma3TextEmbedder.fromPreset(saved);
    expect(again.preprocessor).toMatchObject({sequenceLength: 9, truncate: 'waterfall'});
    expect(await take(await again.encodeText(['capital', 'Paris']))).toEqual(vectors);
    again.dispose();
  });
});

describe('parts', () => {
  test('tokenizer and preprocessor are saved next to existing files', async () => {
    const folder = temporary();
    cpSync(TINY_PRESET, folder, {recursive: true});
    const tokenizer = await Gemma3Tokenizer.fromPreset(TINY_PRESET);
    await tokenizer.saveToPreset(folder);
    await new Gemma3CausalLMPreprocessor({tokenizer, sequenceLength: 77}).saveToPreset(folder);
    const names = readdirSync(TINY_PRESET, {recursive: true}).filter(name => name !== 'image_converter.json');
    expect(readdirSync(folder, {recursive: true}).sort()).toEqual(names.sort());
    const {config} = jsonFile(folder, 'preprocessor.json');
    expect(config).not.toHaveProperty('image_converter');
    expect((await Gemma3CausalLMPreprocessor.fromPreset(folder)).sequenceLength).toBe(77);
    await new Gemma3TextEmbedderPreprocessor({tokenizer, sequenceLength: 5}).saveToPreset(folder);
    expect(jsonFile(folder, 'preprocessor.json').class_name).toBe('Gemma3TextEmbedderPreprocessor');
    expect((await Gemma3TextEmbedderPreprocessor.fromPreset(folder)).sequenceLength).toBe(5);
  });

  test('an image converter is written as KerasHub writes it, wherever it came from', async () => {
    const tokenizer = await Gemma3Tokenizer.fromPreset(TINY_PRESET);
    const {config: theirs} = jsonFile(TINY_PRESET, 'image_converter.json');
    const {name: _n, trainable: _t, dtype: _d, ...config} = theirs;
    const camel = {imageSize: [64, 64], scale: config.scale, offset: -1, cropToAspectRatio: false};
    const rest = {interpolation: 'bilinear', antialias: false, padToAspectRatio: false, boundingBoxFormat: 'yxyx'};
    for (const given of [config, theirs, {...camel, ...rest}]) {
      const imageConverter = Gemma3ImageConverter.fromConfig(given);
      const saved = new MemoryPreset();
      await new Gemma3CausalLMPreprocessor({tokenizer, imageConverter}).saveToPreset(saved);
      expect(jsonOf(saved.files.get('image_converter.json'))).toEqual(jsonFile(TINY_PRESET, 'image_converter.json'));
    }
  });

  test('saving a backbone removes the task of another one', async () => {
    const folder = temporary();
    cpSync(TINY_PRESET, folder, {recursive: true});
    const backbone = await Gemma3Backbone.fromPreset(fixture('backbone/defaults'));
    await backbone.saveToPreset(folder);
    backbone.dispose();
    expect(readdirSync(folder)).not.toContain('task.json');
    expect(readdirSync(folder)).toContain('tokenizer.json');
  });
});

describe('errors leave everything unchanged', () => {
  const before = (folder: string) =>
    readdirSync(folder, {recursive: true, withFileTypes: true})
      .filter(entry => entry.isFile())
      .map(({parentPath, name}) => [name, readFileSync(join(parentPath, name)).toString('hex')]);

  test('aborted in the middle', async () => {
    const parent = temporary();
    const folder = join(parent, 'preset');
    cpSync(TINY_PRESET, folder, {recursive: true});
    const old = before(folder);
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    for (const target of [folder, join(parent, 'new')]) {
      const controller = new AbortController();
      const {signal} = controller;
      const onProgress = ({saved}: SaveProgress) => saved > 1e6 && controller.abort(new Error('enough'));
      await expect(lm.saveToPreset(target, {signal, onProgress, dtype: 'float32'})).rejects.toThrow('enough');
      await expect(lm.saveToPreset(target, {signal})).rejects.toThrow('enough');
    }
    lm.dispose();
    expect(before(folder)).toEqual(old);
    expect(readdirSync(parent)).toEqual(['preset']);
  });

  test('a full disk', async () => {
    const lm = await Gemma3CausalLM.fromPreset(TINY_PRESET);
    const calls: string[] = [];
    const sink = {
      name: 'full',
      create: async (path: string) => ({
        name: path,
        write: async () => {
          if (path.endsWith('.h5')) throw new Error('no space left');
        },
        close: async () => {},
      }),
      commit: async () => void calls.push('commit'),
      abort: async () => void calls.push('abort'),
    };
    await expect(lm.saveToPreset(sink)).rejects.toThrow('no space left');
    expect(calls).toEqual(['abort']);
    lm.dispose();
  });

  test('a file where a folder is expected, and a folder where a file is expected', async () => {
    const parent = temporary();
    writeFileSync(join(parent, 'file'), 'x');
    const tokenizer = await Gemma3Tokenizer.fromPreset(TINY_PRESET);
    await expect(tokenizer.saveToPreset(join(parent, 'file'))).rejects.toThrow('which is a file');
    // The vocabulary cannot be written, so tokenizer.json, which could, is removed again.
    const folder = join(parent, 'preset');
    cpSync(TINY_PRESET, folder, {recursive: true});
    rmSync(join(folder, 'assets'), {recursive: true});
    writeFileSync(join(folder, 'assets'), 'not a folder');
    const old = before(folder);
    await expect(tokenizer.saveToPreset(folder)).rejects.toThrow('Expected a folder or nothing at');
    expect(before(folder)).toEqual(old);
    expect(readdirSync(parent).sort()).toEqual(['file', 'preset']);
  });

  test('places that cannot be written to', async () => {
    const tokenizer = await Gemma3Tokenizer.fromPreset(TINY_PRESET);
    const save = (target: string | URL) => tokenizer.saveToPreset(target);
    await expect(save('/proc/none/such')).rejects.toThrow(
      /Expected a folder that can be written. Received: "\/proc\/none/,
    );
    await expect(save('localstorage://x')).rejects.toThrow(
      /"localstorage:\/\/x", an address, which cannot be written to/,
    );
    const folder = temporary();
    for (const target of [`file://${folder}/text`, new URL(`file://${folder}/url`)]) {
      await save(target);
      expect((await Gemma3Tokenizer.fromPreset(target)).vocabularySize).toBe(tokenizer.vocabularySize);
    }
    expect(readdirSync(folder).sort()).toEqual(['text', 'url']);
  });

  test('options and targets', async () => {
    const backbone = await Gemma3Backbone.fromPreset(fixture('backbone/defaults'));
    const save = (target: unknown, options = {}) => rejection(backbone.saveToPreset(target as string, options));
    const folder = join(temporary(), 'x');
    expect(await save(folder, {dtype: 'int8'})).toContain('Expected dtype to be one of float32, bfloat16');
    expect(await save(folder, {maxShardSize: 0})).toContain('maxShardSize to be null or a number above 0. Received: 0');
    expect(await save(folder, {shard: 1})).toContain('saveToPreset has no argument "shard"');
    for (const target of ['', null, undefined, 7, {}])
      expect(await save(target)).toContain('Expected a folder to save into');
    expect(existsSync(folder)).toBe(false);
    backbone.dispose();
  });
});
