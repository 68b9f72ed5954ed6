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
      const total = weights.reduce((sum, entry) => sum + entryBytes(entry), 0);
      const files = await openShards(source, paths, total, opened);
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

/**
 * Opens shards, which have `total` bytes together. All but the last have the same size, unless another program wrote
 * them. Where checking takes time, only the first and the last are checked.
 *
 * @param opened takes all that have been opened, also after an error.
 */
async function openShards(
  source: PresetSource,
  paths: readonly string[],
  total: number,
  opened: ByteSource[],
): Promise<ByteSource[]> {
  const open = async (path: string) => {
    const file = await source.open(path);
    opened.push(file);
    return file;
  };
  const outer = paths.length > 1 ? [open(paths[0]!), open(paths.at(-1)!)] : paths.map(open);
  // All have ended, so that all that are open can be closed.
  await Promise.allSettled(outer);
  const [first, last] = await Promise.all(outer);
  if (!first || !last) return first ? [first] : [];
  const inner = paths.slice(1, -1);
  const sized = source.openSized && first.size * (paths.length - 1) + last.size === total;
  const opening = inner.map(async path => {
    if (!sized) return open(path);
    const file = source.openSized!(path, first.size);
    opened.push(file);
    return file;
  });
  await Promise.allSettled(opening);
  return [first, ...(await Promise.all(opening)), last];
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
  const places = bytes.places(offset, offset + entryBytes(entry));
  const readInto = (start: number, target: Uint8Array) => bytes.readInto(offset + start, target);
  const floats = (array: Omit<StoredArray, 'readInto'>): StoredVariable => {
    const stream = (onRead?: (bytes: number) => void) => new StoredArrayStream({...array, readInto}, scratch, onRead);
    return {...array, file, places, stream};
  };
  if (!packed) return floats({shape: entry.shape, dtype: 'float32', itemSize: 4, byteLength: entryBytes(entry)});
  const {format, order, shape} = packed;
  if (format === 'bfloat16') return floats({shape, dtype: format, itemSize: 2, byteLength: 2 * sizeOf(shape)});
  return {
    ...{shape, dtype: format, byteLength: entryBytes(entry), file, places},
    packed: {format, order, physicalShape: entry.shape, readInto},
    stream: () => {
      throw new Error(`internal: "${entry.name}" in ${file} is packed as ${format} and has no stream of values.`);
    },
  };
}
