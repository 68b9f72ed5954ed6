/** The weights of a Keras preset: one HDF5 file, or shards with an index. */
import {type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {isObject, readJson} from '../../base/json';
import {Hdf5File} from '../../formats/hdf5';
import {Scratch, StoredArrayStream} from '../stored_array';
import {type StoredVariable, type StoredWeights} from '../stored_weights';

export const WEIGHTS_FILE = 'model.weights.h5';

export const SHARDS_FILE = 'model.weights.json';

export const hasKerasWeights = async (source: PresetSource): Promise<boolean> =>
  (await source.has(WEIGHTS_FILE)) || (await source.has(SHARDS_FILE));

/** Names of the weight files of a preset. */
async function weightFiles(source: PresetSource): Promise<string[]> {
  if (await source.has(WEIGHTS_FILE)) return [WEIGHTS_FILE];
  if (!(await source.has(SHARDS_FILE))) {
    throw new ValueError(
      `Expected "${WEIGHTS_FILE}" or "${SHARDS_FILE}" in preset "${source.name}". Received neither. ` +
        'Fetch the preset again, or load it with loadWeights: false.',
    );
  }
  const index = await readJson(source, SHARDS_FILE);
  const map = isObject(index) ? index.weight_map : undefined;
  const files = isObject(map) ? [...new Set(Object.values(map).flat())] : [];
  if (files.length === 0 || !files.every(file => typeof file === 'string')) {
    throw new ValueError(`Expected a weight_map of file names in "${SHARDS_FILE}" of "${source.name}".`);
  }
  return (files as string[]).sort();
}

/** The random state of dropout layers: Keras saves it, but it is not a weight of the model. */
const isRandomState = (path: string) => /(^|\/)seed_generator(_\d+)?\/vars\/\d+$/.test(path);

/**
 * Opens the weight files of a preset.
 *
 * @throws ValueError if there are none, or a variable is stored twice.
 */
export async function openKerasWeights(source: PresetSource): Promise<StoredWeights> {
  const opened: Hdf5File[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  try {
    const layout = (await source.has(WEIGHTS_FILE)) ? 'single' : 'sharded';
    const variables = new Map<string, StoredVariable>();
    const scratch = new Scratch();
    for (const file of await weightFiles(source)) {
      const hdf5 = await Hdf5File.open(await source.open(file));
      opened.push(hdf5);
      for (const path of hdf5.paths()) {
        if (isRandomState(path)) continue;
        const first = variables.get(path);
        if (first) {
          throw new ValueError(`Variable "${path}" is in "${first.file}" and again in "${file}": expected it once.`);
        }
        const dataset = hdf5.dataset(path)!;
        const {shape, dtype, byteLength} = dataset;
        const stream = (onRead?: (bytes: number) => void) => new StoredArrayStream(dataset, scratch, onRead);
        variables.set(path, {shape, dtype, byteLength, file, stream});
      }
    }
    return {layout, variables, keyOf: path => path, close};
  } catch (error) {
    await close();
    throw error;
  }
}
