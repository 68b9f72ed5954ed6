import {openPreset, type PresetLike} from '../../hub/open_preset';
import {readSerialized, type SerializedObject} from './serialized';

/**
 * The configuration of a preset's backbone, as stored in its config.json: `class_name`, and `config` with Keras' names.
 *
 * @throws ValueError if there is no such preset, or if its config.json does not hold a serialized Keras object.
 */
export async function readPresetConfig(preset: PresetLike): Promise<SerializedObject> {
  return readSerialized(await openPreset(preset), 'config.json');
}
