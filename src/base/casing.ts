/** Converts names between camelCase (this package) and snake_case (Keras' files). */
import {ValueError} from './errors';

/** One key in camelCase. */
export const camelKey = (key: string) => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

const snakeKey = (key: string) => key.replace(/([A-Z]|(?<=[a-z])\d+$)/g, part => `_${part.toLowerCase()}`);

/**
 * Converts the top-level keys to camelCase; values are not changed.
 *
 * @throws ValueError if the same key occurs in both casings.
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

/** Converts the top-level keys to snake_case; values are not changed. */
export const snakeKeys = (config: object): Record<string, unknown> =>
  Object.fromEntries(Object.entries(config).map(([key, value]) => [snakeKey(key), value]));

/** Converts `Gemma3DecoderBlock` to `gemma3_decoder_block`, like `keras.src.utils.naming.to_snake_case`. */
export function snakeCase(name: string): string {
  return name
    .replace(/\W+/g, '')
    .replace(/(.)([A-Z][a-z]+)/g, '$1_$2')
    .replace(/([a-z])([A-Z])/g, '$1_$2')
    .toLowerCase();
}
