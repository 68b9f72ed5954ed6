/** Folders that `tf.loadLayersModel` reads: `model.json`, shards, and the JSON files of a Keras preset next to them. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {PresetFiles} from '../keras/preset_files';
import {checkShardSize, type ShardOptions} from '../shard_options';
import {type StoredWeights} from '../stored_weights';
import {TFJS_FILE} from './manifest';
import {isShard} from './write_shards';

class TfjsFolder extends PresetFiles implements Checkpoint {
  readonly format = 'tfjs';
  readonly title = 'TensorFlow.js';

  hasWeights(): Promise<boolean> {
    return this.source.has(TFJS_FILE);
  }

  async weights(): Promise<StoredWeights> {
    const {openTfjsWeights} = await import('./read_weights');
    return openTfjsWeights(this.source);
  }
}

export const tfjsFormat = {
  name: 'tfjs',
  recognizes: (source: PresetSource) => source.has(TFJS_FILE),
  open: async (source: PresetSource): Promise<Checkpoint> => new TfjsFolder(source),
  isWeightFile: (path: string) => path === TFJS_FILE || isShard(path),
  writer: {
    isPreset: true,
    dtypes: ['float32', 'bfloat16', 'int8', 'int4'],
    options: ['shardSize'],
    checkOptions: checkShardSize,
    write: async (sink, model, options: ShardOptions) => {
      const {writeTfjsWeights} = await import('./write_weights');
      return writeTfjsWeights(sink, model, options);
    },
  },
} as const satisfies CheckpointFormat;
