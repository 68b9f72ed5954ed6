/** Opens the checkpoint that a name, address or folder refers to, in whichever format it is. */
import {openPreset, type PresetLike} from '../hub/open_preset';
import {checkpointFormats} from './all';
import {type Checkpoint, type CheckpointFormat} from './checkpoint';
import {type SerializedObject} from './keras/serialized';

/** A preset, or a checkpoint that is already open. */
export type CheckpointLike = PresetLike | Checkpoint;

const isCheckpoint = (preset: CheckpointLike): preset is Checkpoint =>
  typeof (preset as Partial<Checkpoint> | null)?.weights === 'function';

/**
 * Opens a preset once, to read several things from it: the `fromPreset` of every class accepts the result. Close it
 * afterwards.
 *
 * @throws ValueError if there is no such preset.
 */
export async function openCheckpoint(preset: PresetLike): Promise<Checkpoint> {
  const source = await openPreset(preset);
  const formats: readonly CheckpointFormat[] = checkpointFormats;
  for (const format of formats) {
    if (await format.recognizes(source)) return format.open(source);
  }
  // The folder has no weights. The caller may want only a tokenizer or a configuration, and these are stored as in
  // Keras.
  return formats[0]!.open(source);
}

/** Runs `run` on a checkpoint. Closes the checkpoint afterwards, unless it was already open. */
export async function withCheckpoint<T>(
  preset: CheckpointLike,
  run: (checkpoint: Checkpoint) => Promise<T>,
): Promise<T> {
  if (isCheckpoint(preset)) return run(preset);
  const checkpoint = await openCheckpoint(preset);
  try {
    return await run(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

/**
 * The configuration of a preset's backbone in Keras' form: `class_name`, and `config` with Keras' names.
 *
 * @throws ValueError if there is no such preset, or its configuration is missing or damaged.
 */
export async function readPresetConfig(preset: CheckpointLike): Promise<SerializedObject> {
  // A backbone always has a configuration: `config` throws otherwise.
  return withCheckpoint(preset, async checkpoint => (await checkpoint.config('backbone'))!);
}
