/** Loads stored variables straight into the weights of a model. */
import type * as tf from '@tensorflow/tfjs';
import {listed, ValueError} from '../base/errors';
import {type AnyWeight, PackedWeight} from '../weights/packed_weight';
import {packingFor} from '../weights/packing';
import {needEnergies} from '../weights/energies';
import {PIECE} from '../weights/value_stream';
import {type Checkpoint} from './checkpoint';
import {kerasPaths} from './model_paths';
import {type CheckpointLike, withCheckpoint} from './open_checkpoint';
import {READABLE} from './stored_array';
import {
  announceVariables,
  inFileOrder,
  type LoadOptions,
  type PackedBits,
  shapeInFiles,
  type StoredVariable,
  type StoredWeights,
  valueReader,
  variableOf,
} from './stored_weights';

/**
 * Checks that stored variables match those of a model. Reports all mismatches together, because there is rarely only
 * one.
 *
 * @param whole a model whose additional variables are not reported as superfluous.
 * @throws ValueError naming the variables that are missing, superfluous or of the wrong shape, their files and both
 * shapes.
 */
export function checkVariables(
  backbone: tf.LayersModel,
  weights: StoredWeights,
  {name}: Pick<Checkpoint, 'name'>,
  whole?: tf.LayersModel,
): void {
  const {variables: stored, keyOf} = weights;
  const problems: string[] = [];
  const unused = new Set(whole && [...kerasPaths(whole)].map(([path, weight]) => keyOf(path, weight)));
  const expected = new Map(
    [...kerasPaths(backbone)].map(([path, weight]) => [keyOf(path, weight), {path, weight}] as const),
  );
  const files = [...new Set([...stored.values()].map(({file}) => file))].join(', ');
  for (const [key, {path, weight}] of expected) {
    const found = variableOf(weights, path, weight);
    const shape = shapeInFiles(weights, weight);
    const problem = found
      ? misfit(weight, found, shape)
      : `of shape [${shape}] is missing from ${files || 'the files'}`;
    if (problem) problems.push(`"${key}" ${problem}`);
  }
  for (const [key, {shape, file}] of stored) {
    if (!expected.has(key) && !unused.has(key))
      problems.push(`"${key}" of shape [${shape}] in ${file} is not in the model`);
  }
  if (problems.length) {
    throw new ValueError(
      `The weights of preset "${name}" do not fit its config.json: ${listed(problems)}. ` +
        'Check that both come from one preset.',
    );
  }
}

/**
 * Why a weight cannot be filled from a variable; undefined if it can.
 *
 * @param expected the shape that the variable must have.
 */
export function misfit(
  weight: AnyWeight,
  {shape, dtype, file, packed, quantized, unreadable}: StoredVariable,
  expected: readonly number[] = weight.shape,
): string | undefined {
  if (unreadable !== undefined) return `in ${file} ${unreadable}`;
  if (shape.join() !== expected.join()) return `in ${file} has shape [${shape}], expected [${expected}]`;
  if (packed) {
    if (fitsPacked(weight, packed)) return undefined;
    return `in ${file} is stored as ${dtype}: load it with dtype "${dtype}", or convert it again`;
  }
  return quantized || READABLE.has(dtype)
    ? undefined
    : `in ${file} has dtype ${dtype}, expected ${[...READABLE].join(', ')}`;
}

function fitsPacked(weight: AnyWeight, {format, order, physicalShape}: PackedBits): boolean {
  if (!(weight instanceof PackedWeight) || ![weight.format, ...weight.alternatives].includes(format)) return false;
  const packing = format === weight.format ? weight.packing : packingFor(format);
  return packing.order === order && packing.physicalShape(weight.rows, weight.columns).join() === physicalShape.join();
}

/**
 * Fills all weights of a backbone. In addition to the model, memory holds a few buffers of a few million values.
 *
 * @param options `whole` as for {@link checkVariables}: what `backbone` lacks is not read.
 * @throws ValueError like {@link checkVariables}; the signal's reason when aborted.
 */
export async function loadPresetWeights(
  backbone: tf.LayersModel,
  checkpoint: Pick<Checkpoint, 'name' | 'weights'>,
  {onProgress, signal, whole}: LoadOptions & {whole?: tf.LayersModel} = {},
): Promise<void> {
  const stored = await checkpoint.weights();
  try {
    checkVariables(backbone, stored, checkpoint, whole);
    await stored.checkValues?.(signal);
    const open = valueReader(stored);
    const expected = [...kerasPaths(backbone)].map(([path, weight]) => ({
      path,
      weight,
      variable: variableOf(stored, path, weight)!,
    }));
    if (needEnergies(expected.map(({weight}) => weight))) {
      const {readEnergies} = await import('./read_energies');
      const pathOf = new Map(expected.map(({weight, path}) => [weight, path]));
      await readEnergies(backbone, expected, weight => open(weight, pathOf.get(weight)!));
    }
    const found = inFileOrder(expected);
    announceVariables(found.map(({variable}) => variable));
    const total = found.reduce((sum, {variable}) => sum + variable.byteLength, 0);
    let loaded = 0;
    let piece: Uint8Array<ArrayBuffer> | undefined;
    await inTurns(found, async ({path, weight, variable: {file, packed}}, onLastRead) => {
      const onRead = (bytes: number) => {
        loaded += bytes;
        onProgress?.({file, loaded, total});
        signal?.throwIfAborted();
      };
      signal?.throwIfAborted();
      if (packed) {
        (weight as PackedWeight).storeAs(packed.format);
        await (weight as PackedWeight).fillBits(
          async (start, target) => {
            await packed.readInto(start, target);
            onRead(target.length);
          },
          (piece ??= new Uint8Array(PIECE)),
        );
      } else {
        await weight.fill(open(weight, path, onRead), onLastRead);
      }
    });
  } finally {
    await stored.close();
  }
}

/**
 * Calls an asynchronous function for one item after the other. It can let the next call start before it ends, by
 * calling the function that it gets.
 *
 * @throws what the first call that failed throws, once no call is running.
 */
async function inTurns<T>(items: readonly T[], run: (item: T, beginNext: () => void) => Promise<void>): Promise<void> {
  let failed = false;
  const runFrom = async (index: number): Promise<void> => {
    if (index === items.length) return;
    let next: Promise<void> | undefined;
    const beginNext = () => {
      if (failed) return;
      next = runFrom(index + 1);
      // It is awaited below, unless this call fails first.
      next.catch(() => {});
    };
    try {
      await run(items[index]!, beginNext);
    } catch (error) {
      failed = true;
      await next?.catch(() => {});
      throw error;
    }
    if (!failed) await (next ?? runFrom(index + 1));
  };
  await runFrom(0);
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
