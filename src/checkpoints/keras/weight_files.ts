/** Names of the weight files of a Keras preset, and options for them. */
import {type PresetSource} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {type WriteOptions} from '../checkpoint';

export const WEIGHTS_FILE = 'model.weights.h5';

export const SHARDS_FILE = 'model.weights.json';

export const hasKerasWeights = async (source: PresetSource): Promise<boolean> =>
  (await source.has(WEIGHTS_FILE)) || (await source.has(SHARDS_FILE));

export interface WeightFilesOptions extends WriteOptions {
  /** Maximum size of a file, in GB of 1024³ bytes; null for one file of any size. Defaults to 10. */
  maxShardSize?: number | null;
}

/** @throws ValueError on a size that cannot be used. */
export function checkShardSize({maxShardSize}: WeightFilesOptions): void {
  if (maxShardSize != null && !(maxShardSize > 0)) {
    throw new ValueError(`Expected maxShardSize to be null or a number above 0. Received: ${show(maxShardSize)}.`);
  }
}
