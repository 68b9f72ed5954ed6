/** The public `readPresetConfig`. */
import {type SerializedObject} from './keras/serialized';
import {type CheckpointLike, withCheckpoint} from './open_checkpoint';

/**
 * The configuration of a preset's backbone in Keras' form: `class_name`, and `config` with Keras' names.
 *
 * @throws ValueError if there is no such preset, or its configuration is missing or damaged.
 */
export async function readPresetConfig(preset: CheckpointLike): Promise<SerializedObject> {
  // A backbone always has a configuration: `config` throws otherwise.
  return withCheckpoint(preset, async checkpoint => (await checkpoint.config('backbone'))!);
}
