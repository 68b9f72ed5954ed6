/** Variables of a Keras preset, from its HDF5 file or files straight into the weights of a model. */
import * as tf from '@tensorflow/tfjs';
import {type AnyWeight} from '../layers/layer';
import {ValueError} from '../base/errors';
import {type PresetSource} from '../base/byte_source';
import {PackedWeight} from '../weights/packed_weight';
import {PIECE} from '../weights/value_stream';
import {type Hdf5Dataset} from '../formats/hdf5';
import {kerasPaths} from './model_paths';
import {openTfjsVariables} from './tfjs/read_weights';
import {type PackedEntry, type LoadOptions, type StoredWeights} from './stored_weights';
import {TFJS_FILE} from './tfjs/manifest';
import {WEIGHTS_FILE, SHARDS_FILE, openVariables} from './keras/read_weights';
import {READABLE, DatasetStream, Scratch} from './dataset_stream';

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
