import {readAll} from '../../base/byte_source';
import {openPreset, type PresetLike} from '../../hub/open_preset';
import {parseSerialized, type SerializedObject} from './serialized';

/**
 * The configuration of a preset's backbone, as stored in its config.json: `class_name`, and `config` with Keras' names.
 *
 * @throws ValueError if there is no such preset, or if its config.json does not hold a serialized Keras object.
 */
export async function readPresetConfig(preset: PresetLike): Promise<SerializedObject> {
  const source = await openPreset(preset);
  const text = new TextDecoder().decode(await readAll(source, 'config.json'));
  return parseSerialized(text, `${source.name}/config.json`);
}
