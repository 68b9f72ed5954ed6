/** Presets as KerasHub saves them: JSON files, and weights in HDF5. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {savedWeights} from '../saved_weights';
import {type StoredWeights} from '../stored_weights';
import {PresetFiles} from './preset_files';
import {hasKerasWeights, openKerasWeights, SHARDS_FILE, WEIGHTS_FILE} from './read_weights';
import {checkShardSize, type WeightFilesOptions, writeWeightFiles} from './write_weights';

class KerasPreset extends PresetFiles implements Checkpoint {
  readonly format = 'keras';
  readonly title = 'Keras HDF5';

  hasWeights(): Promise<boolean> {
    return hasKerasWeights(this.source);
  }

  weights(): Promise<StoredWeights> {
    return openKerasWeights(this.source);
  }
}

export const kerasFormat = {
  name: 'keras',
  recognizes: hasKerasWeights,
  open: async (source: PresetSource): Promise<Checkpoint> => new KerasPreset(source),
  isWeightFile: (path: string) =>
    path === WEIGHTS_FILE || path === SHARDS_FILE || /^model_\d{5}\.weights\.h5$/.test(path),
  writer: {
    dtypes: ['float32', 'bfloat16'],
    dtypesNote: 'Writing quantized weights in the format of Keras is not supported.',
    options: ['maxShardSize'],
    checkOptions: checkShardSize,
    write: (sink, {backbone, open}, options: WeightFilesOptions) =>
      writeWeightFiles(sink, savedWeights(backbone, undefined, open), options),
  },
} as const satisfies CheckpointFormat;
