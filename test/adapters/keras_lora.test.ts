/** `.lora.h5` files: reading those of KerasHub, writing files for it, and refusing files that do not match. */
import {mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import * as tf from '@tensorflow/tfjs';
import {Gemma3Backbone} from '../../src';
import {loraLayers} from '../../src/adapters/model_lora';
import {MemorySource} from '../../src/base/byte_source';
import {Hdf5File, Hdf5Writer} from '../../src/formats/hdf5';
import {type FileSource, MemoryFile} from '../../src/public/files';
import {fixture} from '../support/fixtures';
import {take} from '../support/numbers';
import {smallModel} from '../support/small_model';

const FILE = fixture('lora/grouped_heads.lora.h5');
const {grouped_heads: EXPECTED} = JSON.parse(readFileSync(fixture('lora/models.json'), 'utf8')) as {
  grouped_heads: {inputs: Record<string, number[][]>; hidden: {values: number[]}; layers: number[]};
};

const load = () => Gemma3Backbone.fromPreset(fixture('backbone/grouped_heads'));
const hidden = (backbone: Gemma3Backbone) => take(backbone.predict(EXPECTED.inputs) as tf.Tensor);

let folder: string;
let backbone: Gemma3Backbone;
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'lora-'));
  backbone = await load();
});
afterEach(() => {
  backbone.dispose();
  rmSync(folder, {recursive: true});
});

function randomize(model: Gemma3Backbone): void {
  tf.tidy(() => {
    model.trainableWeights.forEach((weight, i) =>
      weight.write(tf.randomNormal(weight.shape as number[], 0, 0.3, 'float32', i + 1)),
    );
  });
}

/** Datasets of a file: shape, dtype and bytes. */
async function contents(source: FileSource | string): Promise<Record<string, unknown>> {
  const bytes = typeof source === 'string' ? readFileSync(source) : (source as MemoryFile).bytes;
  const file = await Hdf5File.open(new MemorySource('file', bytes));
  const found: Record<string, unknown> = {};
  for (const path of file.paths()) {
    const dataset = file.dataset(path)!;
    const value = new Uint8Array(dataset.byteLength);
    await dataset.readInto(0, value);
    found[path] = [dataset.shape, dataset.dtype, Array.from(value)];
  }
  return found;
}

test.each([
  ['a path', () => FILE],
  ['bytes', () => new Uint8Array(readFileSync(FILE))],
  ['a buffer', () => new Uint8Array(readFileSync(FILE)).buffer],
  ['a file of a browser', () => new File([readFileSync(FILE)], 'a.lora.h5')],
  ['a handle', () => ({kind: 'file', name: 'a.lora.h5', getFile: async () => new Blob([readFileSync(FILE)])}) as never],
] as [string, () => FileSource][])('what KerasHub saved, from %s', async (_, source) => {
  const before = tf.memory().numTensors;
  await backbone.loadLoraWeights(source());
  const layers = loraLayers(backbone);
  expect([...layers.keys()]).toEqual(EXPECTED.layers);
  expect([...layers.values()].map(({loraRank, loraAlpha}) => [loraRank, loraAlpha])).toEqual(layersOf(3, 3));
  expect(backbone.trainableWeights).toHaveLength(2 * layers.size);
  expect(tf.memory().numTensors).toBe(before + 2 * layers.size);
  expect(await hidden(backbone)).toBeAllClose(EXPECTED.hidden.values, {atol: 1e-4});
});

const layersOf = (rank: number, alpha: number) => EXPECTED.layers.map(() => [rank, alpha]);

test('is saved again with the datasets of KerasHub, bit for bit', async () => {
  await backbone.loadLoraWeights(FILE);
  const path = join(folder, 'new/again.lora.h5');
  await backbone.saveLoraWeights(path);
  expect(await contents(path)).toEqual(await contents(FILE));
  expect(readdirSync(join(folder, 'new'))).toEqual(['again.lora.h5']);
});

test('an alpha is saved, and B is scaled for KerasHub, which has no alpha', async () => {
  backbone.enableLora(2, {alpha: 8});
  randomize(backbone);
  const expected = await hidden(backbone);
  const values = backbone.trainableWeights.map(weight => Array.from(weight.read().dataSync()));
  const file = new MemoryFile('a.lora.h5');
  await backbone.saveLoraWeights(file);
  const stored = await contents(file);
  const [index] = [...loraLayers(backbone).keys()];
  expect(Object.keys(stored)).toContain(`lora/${index}/vars/alpha`);
  const b = new Float32Array(
    new Uint8Array((stored[`lora/${index}/vars/lora_kernel_b`] as [0, 0, number[]])[2]).buffer,
  );
  const own = loraLayers(backbone).get(index!)!.loraMatrices!.b.read().dataSync();
  expect(Array.from(b)).toEqual(Array.from(own, value => 4 * value));
  const other = await load();
  await other.loadLoraWeights(file);
  expect(other.trainableWeights.map(weight => Array.from(weight.read().dataSync()))).toEqual(values);
  expect([...loraLayers(other).values()].every(({loraAlpha}) => loraAlpha === 8)).toBe(true);
  expect(await hidden(other)).toEqual(expected);
  other.dispose();
});

test('trained biases are kept by default', async () => {
  const [first, second] = [smallModel({vision: true}).backbone, smallModel({vision: true}).backbone];
  first.enableLora(2);
  randomize(first);
  const biases = (model: Gemma3Backbone) =>
    model.trainableWeights.filter(({name}) => /bias/.test(name)).map(weight => Array.from(weight.read().dataSync()));
  expect(biases(first)).toHaveLength(2);
  const with_ = new MemoryFile('with.lora.h5');
  const without = new MemoryFile('without.lora.h5');
  await first.saveLoraWeights(with_);
  await first.saveLoraWeights(without, {biases: false});
  const isBias = (path: string) => path.endsWith('/bias');
  expect(Object.keys(await contents(with_)).filter(isBias)).toHaveLength(2);
  expect(Object.keys(await contents(without)).filter(isBias)).toHaveLength(0);
  await second.loadLoraWeights(without);
  expect(biases(second)).not.toEqual(biases(first));
  await second.loadLoraWeights(with_);
  expect(biases(second)).toEqual(biases(first));
  first.dispose();
  second.dispose();
});

test('LoRA of the embedding has different dataset names', async () => {
  backbone.enableLora(2, {targetLayerNames: ['token_embedding']});
  randomize(backbone);
  const file = new MemoryFile('a.lora.h5');
  await backbone.saveLoraWeights(file);
  expect(Object.keys(await contents(file))).toEqual([
    'lora/0/vars/lora_embeddings_a',
    'lora/0/vars/lora_embeddings_b',
    'lora/vars/rank',
  ]);
  const other = await load();
  await other.loadLoraWeights(file);
  expect(await hidden(other)).toEqual(await hidden(backbone));
  other.dispose();
});

describe('refuses without changing anything:', () => {
  const states = () =>
    backbone.weights.map(weight => [weight.trainable, Array.from(weight.read().dataSync())] as const);

  /** A LoRA file with datasets other than KerasHub's. */
  async function written(datasets: Record<string, [number[], Float32Array | BigInt64Array]>): Promise<MemoryFile> {
    const writer = new Hdf5Writer();
    for (const [path, [shape, values]] of Object.entries(datasets)) {
      const dtype = values instanceof Float32Array ? 'float32' : 'int64';
      writer.dataset(path, {shape, dtype, data: () => [new Uint8Array(values.buffer as ArrayBuffer)]});
    }
    const file = new MemoryFile('written.lora.h5');
    await writer.writeTo(file);
    return file;
  }
  const rank = (value: number): [number[], BigInt64Array] => [[], new BigInt64Array([BigInt(value)])];
  const zeros = (...shape: number[]): [number[], Float32Array] => [
    shape,
    new Float32Array(shape.reduce((x, y) => x * y, 1)),
  ];

  async function refuse(source: FileSource, message: RegExp): Promise<void> {
    const before = states();
    const tensors = tf.memory().numTensors;
    await expect(backbone.loadLoraWeights(source)).rejects.toThrow(message);
    expect(tf.memory().numTensors).toBe(tensors);
    expect(states()).toEqual(before);
  }

  test('files that cannot be read', async () => {
    await refuse('adapter.h5', /The filename must end in `\.lora\.h5`. Received: filepath=adapter\.h5/);
    await refuse(join(folder, 'none.lora.h5'), /Expected the path of a file. .* where no file exists/);
    await refuse(42 as never, /Expected a file to load from/);
    const whole = readFileSync(FILE);
    for (const length of [0, 10, 100, 3000, whole.length - 1]) {
      await refuse(new Uint8Array(whole.subarray(0, length)), /truncated|shorter|HDF5|damaged|bytes/);
    }
    const random = Uint8Array.from({length: 4000}, (_, i) => (i * 7919) % 251);
    await refuse(random, /HDF5/);
  });

  test('files without LoRA', async () => {
    const preset = readFileSync(fixture('backbone/grouped_heads/model.weights.h5'));
    await refuse(new Uint8Array(preset), /Received a file without "lora\/vars\/rank"/);
    await refuse(await written({'lora/vars/rank': rank(2)}), /Received a file without layers/);
  });

  test('layers that do not fit', async () => {
    const [value] = EXPECTED.layers as [number];
    const group = (index: number) => `lora/${index}/vars/lora_kernel`;
    const file = await written({
      'lora/vars/rank': rank(2),
      [`${group(0)}_a`]: zeros(4, 2),
      [`${group(1)}_a`]: zeros(4, 2),
      [`${group(value)}_a`]: zeros(4, 2),
      [`${group(400)}_a`]: zeros(4, 2),
    });
    await refuse(file, /"lora_embeddings_a" of layer 0, "token_embedding", is missing/);
    await refuse(file, /layer 1 is "decoder_block_0", a Gemma3DecoderBlock/);
    await refuse(
      file,
      /"lora_kernel_a" of layer \d+, "decoder_block_0\/attention\/value", has shape \[4,2\], expected/,
    );
    await refuse(file, /layer 400 is not in the model/);
  });

  test('another rank, and layers other than those with LoRA', async () => {
    backbone.enableLora(2);
    await refuse(
      FILE,
      /The Lora rank expected by file .* is rank=3, but the model was called with `\.enableLora\(2\)`/,
    );
    const other = await load();
    other.enableLora(3, {targetLayerNames: ['query']});
    await expect(other.loadLoraWeights(FILE)).rejects.toThrow(
      /"decoder_block_0\/attention\/value", .* none in the model/,
    );
    other.dispose();
  });

  test('saving without LoRA, with several ranks, and with a wrong file extension', async () => {
    const path = join(folder, 'a.lora.h5');
    await expect(backbone.saveLoraWeights(path)).rejects.toThrow(/Make sure to call `\.enableLora\(rank\)` first/);
    backbone.enableLora(2);
    await expect(backbone.saveLoraWeights(join(folder, 'a.h5'))).rejects.toThrow(/must end in `\.lora\.h5`/);
    await expect(backbone.saveLoraWeights(path, {bias: true} as never)).rejects.toThrow(/no argument "bias"/);
    await expect(backbone.saveLoraWeights({} as never)).rejects.toThrow(/Expected a file to save to/);
    backbone.transformerLayers[0]!.ffwLinear.enableLora(3);
    await expect(backbone.saveLoraWeights(path)).rejects.toThrow(
      /same rank in all layers.* Received: ranks (3, 2|2, 3)/,
    );
    expect(readdirSync(folder)).toEqual([]);
  });

  test('fails to save where nothing can be written; creates a folder that does not exist', async () => {
    backbone.enableLora(2);
    writeFileSync(join(folder, 'file'), '');
    for (const path of ['/proc/none/such/a.lora.h5', join(folder, 'file/a.lora.h5')]) {
      await expect(backbone.saveLoraWeights(path)).rejects.toThrow(
        `Expected a file that can be written. Received: "${path}": `,
      );
    }
    expect(readdirSync(folder)).toEqual(['file']);
    await backbone.saveLoraWeights(join(folder, 'some/where/a.lora.h5'));
    expect(readdirSync(join(folder, 'some/where'))).toEqual(['a.lora.h5']);
  });

  test('a save that fails keeps the old file', async () => {
    backbone.enableLora(2);
    const path = join(folder, 'a.lora.h5');
    writeFileSync(path, 'old');
    const failing = jest.spyOn(Hdf5Writer.prototype, 'writeTo').mockRejectedValue(new Error('disk full'));
    await expect(backbone.saveLoraWeights(path)).rejects.toThrow('disk full');
    failing.mockRestore();
    expect(readdirSync(folder)).toEqual(['a.lora.h5']);
    expect(readFileSync(path, 'utf8')).toBe('old');
    await backbone.saveLoraWeights(path);
    expect(readFileSync(path).length).toBeGreaterThan(1000);
  });
});
