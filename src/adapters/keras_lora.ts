/** KerasHub's `.lora.h5` files: LoRA matrices, keyed by the numbers of their layers. */
import type * as tf from '@tensorflow/tfjs';
import {intoFile} from '../base/byte_sink';
import {checkArgument} from '../base/checks';
import {checkKeys, listed, ValueError} from '../base/errors';
import {sizeOf} from '../base/shapes';
import {READABLE, Scratch, StoredArrayStream} from '../checkpoints/stored_array';
import {REQUEST_OPTIONS, type RequestOptions} from '../files/http_client';
import {fileName, type FileSource, type FileTarget, openFileSource, openFileTarget} from '../files/open_file';
import {type Hdf5Dataset, Hdf5File, Hdf5Writer} from '../formats/hdf5';
import {type LoraLayer} from '../layers/lora';
import {
  adaptableLayers,
  applyAdapters,
  biasOf,
  type LayerAdapter,
  loraLayers,
  NO_LORA,
  numberedLayers,
} from './model_lora';

/** A file to save to: a path (Node), a FileSystemFileHandle, or a sink of bytes. */
export type LoraTarget = FileTarget;
/**
 * A file to load from: a path (Node), an http(s) address, bytes, a Blob, a FileSystemFileHandle, or a source of bytes.
 */
export type LoraSource = FileSource;

/** Options of `saveLoraWeights`. */
export interface SaveLoraOptions {
  /** Whether to save biases that were trained together with LoRA. KerasHub ignores them. Defaults to true. */
  biases?: boolean;
}

const ENDING = '.lora.h5';

/** Ending of adapters of llama.cpp. */
const isGguf = (file: FileSource): boolean => fileName(file)?.toLowerCase().endsWith('.gguf') ?? false;

function checkEnding(file: FileTarget | FileSource): void {
  const name = fileName(file);
  if (name !== undefined && !name.endsWith(ENDING)) {
    throw new ValueError(`The filename must end in \`${ENDING}\`. Received: filepath=${name}`);
  }
}

const bytesOf = (numbers: Float32Array) =>
  new Uint8Array(numbers.buffer as ArrayBuffer, numbers.byteOffset, numbers.byteLength);

/** Implements `Backbone.saveLoraWeights`; see there for errors. */
export async function saveLoraWeights(
  backbone: tf.LayersModel,
  target: LoraTarget,
  options: SaveLoraOptions,
): Promise<void> {
  checkKeys('saveLoraWeights', options, ['biases']);
  const {biases = true} = options;
  checkArgument('saveLoraWeights', 'biases', biases, 'flag');
  const layers = loraLayers(backbone);
  if (layers.size === 0) throw new ValueError(NO_LORA);
  checkEnding(target);
  const ranks = new Set([...layers.values()].map(({loraRank}) => loraRank!));
  if (ranks.size > 1) {
    throw new ValueError(
      `Expected LoRA of the same rank in all layers, because the file stores only one rank. Received: ranks ${[...ranks].join(', ')}.`,
    );
  }
  const [rank] = ranks;
  const file = new Hdf5Writer();
  file.dataset('lora/vars/rank', {
    shape: [],
    dtype: 'int64',
    data: () => [new Uint8Array(new BigInt64Array([BigInt(rank!)]).buffer)],
  });
  for (const [index, layer] of layers) await addLayer(file, index, layer, biases);

  const sink = await openFileTarget(target);
  await intoFile(sink, () => file.writeTo(sink));
}

async function addLayer(file: Hdf5Writer, index: number, layer: LoraLayer, biases: boolean): Promise<void> {
  const {a, b} = layer.loraMatrices!;
  const adapter = await layer.readAdapter();
  const scale = layer.loraScale;
  const group = `lora/${index}/vars`;
  const add = (name: string, shape: readonly number[], values: Float32Array) =>
    file.dataset(`${group}/${name}`, {shape, dtype: 'float32', data: () => [bytesOf(values)]});
  const name = matrixName(layer);
  add(`${name}_a`, a.shape, adapter.a);
  // In KerasHub alpha always equals the rank. Folding the scale into B gives the same product there.
  add(`${name}_b`, b.shape, scale === 1 ? adapter.b : adapter.b.map(value => value * scale));
  if (scale !== 1) {
    file.dataset(`${group}/alpha`, {
      shape: [],
      dtype: 'float64',
      data: () => [new Uint8Array(new Float64Array([adapter.alpha]).buffer)],
    });
  }
  const bias = biases && biasOf(layer);
  if (bias && bias.trainable) add('bias', bias.shape, (await bias.read().data()) as Float32Array);
}

const matrixName = (layer: LoraLayer) => `lora_${layer.loraName}`;

/** Implements `Backbone.loadLoraWeights`; see there for errors. */
export async function loadLoraWeights(
  backbone: tf.LayersModel,
  source: LoraSource,
  options: RequestOptions,
): Promise<void> {
  checkKeys('loadLoraWeights', options, REQUEST_OPTIONS);
  const {name, adapters} = await readLoraWeights(backbone, source, options);
  applyAdapters(backbone, name, adapters);
}

/**
 * Reads the matrices in a file for the layers of a model. Does not change the model.
 *
 * @param options how to request it, if it is at an http(s) address.
 * @throws ValueError on a wrong file extension, on a file without LoRA, and on layers that do not fit, naming them;
 * Error for a damaged file.
 */
export async function readLoraWeights(
  backbone: tf.LayersModel,
  source: LoraSource,
  options: RequestOptions = {},
): Promise<{name: string; adapters: LayerAdapter[]}> {
  if (isGguf(source)) {
    const {readGgufAdapter} = await import('./gguf_lora');
    return readGgufAdapter(backbone, source, options);
  }
  checkEnding(source);
  const file = await Hdf5File.open(await openFileSource(source, options));
  try {
    return {name: file.name, adapters: await readAdapters(backbone, file)};
  } finally {
    await file.close();
  }
}

async function readAdapters(backbone: tf.LayersModel, file: Hdf5File): Promise<LayerAdapter[]> {
  const rankDataset = file.dataset('lora/vars/rank');
  const indices = new Set<number>();
  for (const path of file.paths()) {
    const match = /^lora\/(\d+)\/vars\//.exec(path);
    if (match) indices.add(Number(match[1]));
  }
  if (!rankDataset || indices.size === 0) {
    throw new ValueError(
      `Expected LoRA matrices in "${file.name}", as \`saveLoraWeights\` writes them. Received a file without ` +
        `${rankDataset ? 'layers' : '"lora/vars/rank"'}.`,
    );
  }
  const rank = await readScalar(file, rankDataset);
  checkArgument(`File "${file.name}"`, 'rank', rank, 'size');
  const layers = adaptableLayers(backbone);
  const all = numberedLayers(backbone);
  const problems: string[] = [];
  const found: (() => Promise<LayerAdapter>)[] = [];
  for (const index of [...indices].sort((x, y) => x - y)) {
    const layer = layers.get(index);
    if (!layer) {
      const other = all[index];
      problems.push(
        `layer ${index} is ${other ? `"${'path' in other ? other.path : other.name}", a ${other.getClassName()}` : 'not in the model'}`,
      );
      continue;
    }
    const shape = layer.adapted.shape;
    const bias = biasOf(layer);
    const dataset = (name: string, wanted: readonly number[]): Hdf5Dataset | undefined => {
      const at = file.dataset(`lora/${index}/vars/${name}`);
      if (!at) problems.push(`"${name}" of layer ${index}, "${layer.path}", is missing`);
      else if (at.shape.join() !== wanted.join()) {
        problems.push(`"${name}" of layer ${index}, "${layer.path}", has shape [${at.shape}], expected [${wanted}]`);
      } else if (!READABLE.has(at.dtype)) problems.push(`"${name}" of layer ${index} has dtype ${at.dtype}`);
      return at;
    };
    const has = (name: string) => file.paths().includes(`lora/${index}/vars/${name}`);
    const name = matrixName(layer);
    const a = dataset(`${name}_a`, [...shape.slice(0, -1), rank]);
    const b = dataset(`${name}_b`, [rank, shape.at(-1)!]);
    const values = has('bias') ? dataset('bias', bias?.shape ?? []) : undefined;
    const alpha = has('alpha') ? file.dataset(`lora/${index}/vars/alpha`) : undefined;
    found.push(() => readLayer(file, layer, {rank, a: a!, b: b!, bias: values, alpha}));
  }
  if (problems.length > 0) {
    throw new ValueError(
      `The LoRA weights of "${file.name}" do not fit the model: ${listed(problems)}. Check that ` +
        'they were trained on a model of this configuration.',
    );
  }
  const adapters: LayerAdapter[] = [];
  for (const read of found) adapters.push(await read());
  return adapters;
}

interface Stored {
  rank: number;
  a: Hdf5Dataset;
  b: Hdf5Dataset;
  bias: Hdf5Dataset | undefined;
  alpha: Hdf5Dataset | undefined;
}

async function readLayer(file: Hdf5File, layer: LoraLayer, stored: Stored): Promise<LayerAdapter> {
  const {rank} = stored;
  const alpha = stored.alpha ? await readScalar(file, stored.alpha) : rank;
  checkArgument(`File "${file.name}"`, 'alpha', alpha, 'positive');
  const b = await readNumbers(stored.b);
  const scale = alpha / rank;
  return {
    ...{layer, rank, alpha, a: await readNumbers(stored.a)},
    b: scale === 1 ? b : b.map(value => value / scale),
    ...(stored.bias && {bias: await readNumbers(stored.bias)}),
  };
}

async function readNumbers(dataset: Hdf5Dataset): Promise<Float32Array> {
  const values = new Float32Array(sizeOf(dataset.shape));
  await new StoredArrayStream(dataset, new Scratch()).readFloat32(0, values);
  return values;
}

async function readScalar(file: Hdf5File, dataset: Hdf5Dataset): Promise<number> {
  const bytes = new Uint8Array(dataset.byteLength);
  await dataset.readInto(0, bytes);
  const view = new DataView(bytes.buffer);
  if (dataset.shape.length === 0 && dataset.dtype === 'int64') return Number(view.getBigInt64(0, true));
  if (dataset.shape.length === 0 && dataset.dtype === 'float64') return view.getFloat64(0, true);
  throw new ValueError(
    `Expected a single 64-bit number at "${dataset.path}" of "${file.name}". Received: ${dataset.dtype} [${dataset.shape}].`,
  );
}
