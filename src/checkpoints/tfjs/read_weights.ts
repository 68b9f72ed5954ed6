/**
 * Weights in a folder of the tfjs format: a manifest in `model.json`, and shards that hold the values one after
 * another.
 */
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {sizeOf} from '../../base/shapes';
import {Scratch, type StoredArray, StoredArrayStream} from '../stored_array';
import {type StoredVariable, type StoredWeights} from '../stored_weights';
import {Concatenated, entryBytes, type ManifestEntry, readManifest} from './manifest';

/**
 * Opens the shards of a folder in the tfjs format.
 *
 * @throws ValueError if `model.json` has no readable manifest, or the files have a different size than it says.
 */
export async function openTfjsWeights(source: PresetSource): Promise<StoredWeights> {
  const opened: ByteSource[] = [];
  const close = async () => {
    for (const file of opened) await file.close();
  };
  try {
    const variables = new Map<string, StoredVariable>();
    const scratch = new Scratch();
    for (const {paths, weights} of await readManifest(source)) {
      const files: ByteSource[] = [];
      for (const path of paths) {
        const file = await source.open(path);
        opened.push(file);
        files.push(file);
      }
      const bytes = new Concatenated(files);
      const file = paths.join(', ').replace(/^([^,]*), .*, /, '$1 … ');
      let end = 0;
      for (const entry of weights) {
        variables.set(entry.name, storedVariable(entry, bytes, end, file, scratch));
        end += entryBytes(entry);
      }
      if (end !== bytes.size) {
        throw new ValueError(
          `Expected ${end} bytes of weights in ${paths.join(', ')} of "${source.name}". Received: ${bytes.size}. ` +
            'Convert or fetch the preset again.',
        );
      }
    }
    return {layout: 'tfjs', variables, keyOf: (_, weight) => weight.originalName, close};
  } catch (error) {
    await close();
    throw error;
  }
}

/** The variable of an entry whose bytes begin at `offset`. */
function storedVariable(
  entry: ManifestEntry,
  bytes: Concatenated,
  offset: number,
  file: string,
  scratch: Scratch,
): StoredVariable {
  const {packed} = entry;
  const readInto = (start: number, target: Uint8Array) => bytes.readInto(offset + start, target);
  const floats = (array: Omit<StoredArray, 'readInto'>): StoredVariable => {
    const stream = (onRead?: (bytes: number) => void) => new StoredArrayStream({...array, readInto}, scratch, onRead);
    return {...array, file, stream};
  };
  if (!packed) return floats({shape: entry.shape, dtype: 'float32', itemSize: 4, byteLength: entryBytes(entry)});
  const {format, order, shape} = packed;
  if (format === 'bfloat16') return floats({shape, dtype: format, itemSize: 2, byteLength: 2 * sizeOf(shape)});
  return {
    ...{shape, dtype: format, byteLength: entryBytes(entry), file},
    packed: {format, order, physicalShape: entry.shape, readInto},
    stream: () => {
      throw new Error(`internal: "${entry.name}" in ${file} is packed as ${format} and has no stream of values.`);
    },
  };
}
