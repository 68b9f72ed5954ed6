/** JSON types, and JSON files of a preset. */
import {type PresetSink, writeAll} from './byte_sink';
import {type PresetSource, readAll} from './byte_source';
import {ValueError} from './errors';

export type Json = null | boolean | number | string | Json[] | {[key: string]: Json};

export type JsonObject = {[key: string]: Json};

export const isObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Maximum size of a JSON file in bytes. The largest file of a model is a tenth of it. */
const LIMIT = 256 * 2 ** 20;

/**
 * Reads and parses one JSON file.
 *
 * @throws ValueError if there is no such file, it is not JSON, or it is larger than `LIMIT`.
 */
export async function readJson(source: PresetSource, path: string): Promise<Json> {
  const text = new TextDecoder().decode(await readAll(source, path, LIMIT));
  try {
    return JSON.parse(text) as Json;
  } catch (error) {
    throw new ValueError(
      `Expected JSON in "${source.name}/${path}". Received: ${(error as Error).message}. Fetch the file again.`,
    );
  }
}

/** Writes one JSON file, indented like Python's `json.dumps(value, indent=indent)`. */
export async function writeJson(sink: PresetSink, path: string, value: object, indent = 4): Promise<void> {
  await writeAll(sink, path, new TextEncoder().encode(JSON.stringify(value, null, indent)));
}
