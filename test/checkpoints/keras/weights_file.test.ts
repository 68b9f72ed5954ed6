/** `.weights.h5` files: those of KerasHub (make_weights_fixtures.py), and those that models save here. */
import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone, Gemma3CausalLM, Gemma3TextEmbedder, useBackend, ValueError} from '../../../src';
import {camelKeys} from '../../../src/base/casing';
import {Hdf5File} from '../../../src/formats/hdf5';
import {Dense} from '../../../src/layers/dense';
import {Task} from '../../../src/models/task';
import {MemoryFile, MemorySource} from '../../../src/public/files';
import {fixture, fixtureBytes, fixtureJson} from '../../support/fixtures';
import {expectNoLeak, take} from '../../support/numbers';

type Kind = 'text' | 'vision';
interface Cases {
  config: Record<string, unknown>;
  encoder: Record<string, unknown>;
  inputs: Record<Kind, Record<string, never[]>>;
  files: Record<string, {inputs: Kind; output: number[]}>;
}
const CASES = fixtureJson<Cases>('weights/cases.json');

const NAMES = Object.keys(CASES.files);
const fileOf = (name: string) => fixture(`weights/${name}.weights.h5`);

beforeAll(async () => {
  await useBackend('simd', {threads: 1});
});

const folder = mkdtempSync(join(tmpdir(), 'weights-'));
afterAll(() => rmSync(folder, {recursive: true}));

function backboneFor(name: string, more: object = {}): Gemma3Backbone {
  const vision = CASES.files[name]!.inputs === 'vision';
  const encoder = vision ? {imageSize: 8, visionEncoder: camelKeys(CASES.encoder)} : {};
  return new Gemma3Backbone({...camelKeys(CASES.config), ...encoder, ...more} as never);
}

/** The model whose weights a file of the fixtures holds, with the only reference to its backbone. */
function modelFor(name: string, more: object = {}) {
  const backbone = backboneFor(name, more);
  if (name.endsWith('backbone')) return backbone;
  const model = name.endsWith('causal_lm')
    ? new Gemma3CausalLM({backbone})
    : new Gemma3TextEmbedder({backbone, poolingMode: 'mean'});
  backbone.dispose();
  return model;
}

const backboneOf = (model: Gemma3Backbone | Gemma3CausalLM | Gemma3TextEmbedder): Gemma3Backbone =>
  model instanceof Gemma3Backbone ? model : model.backbone;

const outputOf = (model: Pick<Gemma3Backbone, 'predict'>, name: string): Promise<number[]> =>
  take(model.predict(CASES.inputs[CASES.files[name]!.inputs] as never) as tf.Tensor);

/** Paths, dtypes and bytes of the variables in a file, without those of an optimizer and of dropout. */
async function variables(bytes: Uint8Array): Promise<Map<string, [string, Uint8Array]>> {
  const file = await Hdf5File.open(new MemorySource('a file', bytes));
  const found = new Map<string, [string, Uint8Array]>();
  for (const path of file.paths()) {
    if (path.startsWith('optimizer/') || path.includes('seed_generator')) continue;
    const dataset = file.dataset(path)!;
    const values = new Uint8Array(dataset.byteLength);
    await dataset.readInto(0, values);
    found.set(path, [dataset.dtype, values]);
  }
  await file.close();
  return found;
}

const saved = async (model: Gemma3Backbone | Gemma3CausalLM | Gemma3TextEmbedder, options = {}) => {
  const file = new MemoryFile('a.weights.h5');
  await model.saveWeights(file, options);
  return file.bytes;
};

describe.each(NAMES)('%s', name => {
  test("loads KerasHub's file, and saves the same variables", async () => {
    await expectNoLeak(async () => {
      const model = modelFor(name, name.startsWith('bfloat16') ? {dtype: 'bfloat16'} : {});
      const promise: Promise<void> = model.loadWeights(fileOf(name));
      await promise;
      expect(await outputOf(model, name)).toBeAllClose(CASES.files[name]!.output, {atol: 1e-5});
      const again = await saved(model);
      expect(await variables(again)).toEqual(await variables(fixtureBytes(`weights/${name}.weights.h5`)));
      model.dispose();
    });
  });
});

test('names of layers are attributes, as in Keras, also of the backbone inside a task', async () => {
  const model = modelFor('causal_lm');
  await model.loadWeights(fileOf('causal_lm'));
  const file = await Hdf5File.open(new MemorySource('a file', await saved(model)));
  expect(await file.attribute('vars', 'name')).toBe(model.name);
  expect(await file.attribute('layers/gemma3_backbone/vars', 'name')).toBe(backboneOf(model).name);
  const query = 'layers/gemma3_backbone/layers/gemma3_decoder_block/attention/query_dense/vars';
  expect(await file.attribute(query, 'name')).toBe('query');
  await file.close();
  model.dispose();
});

test('every form of source, and progress', async () => {
  const bytes = fixtureBytes('weights/backbone.weights.h5');
  const model = modelFor('backbone');
  const expected = CASES.files.backbone!.output;
  const sources = [
    bytes,
    bytes.slice().buffer,
    new Blob([bytes as Uint8Array<ArrayBuffer>]),
    new MemorySource('s.weights.h5', bytes),
  ];
  for (const source of sources) {
    for (const weight of model.weights) tf.tidy(() => void weight.write(tf.zeros(weight.shape as number[])));
    const progress: [number, number][] = [];
    await model.loadWeights(source, {onProgress: ({loaded, total}) => progress.push([loaded, total])});
    expect(progress.at(-1)).toEqual([4 * model.countParams(), 4 * model.countParams()]);
    expect(await outputOf(model, 'backbone')).toBeAllClose(expected, {atol: 1e-5});
  }
  const progress: [number, number][] = [];
  const path = join(folder, 'own.weights.h5');
  await model.saveWeights(path, {onProgress: ({saved: bytes_, total}) => progress.push([bytes_, total])});
  expect(progress.at(-1)).toEqual([4 * model.countParams(), 4 * model.countParams()]);
  expect(await variables(readFileSync(path))).toEqual(await variables(bytes));
  model.dispose();
});

test("tfjs' own form, tensors by name, still works", async () => {
  const model = modelFor('backbone');
  await model.loadWeights(fileOf('backbone'));
  const record = Object.fromEntries(model.weights.map(weight => [weight.originalName, weight.read().clone()]));
  const other = modelFor('backbone');
  expect(other.loadWeights(record)).toBeUndefined();
  expect(await outputOf(other, 'backbone')).toBeAllClose(CASES.files.backbone!.output, {atol: 1e-5});
  const [first] = Object.keys(record);
  const {[first!]: left, ...rest} = record;
  expect(() => other.loadWeights(rest)).toThrow(/weights are not set/);
  other.loadWeights(rest, false);
  for (const wrong of [7, null, [1], {a: 1}]) {
    expect(() => other.loadWeights(wrong as never)).toThrow(ValueError);
  }
  expect(() => other.loadWeights({a: 1} as never)).toThrow(/expected a file .* or tensors by name. Received: {"a":1}/);
  tf.dispose([left!, ...Object.values(rest)]);
  model.dispose();
  other.dispose();
});

describe('formats of weights', () => {
  test.each(['int8', 'int4'] as const)(
    'stored as %s: loads as `fromPreset` does; a dtype is needed to save',
    async dtype => {
      const more = {hiddenDim: 32, intermediateDim: 32, headDim: 32};
      const source = modelFor('backbone', more);
      await source.saveToPreset(join(folder, dtype));
      const bytes = await saved(source);
      const model = modelFor('backbone', {...more, dtype});
      await model.loadWeights(bytes);
      const expected = await Gemma3Backbone.fromPreset(join(folder, dtype), {dtype});
      const numbers = (of: Gemma3Backbone) => of.weights.flatMap(w => Array.from(tf.tidy(() => w.read().dataSync())));
      expect(numbers(model as Gemma3Backbone)).toEqual(numbers(expected));
      await expect(saved(model)).rejects.toThrow(/Pass {dtype: "bfloat16"} or {dtype: "float32"}/);
      const floats = modelFor('backbone', more);
      await floats.loadWeights(await saved(model, {dtype: 'float32'}));
      expect(numbers(floats as Gemma3Backbone)).toEqual(numbers(expected));
      for (const each of [source, model, expected, floats]) each.dispose();
    },
  );

  test('saved as bfloat16, the file holds rounded values', async () => {
    const model = modelFor('backbone');
    await model.loadWeights(fileOf('backbone'));
    const dtypes = [...(await variables(await saved(model, {dtype: 'bfloat16'}))).values()].map(([dtype]) => dtype);
    expect(new Set(dtypes)).toEqual(new Set(['bfloat16']));
    model.dispose();
  });
});

describe('LoRA', () => {
  test('saves merged kernels; loading sets B to 0 and keeps LoRA trainable', async () => {
    const model = modelFor('causal_lm');
    const backbone = backboneOf(model);
    await model.loadWeights(fileOf('causal_lm'));
    backbone.enableLora(2, {seed: 1});
    for (const weight of model.trainableWeights)
      tf.tidy(() => void weight.write(tf.randomNormal(weight.shape as number[])));
    const adapted = await outputOf(model, 'causal_lm');
    const merged = modelFor('causal_lm');
    await merged.loadWeights(await saved(model));
    expect(await outputOf(merged, 'causal_lm')).toBeAllClose(adapted, {atol: 1e-5});

    await model.loadWeights(fileOf('lora_causal_lm'));
    expect(backbone.loraEnabled).toBe(true);
    expect(await outputOf(model, 'lora_causal_lm')).toBeAllClose(CASES.files.lora_causal_lm!.output, {atol: 1e-5});
    const sizes = model.trainableWeights.map(w => tf.tidy(() => w.read().abs().max().dataSync()[0]!));
    expect(sizes.filter(size => size === 0)).toHaveLength(sizes.length / 2);
    model.dispose();
    merged.dispose();
  });
});

describe('files that do not fit', () => {
  let warned: jest.SpyInstance;
  beforeEach(() => {
    warned = jest.spyOn(console, 'warn').mockImplementation(() => {});
  });
  afterEach(() => warned.mockRestore());

  test('names layers, variables and both shapes, and changes nothing', async () => {
    const model = modelFor('backbone', {intermediateDim: 16});
    const before = await outputOf(model, 'backbone');
    await expect(model.loadWeights(fileOf('backbone'))).rejects.toThrow(ValueError);
    await expect(model.loadWeights(fileOf('backbone'))).rejects.toThrow(
      /variable ".*" of layer "decoder_block_0\/ffw_gating", "layers\/gemma3_decoder_block\/gating_ffw\/vars\/0", in .*backbone.weights.h5 has shape \[8,12\], expected \[8,16\].*skipMismatch/,
    );
    expect(await outputOf(model, 'backbone')).toEqual(before);
    model.dispose();
  });

  test('skipMismatch loads the layers that fit and warns', async () => {
    const model = modelFor('backbone', {intermediateDim: 16, numLayers: 3});
    const frozen = model.weights.map(weight => Array.from(tf.tidy(() => weight.read().dataSync())));
    await model.loadWeights(fileOf('backbone'), {skipMismatch: true});
    const full = modelFor('backbone');
    await full.loadWeights(fileOf('backbone'));
    const stored = new Map(full.weights.map(w => [w.originalName, Array.from(w.read().dataSync())] as const));
    for (const [i, weight] of model.weights.entries()) {
      const name = weight.originalName;
      const skipped = name.startsWith('decoder_block_2') || name.includes('ffw_gating') || name.includes('ffw_linear');
      expect(Array.from(tf.tidy(() => weight.read().dataSync()))).toEqual(skipped ? frozen[i] : stored.get(name));
    }
    expect(warned).toHaveBeenCalledTimes(1);
    expect(warned.mock.calls[0]![0]).toMatch(
      /do not fit.*decoder_block_0\/ffw_gating.*skipped, and \d+ layers were loaded/,
    );
    model.dispose();
    full.dispose();
  });

  test('layers that only the file has', async () => {
    const model = modelFor('backbone', {numLayers: 1});
    await expect(model.loadWeights(fileOf('backbone'))).rejects.toThrow(
      /"layers\/gemma3_decoder_block_1\/attention\/key_dense\/vars" has 1 variables of a layer that the model does not have/,
    );
    await model.loadWeights(fileOf('backbone'), {skipMismatch: true});
    expect(warned).toHaveBeenCalledTimes(1);
    model.dispose();
  });

  test('the file of a task for a backbone, and the other way round', async () => {
    const backbone = modelFor('backbone');
    await expect(backbone.loadWeights(fileOf('causal_lm'))).rejects.toThrow(/load it with `loadWeights` of the task/);
    const lm = modelFor('causal_lm');
    await expect(lm.loadWeights(fileOf('backbone'))).rejects.toThrow(/try `backbone.loadWeights`/);
    backbone.dispose();
    lm.dispose();
  });

  test('wrong names, options and damaged files', async () => {
    const model = modelFor('backbone');
    await expect(model.saveWeights(join(folder, 'a.h5'))).rejects.toThrow(
      'must end in `.weights.h5`. Received: filepath=',
    );
    await expect(model.loadWeights(join(folder, 'a.weights.json'))).rejects.toThrow(/several files.*fromPreset/);
    await expect(model.loadWeights(fileOf('backbone'), {skipMismatch: 1} as never)).rejects.toThrow('`skipMismatch`');
    await expect(model.loadWeights(fileOf('backbone'), {skip: true} as never)).rejects.toThrow('no argument "skip"');
    await expect(saved(model, {dtype: 'float16'})).rejects.toThrow('Received: "float16"');
    await expect(model.loadWeights(new Uint8Array(50))).rejects.toThrow(/HDF5/);
    const cut = fixtureBytes('weights/backbone.weights.h5').slice(0, 5000);
    await expect(model.loadWeights(cut)).rejects.toThrow(Error);
    model.dispose();
  });

  test('a save that is aborted leaves the old file, and nothing else', async () => {
    const model = modelFor('backbone');
    const path = join(folder, 'kept.weights.h5');
    writeFileSync(path, 'old');
    const before = readdirSync(folder);
    const controller = new AbortController();
    const options = {signal: controller.signal, onProgress: () => controller.abort(new Error('enough'))};
    await expect(model.saveWeights(path, options)).rejects.toThrow('enough');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(before);
    await expect(model.loadWeights(fileOf('backbone'), {signal: controller.signal})).rejects.toThrow('enough');
    model.dispose();
  });
});

describe('weights of a task alone', () => {
  test('language models and embedders have none', async () => {
    for (const name of ['causal_lm', 'embedder']) {
      const model = modelFor(name) as Gemma3CausalLM;
      expect(model.hasTaskWeights()).toBe(false);
      const path = join(folder, 'task.weights.h5');
      await expect(model.saveTaskWeights(path)).rejects.toThrow(/which has none, so saveTaskWeights has nothing to do/);
      await expect(model.loadTaskWeights(fileOf(name))).rejects.toThrow(/Use `loadWeights`/);
      model.dispose();
    }
  });

  test('a task with a head of its own', async () => {
    class Classifier extends Task {
      static override className = 'Classifier';
      readonly preprocessor = null;
      constructor(readonly backbone: Gemma3Backbone) {
        const hidden = backbone.apply(backbone.inputs) as tf.SymbolicTensor;
        const head = new Dense({units: 3, name: 'classes'});
        super({inputs: backbone.inputs, outputs: head.apply(hidden) as tf.SymbolicTensor});
      }
    }
    const [one, two] = [0, 1].map(() => new Classifier(backboneFor('backbone'))) as [Classifier, Classifier];
    expect(one.hasTaskWeights()).toBe(true);
    const file = new MemoryFile('task.weights.h5');
    await one.saveTaskWeights(file);
    expect([...(await variables(file.bytes)).keys()]).toEqual(['layers/dense/vars/0', 'layers/dense/vars/1']);
    await two.backbone.loadWeights(fileOf('backbone'));
    await one.backbone.loadWeights(fileOf('backbone'));
    await two.loadTaskWeights(file.bytes);
    expect(await outputOf(two, 'backbone')).toEqual(await outputOf(one, 'backbone'));
    // A file of all weights has both.
    const all = new MemoryFile('all.weights.h5');
    await one.saveWeights(all);
    const three = new Classifier(backboneFor('backbone'));
    await three.loadWeights(all.bytes);
    expect(await outputOf(three, 'backbone')).toEqual(await outputOf(one, 'backbone'));
  });
});
