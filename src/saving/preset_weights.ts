/** Variables of a Keras preset, from its HDF5 file or files straight into the weights of a model. */
import * as tf from '@tensorflow/tfjs';
import {type AnyWeight} from '../layers/layer';
import {ValueError} from '../errors';
import {type ByteSource, type PresetSource, readAll} from '../hub/preset_source';
import {PackedWeight} from '../weights/packed_weight';
import {PIECE, type ValueStream} from '../weights/weight';
import {bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16} from '../weights/half';
import {type Hdf5Dataset, Hdf5File} from './hdf5';
import {isObject} from './keras_config';
import {kerasPaths} from './keras_paths';
import {openTfjsVariables, type PackedEntry, TFJS_FILE} from './tfjs_source';

export const WEIGHTS_FILE = 'model.weights.h5';
export const SHARDS_FILE = 'model.weights.json';

/** State of a load, told after each piece. */
export interface LoadProgress {
  file: string;
  /** Bytes of variables read so far, over all files. */
  loaded: number;
  total: number;
}

export interface LoadOptions {
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
}

/** A variable of a preset, in whatever files it has. */
export interface StoredVariable {
  dataset: Hdf5Dataset;
  file: string;
  /** For one that is packed: only a weight that rests in the same way can take it. */
  packed?: PackedEntry;
}

/** All stored variables of a preset, and what is open for them. */
export interface StoredWeights {
  /** By the paths of Keras, or in a folder of tfjs by the names of weights. */
  readonly variables: ReadonlyMap<string, StoredVariable>;
  /** What a weight is called there, given its path in Keras. */
  keyOf(path: string, weight: AnyWeight): string;
  close(): Promise<void>;
}

/** Names of the weight files of a preset. */
async function weightFiles(source: PresetSource): Promise<string[]> {
  if (await source.has(WEIGHTS_FILE)) return [WEIGHTS_FILE];
  if (!(await source.has(SHARDS_FILE))) {
    throw new ValueError(
      `Expected "${WEIGHTS_FILE}" or "${SHARDS_FILE}" in preset "${source.name}". Received neither. ` +
        'Fetch the preset again, or load it with loadWeights: false.',
    );
  }
  const text = new TextDecoder().decode(await readAll(source, SHARDS_FILE));
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (error) {
    throw new ValueError(`Expected JSON in "${SHARDS_FILE}" of "${source.name}": ${(error as Error).message}.`);
  }
  const map = isObject(index) ? index.weight_map : undefined;
  const files = isObject(map) ? [...new Set(Object.values(map).flat())] : [];
  if (files.length === 0 || !files.every(file => typeof file === 'string')) {
    throw new ValueError(`Expected a weight_map of file names in "${SHARDS_FILE}" of "${source.name}".`);
  }
  return (files as string[]).sort();
}

/** The random state of dropout layers: saved by Keras, no weight of the model. */
const isRandomState = (path: string) => /(^|\/)seed_generator(_\d+)?\/vars\/\d+$/.test(path);

/**
 * Opens the weight files of a preset: those of Keras, or those of tfjs that `convertPreset` writes.
 *
 * @throws ValueError if there are none, or a variable is there twice.
 */
export async function openStoredWeights(source: PresetSource): Promise<StoredWeights> {
  const opened: {close(): Promise<void>}[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  const keras = (await source.has(WEIGHTS_FILE)) || (await source.has(SHARDS_FILE));
  try {
    if (!keras && (await source.has(TFJS_FILE))) {
      return {variables: await openTfjsVariables(source, opened), keyOf: (_, weight) => weight.originalName, close};
    }
    return {variables: await openVariables(source, opened), keyOf: path => path, close};
  } catch (error) {
    await close();
    throw error;
  }
}

async function openVariables(
  source: PresetSource,
  opened: {close(): Promise<void>}[],
): Promise<Map<string, StoredVariable>> {
  const variables = new Map<string, StoredVariable>();
  for (const file of await weightFiles(source)) {
    const bytes: ByteSource = await source.open(file);
    const hdf5 = await Hdf5File.open(bytes);
    opened.push(hdf5);
    for (const path of hdf5.paths()) {
      if (isRandomState(path)) continue;
      const first = variables.get(path);
      if (first) {
        throw new ValueError(`Variable "${path}" is in "${first.file}" and again in "${file}": expected it once.`);
      }
      variables.set(path, {dataset: hdf5.dataset(path)!, file});
    }
  }
  return variables;
}

/**
 * Everything that does not fit is told at once: one missing variable is seldom alone.
 *
 * @throws ValueError naming every variable that is missing, extra or misshapen, its file and both shapes.
 */
export function checkVariables(
  backbone: tf.LayersModel,
  {variables: stored, keyOf}: StoredWeights,
  source: PresetSource,
): void {
  const problems: string[] = [];
  const expected = new Map([...kerasPaths(backbone)].map(([path, weight]) => [keyOf(path, weight), weight] as const));
  const files = [...new Set([...stored.values()].map(({file}) => file))].join(', ');
  for (const [path, weight] of expected) {
    const found = stored.get(path);
    if (!found) {
      problems.push(`"${path}" of shape [${weight.shape}] is missing from ${files || 'the files'}`);
    } else if (found.dataset.shape.join() !== weight.shape.join()) {
      problems.push(`"${path}" in ${found.file} has shape [${found.dataset.shape}], expected [${weight.shape}]`);
    } else if (found.packed) {
      const {format} = found.packed;
      if (!fitsPacked(weight, found.packed)) {
        problems.push(`"${path}" in ${found.file} rests as ${format}: load with dtype "${format}", or convert it anew`);
      }
    } else if (!READABLE.has(found.dataset.dtype)) {
      problems.push(
        `"${path}" in ${found.file} has dtype ${found.dataset.dtype}, expected ${[...READABLE].join(', ')}`,
      );
    }
  }
  for (const [path, {dataset, file}] of stored) {
    if (!expected.has(path)) problems.push(`"${path}" of shape [${dataset.shape}] in ${file} is not in the model`);
  }
  if (problems.length) {
    const more = problems.length > 8 ? `; and ${problems.length - 8} more` : '';
    throw new ValueError(
      `The weights of preset "${source.name}" do not fit its config.json: ${problems.slice(0, 8).join('; ')}${more}. ` +
        'Check that both come from one preset.',
    );
  }
}

const fitsPacked = (weight: AnyWeight, {format, order, physicalShape}: PackedEntry) =>
  weight instanceof PackedWeight &&
  weight.format === format &&
  weight.packing.order === order &&
  weight.packing.physicalShape(weight.rows, weight.columns).join() === physicalShape.join();

export const READABLE = new Set(['float16', 'bfloat16', 'float32', 'float64']);

/** Reads pieces of a dataset as float32 or bfloat16, over buffers that all tensors of a load share. */
export class DatasetStream implements ValueStream {
  constructor(
    private readonly dataset: Hdf5Dataset,
    private readonly scratch: Scratch,
    private readonly onRead: (bytes: number) => void,
  ) {}

  get shape(): readonly number[] {
    return this.dataset.shape;
  }

  private async raw(start: number, target: Uint8Array): Promise<void> {
    await this.dataset.readInto(start * this.dataset.itemSize, target);
    this.onRead(target.length);
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    if (this.dataset.dtype === 'float32') {
      return this.raw(start, new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
    }
    const bytes = this.scratch.bytes(out.length * this.dataset.itemSize);
    await this.raw(start, bytes);
    if (this.dataset.dtype === 'float64') {
      out.set(new Float64Array(bytes.buffer, bytes.byteOffset, out.length));
      return;
    }
    const widen = this.dataset.dtype === 'bfloat16' ? bfloat16ToFloat32 : float16ToFloat32;
    widen(new Uint16Array(bytes.buffer, bytes.byteOffset, out.length), out);
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    const halves = this.scratch.halves(count);
    if (this.dataset.dtype === 'bfloat16') {
      await this.raw(start, new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength));
    } else {
      const floats = this.scratch.floats(count);
      await this.readFloat32(start, floats);
      float32ToBfloat16(floats, halves);
    }
    return halves;
  }
}

/** Buffers that grow to the largest piece and are used again: what is freed late would count as memory. */
export class Scratch {
  private readonly buffers: Record<string, ArrayBuffer> = {};
  private get(name: string, bytes: number): ArrayBuffer {
    const old = this.buffers[name];
    if (old && old.byteLength >= bytes) return old;
    return (this.buffers[name] = new ArrayBuffer(bytes));
  }
  bytes(length: number): Uint8Array {
    return new Uint8Array(this.get('bytes', length), 0, length);
  }
  halves(length: number): Uint16Array {
    return new Uint16Array(this.get('halves', 2 * length), 0, length);
  }
  floats(length: number): Float32Array {
    return new Float32Array(this.get('floats', 4 * length), 0, length);
  }
}

/**
 * Fills all weights of a backbone. Beside the model, memory holds one tensor and a few buffers of a few million values.
 *
 * @throws ValueError naming every variable that is missing, extra or misshapen, its file and both shapes.
 */
export async function loadPresetWeights(
  backbone: tf.LayersModel,
  source: PresetSource,
  {onProgress, signal}: LoadOptions = {},
): Promise<void> {
  const stored = await openStoredWeights(source);
  try {
    checkVariables(backbone, stored, source);
    const total = [...stored.variables.values()].reduce((sum, {dataset}) => sum + dataset.byteLength, 0);
    const scratch = new Scratch();
    let loaded = 0;
    for (const [path, weight] of kerasPaths(backbone)) {
      const {dataset, file, packed} = stored.variables.get(stored.keyOf(path, weight))!;
      const onRead = (bytes: number) => {
        loaded += bytes;
        onProgress?.({file, loaded, total});
        signal?.throwIfAborted();
      };
      signal?.throwIfAborted();
      if (packed) await fillPacked(weight as PackedWeight, dataset, packed, onRead);
      else await weight.fill(new DatasetStream(dataset, scratch, onRead));
    }
  } finally {
    await stored.close();
  }
}

/** Bits that are stored as they rest. */
async function fillPacked(
  weight: PackedWeight,
  dataset: Hdf5Dataset,
  {physicalShape}: PackedEntry,
  onRead: (bytes: number) => void,
): Promise<void> {
  const bytes = new Uint8Array(dataset.byteLength);
  for (let start = 0; start < bytes.length; start += PIECE) {
    const part = bytes.subarray(start, start + PIECE);
    await dataset.readInto(start, part);
    onRead(part.length);
  }
  tf.tidy(() => {
    weight.write(tf.tensor(new Int32Array(bytes.buffer), physicalShape as number[], 'int32'));
  });
}

/** Shapes and types of all stored variables, without reading one: what `gemma3 inspect` shows. */
export async function listPresetVariables(
  source: PresetSource,
): Promise<{path: string; shape: number[]; dtype: string; bytes: number; file: string}[]> {
  const {variables, close} = await openStoredWeights(source);
  try {
    return [...variables].map(([path, {dataset, file, packed}]) => ({
      path,
      shape: [...dataset.shape],
      dtype: packed?.format ?? dataset.dtype,
      bytes: dataset.byteLength,
      file,
    }));
  } finally {
    await close();
  }
}
