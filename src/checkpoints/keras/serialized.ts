/** Keras' JSON: snake_case keys, and objects wrapped in their class name. */
import {show, ValueError} from '../../base/errors';
import {type Json, type JsonObject, isObject} from '../../base/json';

/** An object as Keras serializes it. */
export interface SerializedObject {
  class_name: string;
  config: JsonObject;
  [key: string]: Json;
}

export const isSerialized = (value: unknown): value is SerializedObject =>
  isObject(value) && typeof value.class_name === 'string' && isObject(value.config);

/**
 * Parses a file of a preset.
 *
 * @throws ValueError if it is not JSON, or not an object of the expected class.
 */
export function parseSerialized(text: string, file: string, className?: string): SerializedObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new ValueError(`Expected JSON in "${file}". Received text that is not: ${(error as Error).message}.`);
  }
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
