/** Keras' JSON: snake_case keys, and objects wrapped in their class name. */
import {type PresetSource} from '../../base/byte_source';
import {camelKeys} from '../../base/casing';
import {show, ValueError} from '../../base/errors';
import {isObject, type Json, type JsonObject, readJson} from '../../base/json';
import {withoutQuantization} from './quantized_policies';

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
  if (isObject(value) && !isSerialized(value) && typeof value.model_type === 'string') {
    throw new ValueError(
      `Expected "${file}" to be of a Keras preset, as the weight files next to it are. Received: one of Hugging ` +
        `Face's transformers, for a model of type "${value.model_type}". Keep the files of each format in separate ` +
        'folders.',
    );
  }
  if (!isSerialized(value)) {
    throw new ValueError(
      `Expected "${file}" to hold a Keras object with class_name and config. Received keys: ` +
        `${isObject(value) ? Object.keys(value).join(', ') : show(value)}.`,
    );
  }
  checkClass(value, file, className);
  return withoutQuantization(value) as SerializedObject;
}

/** The configuration of a saved image converter, in camelCase. */
export function imageConverterConfig({config, image_orientation}: SerializedObject): Record<string, unknown> {
  return {...camelKeys(config), ...(image_orientation !== undefined && {imageOrientation: image_orientation})};
}

/** @throws ValueError if the object is of another class than the expected one. */
export function checkClass({class_name: found}: SerializedObject, file: string, className: string | undefined): void {
  if (className === undefined || found === className) return;
  const other = /^Gemma3[A-Z]/.test(found) ? '' : ' This package has only the classes of Gemma 3.';
  throw new ValueError(`Expected a ${className} in "${file}". Received: ${found}.${other}`);
}
