/** Writes the weights of a preset as Keras does: one HDF5 file, or shards with an index. */
import {type ByteSink, type PresetSink} from '../../base/byte_sink';
import {ValueError} from '../../base/errors';
import {formatBytes} from '../../base/format_bytes';
import {writeJson} from '../../base/json';
import {Hdf5Writer} from '../../formats/hdf5';
import {type SavedVariable, type SavedWeights, storedBytes, storedPieces} from '../saved_weights';
import {SHARDS_FILE, WEIGHTS_FILE, type WeightFilesOptions} from './weight_files';

/** In GB of 1024³ bytes, as in KerasHub. */
export const DEFAULT_SHARD_SIZE = 10;

const GB = 1024 ** 3;

/** Divides variables into files, in order: a new file starts when the next variable does not fit. */
function shards(variables: readonly SavedVariable[], limit: number): SavedVariable[][] {
  const files: SavedVariable[][] = [[]];
  let size = 0;
  for (const variable of variables) {
    const bytes = storedBytes(variable);
    if (bytes > limit) {
      throw new ValueError(
        `Expected a maxShardSize that holds the largest variable. Received: ${limit / GB} GB; ` +
          `"${variable.group}/${variable.name}" has ${formatBytes(bytes)}. Choose at least ${bytes / GB} GB.`,
      );
    }
    if (size + bytes > limit) {
      files.push([]);
      size = 0;
    }
    files.at(-1)!.push(variable);
    size += bytes;
  }
  return files;
}

/**
 * Writes groups and variables into one file, which the caller closes.
 *
 * @param onWrite receives the number of bytes after each piece.
 */
export async function writeHdf5(
  target: ByteSink,
  {groups, variables}: SavedWeights,
  onWrite: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<void> {
  const hdf5 = new Hdf5Writer();
  for (const {path, layerName} of groups) hdf5.group(path, {name: layerName});
  for (const {group, name, shape, dtype, open} of variables) {
    const data = async function* () {
      for await (const piece of storedPieces(open(), dtype)) {
        signal?.throwIfAborted();
        yield piece;
        onWrite(piece.length);
      }
    };
    hdf5.dataset(`${group}/${name}`, {shape, dtype, data});
  }
  await hdf5.writeTo(target);
}

/**
 * Writes all weight files of a preset. Memory holds only one piece of one variable at a time.
 *
 * @returns the bytes of all variables.
 */
export async function writeWeightFiles(
  sink: PresetSink,
  {groups, variables}: SavedWeights,
  {maxShardSize = DEFAULT_SHARD_SIZE, onProgress, signal}: WeightFilesOptions,
): Promise<number> {
  const total = variables.reduce((sum, variable) => sum + storedBytes(variable), 0);
  let saved = 0;
  const onWrite = (file: string) => (bytes: number) => {
    saved += bytes;
    onProgress?.({file, saved, total});
  };
  const write = async (file: string, contents: readonly SavedVariable[]) => {
    const target = await sink.create(file);
    await writeHdf5(target, {groups, variables: contents}, onWrite(file), signal);
    await target.close();
  };

  if (maxShardSize === null || total / GB <= maxShardSize) {
    await write(WEIGHTS_FILE, variables);
    return total;
  }
  const files = shards(variables, maxShardSize * GB);
  const map: Record<string, string | string[]> = {};
  for (const [i, contents] of files.entries()) {
    const file = `model_${String(i).padStart(5, '0')}.weights.h5`;
    for (const {group} of contents) {
      const known = map[`/${group}`];
      // From a group's second variable on, its entry is a list, even if the list has only one file.
      map[`/${group}`] = known === undefined ? file : [...new Set([known, file].flat())];
    }
    await write(file, contents);
  }
  const index = {metadata: {total_size: total}, weight_map: map};
  await writeJson(sink, SHARDS_FILE, index);
  return total;
}
