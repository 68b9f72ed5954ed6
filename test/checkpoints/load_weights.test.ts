/** Loading weights from Keras presets, and errors for files and variables that do not fit. */
import {cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {MemorySource} from '../../src/base/byte_source';
import {ValueError} from '../../src/base/errors';
import {type JsonObject} from '../../src/base/json';
import {listPresetVariables, loadPresetWeights} from '../../src/checkpoints/load_weights';
import {openCheckpoint} from '../../src/checkpoints/open_checkpoint';
import {type LoadProgress} from '../../src/checkpoints/stored_weights';
import {MemoryFile} from '../../src/files/memory';
import {Hdf5File, Hdf5Writer} from '../../src/formats/hdf5';
import {openPreset} from '../../src/hub/open_preset';
import {presets} from '../../src/hub/registry';
import {Gemma3Backbone} from '../../src/models/gemma3/gemma3_backbone';
import {knownConfig} from '../../src/models/gemma3/parts/backbone_config';
import {fixture} from '../support/fixtures';
import {rejection} from '../support/hdf5_files';

const H5 = 'model.weights.h5';
const folders: string[] = [];

/** A copy of a fixture that a test may break. */
function copyOf(name: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'preset-'));
  folders.push(folder);
  cpSync(fixture(`backbone/${name}`), folder, {recursive: true});
  return folder;
}

afterAll(() => folders.forEach(folder => rmSync(folder, {recursive: true})));

function editConfig(folder: string, change: (config: Record<string, unknown>) => void): void {
  const path = join(folder, 'config.json');
  const json = JSON.parse(readFileSync(path, 'utf8')) as {config: Record<string, unknown>};
  change(json.config);
  writeFileSync(path, JSON.stringify(json));
}

function editBytes(folder: string, change: (bytes: Uint8Array) => Uint8Array, file = H5): void {
  const path = join(folder, file);
  writeFileSync(path, change(new Uint8Array(readFileSync(path))));
}

let tensors = 0;
beforeEach(() => (tensors = tf.memory().numTensors));
// A failed load must leave no tensors behind.
afterEach(() => expect(tf.memory().numTensors).toBe(tensors));

const failure = (folder: string) => rejection(Gemma3Backbone.fromPreset(folder));

describe('variables that do not fit', () => {
  test('of another shape', async () => {
    const folder = copyOf('defaults');
    editConfig(folder, config => (config.intermediate_dim = 24));
    const message = await failure(folder);
    expect(message).toContain(`The weights of preset "${folder}" do not fit its config.json: `);
    expect(message).toContain(
      `"layers/gemma3_decoder_block/gating_ffw/vars/0" in ${H5} has shape [8,16], expected [8,24]; `,
    );
    expect(message).toContain('Check that both come from one preset.');
    await expect(Gemma3Backbone.fromPreset(folder)).rejects.toThrow(ValueError);
  });

  test('missing', async () => {
    const folder = copyOf('defaults');
    editConfig(folder, config => (config.use_post_ffw_norm = true));
    expect(await failure(folder)).toContain(
      `"layers/gemma3_decoder_block/post_ffw_norm/vars/0" of shape [8] is missing from ${H5}`,
    );
  });

  test('extra', async () => {
    const folder = copyOf('post_norms');
    editConfig(folder, config => (config.use_post_ffw_norm = false));
    expect(await failure(folder)).toContain(
      `"layers/gemma3_decoder_block/post_ffw_norm/vars/0" of shape [8] in ${H5} is not in the model`,
    );
  });

  test('many: the first ones are listed, the others counted', async () => {
    const folder = copyOf('defaults');
    editConfig(folder, config => (config.num_layers = 4));
    expect(await failure(folder)).toMatch(/; and \d+ more\. Check/);
  });

  test('of a type that is not floating point', async () => {
    const folder = copyOf('defaults');
    // The class bits of a float32 type, changed to those of an unsigned 32-bit integer.
    editBytes(folder, bytes => {
      const float32 = [0x11, 0x20, 0x1f, 0, 4, 0, 0, 0, 0, 0, 32, 0];
      const at = Buffer.from(bytes).indexOf(Buffer.from(float32));
      if (at < 0) throw new Error('Expected a float32 type in the fixture. Received none.');
      bytes.set([0x10, 0, 0, 0, 4, 0, 0, 0, 0, 0, 32, 0], at);
      return bytes;
    });
    expect(await failure(folder)).toMatch(/" in model\.weights\.h5 has dtype uint32, expected float16, bfloat16/);
  });

  test('of another model altogether', async () => {
    const folder = copyOf('defaults');
    cpSync(fixture('hdf5/types.h5'), join(folder, H5));
    const message = await failure(folder);
    expect(message).toContain(H5);
    expect(message).not.toContain('undefined');
  });
});

describe('what KerasHub ignores', () => {
  /** Rewrites the weights of a folder, with more datasets. */
  async function addDatasets(folder: string, ...paths: string[]): Promise<void> {
    const stored = await Hdf5File.open(new MemorySource(H5, new Uint8Array(readFileSync(join(folder, H5)))));
    const writer = new Hdf5Writer();
    for (const path of stored.paths()) {
      const {shape, dtype, byteLength} = stored.dataset(path)!;
      const bytes = new Uint8Array(byteLength);
      await stored.dataset(path)!.readInto(0, bytes);
      writer.dataset(path, {shape, dtype, data: () => [bytes]});
    }
    for (const path of paths) writer.dataset(path, {shape: [2], dtype: 'int64', data: () => [new Uint8Array(16)]});
    const file = new MemoryFile(H5);
    await writer.writeTo(file);
    writeFileSync(join(folder, H5), file.bytes);
  }

  const loaded = async (folder: string) => {
    const backbone = await Gemma3Backbone.fromPreset(folder);
    const values = await Promise.all(backbone.getWeights().map(weight => weight.data()));
    backbone.dispose();
    return values;
  };

  test('the state of an optimizer, and datasets that are no variables', async () => {
    const folder = copyOf('defaults');
    const expected = await loaded(folder);
    // The paths that Keras writes for a compiled backbone.
    await addDatasets(folder, 'optimizer/vars/0', 'optimizer/vars/12', 'optimizer/inner/vars/1', 'notes', 'vars/0');
    expect(await loaded(folder)).toEqual(expected);
    await addDatasets(folder, 'layers/gemma3_decoder_block/optimizer/vars/0');
    expect(await failure(folder)).toMatch(/decoder_block\/optimizer\/vars\/0".* is not in the model\. Check/);
  });

  test('datasets of kinds that cannot be read, in presets and in files of weights', async () => {
    const folder = copyOf('defaults');
    const expected = await loaded(folder);
    cpSync(fixture('hdf5/other_datasets.h5'), join(folder, H5));
    expect(await loaded(folder)).toEqual(expected);
    const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
    await backbone.loadWeights(join(folder, H5));
    const values = await Promise.all(backbone.getWeights().map(weight => weight.data()));
    backbone.dispose();
    expect(values).toEqual(expected);
  });

  test('keys of config.json that are not known, with a warning', async () => {
    const folder = copyOf('defaults');
    const warn = jest.spyOn(console, 'warn').mockImplementation();
    const expected = await loaded(folder);
    expect(warn).not.toHaveBeenCalled();
    editConfig(folder, config => {
      Object.assign(config, {quantization_config: null, some_new_option: 3});
      config.dtype = {module: 'keras', class_name: 'FloatDTypePolicy', config: {name: 'float32'}};
    });
    expect(await loaded(folder)).toEqual(expected);
    expect(warn.mock.calls).toEqual([
      [expect.stringContaining(`preset "${folder}" has unknown keys that are ignored`)],
    ]);
    expect(String(warn.mock.calls[0])).toContain('as by KerasHub: "quantization_config"; "some_new_option".');
    warn.mockRestore();
  });

  test('keys of a vision encoder that are not known', () => {
    const warn = jest.spyOn(console, 'warn').mockImplementation();
    const {config} = presets.gemma3_4b!;
    const vision = config.vision_encoder as JsonObject;
    const more = {...vision, some_new_option: null};
    expect(knownConfig({...config, vision_encoder: more}, 'p')).toEqual(config);
    const serialized = (inner: JsonObject) => ({...config, vision_encoder: {class_name: 'V', config: inner}});
    expect(knownConfig(serialized(more), 'p')).toEqual(serialized(vision));
    expect(warn).toHaveBeenCalledTimes(2);
    for (const [message] of warn.mock.calls) expect(message).toContain('"vision_encoder.some_new_option"');
    warn.mockRestore();
  });
});

describe('files that cannot be used', () => {
  test.each([10, 200, 2000, 40_000, 96_000])('truncated after %d bytes', async length => {
    const folder = copyOf('defaults');
    editBytes(folder, bytes => bytes.slice(0, length));
    expect(await failure(folder)).toContain(join(folder, H5));
  });

  test('foreign', async () => {
    const folder = copyOf('defaults');
    writeFileSync(join(folder, H5), 'version https://git-lfs.github.com/spec/v1\n'.repeat(30));
    expect(await failure(folder)).toContain(join(folder, H5));
  });

  test('missing', async () => {
    const folder = copyOf('defaults');
    rmSync(join(folder, H5));
    expect(await failure(folder)).toBe(
      `Expected "model.weights.h5" or "model.weights.json" in preset "${folder}". Received neither. ` +
        'Fetch the preset again, or load it with loadWeights: false.',
    );
    const backbone = await Gemma3Backbone.fromPreset(folder, {loadWeights: false});
    expect(backbone.countParams()).toBeGreaterThan(0);
    backbone.dispose();
  });

  test('without one of their shards', async () => {
    const folder = copyOf('sharded');
    rmSync(join(folder, 'model_00001.weights.h5'));
    expect(await failure(folder)).toBe(
      `Expected file "model_00001.weights.h5" in preset folder "${folder}". Received a folder without it.`,
    );
  });

  test.each([
    ['{', '/model.weights.json". Received: '],
    ['{}', 'Expected a weight_map from layers to names of .h5 files of the preset in "model.weights.json"'],
    ['{"weight_map": {}}', 'Expected a weight_map from layers to names of .h5 files'],
    ['{"weight_map": {"a": "../model.weights.h5"}}', 'Received: "../model.weights.h5"'],
    ['{"weight_map": {"a": "/etc/passwd"}}', 'Received: "/etc/passwd"'],
    ['{"weight_map": {"a": 3}}', 'Expected a weight_map from layers to names of .h5 files'],
  ])('with the index %j', async (text, message) => {
    const folder = copyOf('sharded');
    writeFileSync(join(folder, 'model.weights.json'), text);
    expect(await failure(folder)).toContain(message);
  });

  test('with a variable in two shards', async () => {
    const folder = copyOf('sharded');
    cpSync(join(folder, 'model_00000.weights.h5'), join(folder, 'model_00001.weights.h5'));
    expect(await failure(folder)).toMatch(
      /^Variable ".*" is in "model_00000.weights.h5" and again in "model_00001.weights.h5": expected it once\.$/,
    );
  });

  test('config.json', async () => {
    const folder = copyOf('defaults');
    writeFileSync(join(folder, 'config.json'), '{"class_name": "GemmaBackbone", "config": {}}');
    expect(await failure(folder)).toBe(
      `Expected a Gemma3Backbone in "${folder}/config.json". Received: GemmaBackbone. ` +
        'This package has only the classes of Gemma 3.',
    );
    rmSync(join(folder, 'config.json'));
    expect(await failure(folder)).toContain(`Expected file "config.json" in preset folder "${folder}".`);
  });

  test('damage in the data of a variable is not detected: values have no checksum', async () => {
    const folder = copyOf('defaults');
    editBytes(folder, bytes => {
      bytes[bytes.length - 1]! ^= 0x01;
      return bytes;
    });
    (await Gemma3Backbone.fromPreset(folder)).dispose();
  });
});

describe('loading', () => {
  test.each(['sharded_float32', 'bfloat16', 'float16'])('reports its progress: %s', async name => {
    const seen: LoadProgress[] = [];
    const folder = fixture(`backbone/${name}`);
    const backbone = await Gemma3Backbone.fromPreset(folder, {onProgress: progress => seen.push({...progress})});
    const variables = await listPresetVariables(await openPreset(folder));
    const total = variables.reduce((sum, {bytes}) => sum + bytes, 0);
    expect(seen.every(progress => progress.total === total)).toBe(true);
    const loaded = seen.map(progress => progress.loaded);
    expect(loaded).toEqual([...new Set(loaded)].sort((a, b) => a - b));
    expect(loaded.at(-1)).toBe(total);
    expect(new Set(seen.map(progress => progress.file))).toEqual(new Set(variables.map(({file}) => file)));
    backbone.dispose();
  });

  test('stops when it is aborted', async () => {
    const aborted = AbortSignal.abort(new Error('enough'));
    expect(await rejection(Gemma3Backbone.fromPreset(fixture('backbone/defaults'), {signal: aborted}))).toBe('enough');
    const controller = new AbortController();
    let pieces = 0;
    const onProgress = () => {
      if (++pieces === 3) controller.abort(new Error('enough'));
    };
    const {signal} = controller;
    expect(await rejection(Gemma3Backbone.fromPreset(fixture('backbone/defaults'), {signal, onProgress}))).toBe(
      'enough',
    );
    expect(pieces).toBe(3);
  });

  test('passes on errors thrown by onProgress', async () => {
    const onProgress = () => {
      throw new Error('mine');
    };
    expect(await rejection(Gemma3Backbone.fromPreset(fixture('backbone/defaults'), {onProgress}))).toBe('mine');
  });

  test('closes every file, even after errors', async () => {
    const source = await openPreset(fixture('backbone/sharded'));
    const open: string[] = [];
    const counted = {
      name: source.name,
      has: (path: string) => source.has(path),
      open: async (path: string) => {
        const file = await source.open(path);
        open.push(path);
        const close = async () => {
          open.splice(open.indexOf(path), 1);
          await file.close();
        };
        return {
          name: file.name,
          size: file.size,
          readInto: (offset: number, target: Uint8Array) => file.readInto(offset, target),
          close,
        };
      },
    };
    const backbone = await Gemma3Backbone.fromPreset(counted);
    expect(open).toEqual([]);
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(loadPresetWeights(backbone, await openCheckpoint(counted), {signal})).rejects.toThrow('enough');
    expect(open).toEqual([]);
    backbone.dispose();
  });

  test('lists variables without reading them', async () => {
    const variables = await listPresetVariables(await openPreset(fixture('backbone/bfloat16')));
    const expected = {path: 'layers/rms_normalization/vars/0', dtype: 'bfloat16', file: H5};
    expect(variables.find(({path}) => path === expected.path)).toMatchObject(expected);
    expect(variables.every(({shape, bytes}) => bytes === 2 * shape.reduce((a, b) => a * b, 1))).toBe(true);
  });
});
