/** Options of formats that divide weights among files of a size in bytes. */
import {show, ValueError} from '../base/errors';
import {type WriteOptions} from './checkpoint';

export interface ShardOptions extends WriteOptions {
  /**
   * Size of each weight file in bytes. Defaults to 32 MB for tfjs, and to 5 GB for Hugging Face, where a larger tensor has
   * a file of its own.
   */
  shardSize?: number;
}

/** @throws ValueError on a size that cannot be used. */
export function checkShardSize({shardSize}: ShardOptions): void {
  if (shardSize === undefined) return;
  if (!Number.isSafeInteger(shardSize)) {
    throw new ValueError(`Expected shardSize to be a whole number of bytes. Received: ${show(shardSize)}.`);
  }
  if (!(shardSize > 0)) throw new ValueError(`Expected shardSize to be above 0. Received: ${show(shardSize)}.`);
}
