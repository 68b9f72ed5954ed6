import {ValueError} from '../../base/errors';
import {type ByteSource, type PresetSource, readAll} from '../../base/byte_source';
import {Hdf5File} from '../../formats/hdf5';
import {isObject} from '../../base/json';
import {type StoredVariable} from '../stored_weights';

export const WEIGHTS_FILE = 'model.weights.h5';

export const SHARDS_FILE = 'model.weights.json';

/** Names of the weight files of a preset. */
async function weightFiles(source: PresetSource): Promise<string[]> {
  if (await source.has(WEIGHTS_FILE)) return [WEIGHTS_FILE];
  if (!(await source.has(SHARDS_FILE))) {
    throw new ValueError(
      `Expected "${WEIGHTS_FILE}" or "${SHARDS_FILE}" in preset "${source.name}". Received neither. ` +
        'Fetch the preset again, or load it with loadWeights: false.',
    );
  }
  const text = new TextDecoder().decode(await readAll(source, SHARDS_FILE));
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch (error) {
    throw new ValueError(`Expected JSON in "${SHARDS_FILE}" of "${source.name}": ${(error as Error).message}.`);
  }
  const map = isObject(index) ? index.weight_map : undefined;
  const files = isObject(map) ? [...new Set(Object.values(map).flat())] : [];
  if (files.length === 0 || !files.every(file => typeof file === 'string')) {
    throw new ValueError(`Expected a weight_map of file names in "${SHARDS_FILE}" of "${source.name}".`);
  }
  return (files as string[]).sort();
}

/** The random state of dropout layers: saved by Keras, no weight of the model. */
const isRandomState = (path: string) => /(^|\/)seed_generator(_\d+)?\/vars\/\d+$/.test(path);

export async function openVariables(
  source: PresetSource,
  opened: {close(): Promise<void>}[],
): Promise<Map<string, StoredVariable>> {
  const variables = new Map<string, StoredVariable>();
  for (const file of await weightFiles(source)) {
    const bytes: ByteSource = await source.open(file);
    const hdf5 = await Hdf5File.open(bytes);
    opened.push(hdf5);
    for (const path of hdf5.paths()) {
      if (isRandomState(path)) continue;
      const first = variables.get(path);
      if (first) {
        throw new ValueError(`Variable "${path}" is in "${first.file}" and again in "${file}": expected it once.`);
      }
      variables.set(path, {dataset: hdf5.dataset(path)!, file});
    }
  }
  return variables;
}
