/** Keras' JSON: snake_case keys, and objects wrapped in their class name. */
import {show, ValueError} from '../errors';

export type Json = null | boolean | number | string | Json[] | {[key: string]: Json};
export type JsonObject = {[key: string]: Json};

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const camelKey = (key: string) => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
const snakeKey = (key: string) => key.replace(/([A-Z]|(?<=[a-z])\d+$)/g, part => `_${part.toLowerCase()}`);

/**
 * Keys of the top level in camelCase; values stay as they are.
 *
 * @throws ValueError if a key is there in both casings.
 */
export function camelKeys(config: object): Record<string, unknown> {
  const camel: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(config)) {
    const name = camelKey(key);
    if (Object.hasOwn(camel, name)) {
      throw new ValueError(`Expected "${name}" once, in one casing. Received keys: ${Object.keys(config).join(', ')}.`);
    }
    camel[name] = value;
  }
  return camel;
}

/** Keys of the top level in snake_case; values stay as they are. */
export const snakeKeys = (config: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(config).map(([key, value]) => [snakeKey(key), value]));

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
