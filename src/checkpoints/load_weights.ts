/** Loads stored variables straight into the weights of a model. */
import * as tf from '@tensorflow/tfjs';
import {listed, ValueError} from '../base/errors';
import {type AnyWeight, PackedWeight} from '../weights/packed_weight';
import {PIECE} from '../weights/value_stream';
import {type Checkpoint} from './checkpoint';
import {kerasPaths} from './model_paths';
import {type CheckpointLike, withCheckpoint} from './open_checkpoint';
import {READABLE} from './stored_array';
import {type LoadOptions, type PackedBits, type StoredVariable, type StoredWeights} from './stored_weights';

/**
 * Checks that stored variables match those of a model. Reports all mismatches together, because there is rarely only
 * one.
 *
 * @throws ValueError naming the variables that are missing, superfluous or of the wrong shape, their files and both
 * shapes.
 */
export function checkVariables(
  backbone: tf.LayersModel,
  {variables: stored, keyOf}: StoredWeights,
  {name}: Checkpoint,
): void {
  const problems: string[] = [];
  const expected = new Map([...kerasPaths(backbone)].map(([path, weight]) => [keyOf(path, weight), weight] as const));
  const files = [...new Set([...stored.values()].map(({file}) => file))].join(', ');
  for (const [key, weight] of expected) {
    const found = stored.get(key);
    const problem = found
      ? misfit(weight, found)
      : `of shape [${weight.shape}] is missing from ${files || 'the files'}`;
    if (problem) problems.push(`"${key}" ${problem}`);
  }
  for (const [key, {shape, file}] of stored) {
    if (!expected.has(key)) problems.push(`"${key}" of shape [${shape}] in ${file} is not in the model`);
  }
  if (problems.length) {
    throw new ValueError(
      `The weights of preset "${name}" do not fit its config.json: ${listed(problems)}. ` +
        'Check that both come from one preset.',
    );
  }
}

/** Why a weight cannot be filled from a variable; undefined if it can. */
function misfit(weight: AnyWeight, {shape, dtype, file, packed}: StoredVariable): string | undefined {
  if (shape.join() !== weight.shape.join()) return `in ${file} has shape [${shape}], expected [${weight.shape}]`;
  if (packed) {
    if (fitsPacked(weight, packed)) return undefined;
    return `in ${file} is stored as ${dtype}: load it with dtype "${dtype}", or convert it again`;
  }
  return READABLE.has(dtype) ? undefined : `in ${file} has dtype ${dtype}, expected ${[...READABLE].join(', ')}`;
}

const fitsPacked = (weight: AnyWeight, {format, order, physicalShape}: PackedBits) =>
  weight instanceof PackedWeight &&
  weight.format === format &&
  weight.packing.order === order &&
  weight.packing.physicalShape(weight.rows, weight.columns).join() === physicalShape.join();

/**
 * Fills all weights of a backbone. In addition to the model, memory holds one tensor and a few buffers of a few million
 * values.
 *
 * @throws ValueError like {@link checkVariables}; the signal's reason when aborted.
 */
export async function loadPresetWeights(
  backbone: tf.LayersModel,
  checkpoint: Checkpoint,
  {onProgress, signal}: LoadOptions = {},
): Promise<void> {
  const stored = await checkpoint.weights();
  try {
    checkVariables(backbone, stored, checkpoint);
    const total = [...stored.variables.values()].reduce((sum, {byteLength}) => sum + byteLength, 0);
    let loaded = 0;
    for (const [path, weight] of kerasPaths(backbone)) {
      const {file, packed, byteLength, stream} = stored.variables.get(stored.keyOf(path, weight))!;
      const onRead = (bytes: number) => {
        loaded += bytes;
        onProgress?.({file, loaded, total});
        signal?.throwIfAborted();
      };
      signal?.throwIfAborted();
      if (packed) await fillPacked(weight as PackedWeight, packed, byteLength, onRead);
      else await weight.fill(stream(onRead));
    }
  } finally {
    await stored.close();
  }
}

/** Copies bits that are stored exactly as the weight holds them. */
async function fillPacked(
  weight: PackedWeight,
  {physicalShape, readInto}: PackedBits,
  byteLength: number,
  onRead: (bytes: number) => void,
): Promise<void> {
  const bytes = new Uint8Array(byteLength);
  for (let start = 0; start < bytes.length; start += PIECE) {
    const part = bytes.subarray(start, start + PIECE);
    await readInto(start, part);
    onRead(part.length);
  }
  tf.tidy(() => {
    weight.write(tf.tensor(new Int32Array(bytes.buffer), physicalShape as number[], 'int32'));
  });
}

/** A variable as `listPresetVariables` describes it. */
export interface PresetVariable {
  path: string;
  shape: number[];
  dtype: string;
  bytes: number;
  file: string;
}

/** Shapes and number formats of all stored variables; no value is read. `gemma3 inspect` shows them. */
export async function listPresetVariables(preset: CheckpointLike): Promise<PresetVariable[]> {
  return withCheckpoint(preset, async checkpoint => {
    const {variables, close} = await checkpoint.weights();
    try {
      return [...variables].map(([path, {shape, dtype, byteLength, file}]) => {
        return {path, shape: [...shape], dtype, bytes: byteLength, file};
      });
    } finally {
      await close();
    }
  });
}
