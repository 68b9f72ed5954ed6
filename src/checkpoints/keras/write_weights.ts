/** The weights of a preset as Keras divides them: one HDF5 file, or shards with an index. */
import {ValueError} from '../../base/errors';
import {formatBytes} from '../../base/format_bytes';
import {type PresetSink, writeAll} from '../../base/byte_sink';
import {Hdf5Writer} from '../../formats/hdf5';
import {SHARDS_FILE, WEIGHTS_FILE} from './read_weights';
import {type SavedVariable, type SavedWeights, storedBytes, storedPieces} from '../saved_weights';

/** State of a save, told after each piece. */
export interface SaveProgress {
  file: string;
  /** Bytes of variables written so far, over all files. */
  saved: number;
  total: number;
}

export interface WeightFilesOptions {
  /** Size of a file in GB of 1024³ bytes, beyond which there are several; null for one file of any size. */
  maxShardSize?: number | null;
  onProgress?: (progress: SaveProgress) => void;
  signal?: AbortSignal;
}

/** In GB, as in KerasHub. */
export const DEFAULT_SHARD_SIZE = 10;

const GB = 1024 ** 3;

/** Variables in the order in which they come, a new file where the next does not fit. */
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
 * All weight files of a preset into a sink. Memory holds one piece of one variable.
 *
 * @returns how many bytes the variables have.
 */
export async function writeWeightFiles(
  sink: PresetSink,
  {groups, variables}: SavedWeights,
  {maxShardSize = DEFAULT_SHARD_SIZE, onProgress, signal}: WeightFilesOptions,
): Promise<number> {
  const total = variables.reduce((sum, variable) => sum + storedBytes(variable), 0);
  let saved = 0;
  const write = async (file: string, contents: readonly SavedVariable[]) => {
    const hdf5 = new Hdf5Writer();
    for (const {path, layerName} of groups) hdf5.group(path, {name: layerName});
    for (const {group, name, shape, dtype, open} of contents) {
      const data = async function* () {
        for await (const piece of storedPieces(open(), dtype)) {
          signal?.throwIfAborted();
          yield piece;
          saved += piece.length;
          onProgress?.({file, saved, total});
        }
      };
      hdf5.dataset(`${group}/${name}`, {shape, dtype, data});
    }
    const target = await sink.create(file);
    await hdf5.writeTo(target);
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
      // From its second variable on a group has a list of files, be it one.
      map[`/${group}`] = known === undefined ? file : [...new Set([known, file].flat())];
    }
    await write(file, contents);
  }
  const index = {metadata: {total_size: total}, weight_map: map};
  await writeAll(sink, SHARDS_FILE, new TextEncoder().encode(JSON.stringify(index, null, 4)));
  return total;
}

/** Whether a file holds weights, in whatever form: those of a preset that is written over are no longer of use. */
export const isWeightFile = (path: string): boolean =>
  path === WEIGHTS_FILE ||
  path === SHARDS_FILE ||
  path === 'model.json' ||
  /^(model_\d{5}\.weights\.h5|group1-shard\d+of\d+\.bin)$/.test(path);
