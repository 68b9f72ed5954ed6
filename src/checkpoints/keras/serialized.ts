/** Keras' JSON: snake_case keys, and objects wrapped in their class name. */
import {type PresetSource} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {isObject, type Json, type JsonObject, readJson} from '../../base/json';

/** An object as Keras serializes it. */
export interface SerializedObject {
  class_name: string;
  config: JsonObject;
  [key: string]: Json;
}

export const isSerialized = (value: unknown): value is SerializedObject =>
  isObject(value) && typeof value.class_name === 'string' && isObject(value.config);

/**
 * Reads a Keras object from a file of a preset.
 *
 * @throws ValueError if there is no such file, it is not JSON, or it holds no object of the expected class.
 */
export async function readSerialized(
  source: PresetSource,
  path: string,
  className?: string,
): Promise<SerializedObject> {
  const value = await readJson(source, path);
  const file = `${source.name}/${path}`;
  if (!isSerialized(value)) {
    throw new ValueError(
      `Expected "${file}" to hold a Keras object with class_name and config. Received keys: ` +
        `${isObject(value) ? Object.keys(value).join(', ') : show(value)}.`,
    );
  }
  if (className !== undefined && value.class_name !== className) {
    throw new ValueError(`Expected a ${className} in "${file}". Received: ${value.class_name}.`);
  }
  return value;
}
