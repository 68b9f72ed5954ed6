/** Folders that `tf.loadLayersModel` reads: `model.json`, shards, and the JSON files of a Keras preset next to them. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {PresetFiles} from '../keras/preset_files';
import {type StoredWeights} from '../stored_weights';
import {TFJS_FILE} from './manifest';
import {openTfjsWeights} from './read_weights';
import {checkShardSize, isShard, type ShardOptions} from './write_shards';
import {writeTfjsWeights} from './write_weights';

class TfjsFolder extends PresetFiles implements Checkpoint {
  readonly format = 'tfjs';
  readonly title = 'TensorFlow.js';

  hasWeights(): Promise<boolean> {
    return this.source.has(TFJS_FILE);
  }

  weights(): Promise<StoredWeights> {
    return openTfjsWeights(this.source);
  }
}

export const tfjsFormat = {
  name: 'tfjs',
  recognizes: (source: PresetSource) => source.has(TFJS_FILE),
  open: async (source: PresetSource): Promise<Checkpoint> => new TfjsFolder(source),
  isWeightFile: (path: string) => path === TFJS_FILE || isShard(path),
  writer: {
    dtypes: ['float32', 'bfloat16', 'int8', 'int4'],
    options: ['shardSize'],
    checkOptions: checkShardSize,
    write: (sink, model, options: ShardOptions) => writeTfjsWeights(sink, model, options),
  },
} as const satisfies CheckpointFormat;
