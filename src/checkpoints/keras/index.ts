/** Presets as KerasHub saves them: JSON files, and weights in HDF5. */
import {type PresetSource} from '../../base/byte_source';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {type StoredWeights} from '../stored_weights';
import {PresetFiles} from './preset_files';
import {checkShardSize, hasKerasWeights, SHARDS_FILE, type WeightFilesOptions, WEIGHTS_FILE} from './weight_files';

class KerasPreset extends PresetFiles implements Checkpoint {
  readonly format = 'keras';
  readonly title = 'Keras HDF5';

  hasWeights(): Promise<boolean> {
    return hasKerasWeights(this.source);
  }

  async weights(): Promise<StoredWeights> {
    const {openKerasWeights} = await import('./read_weights');
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
    isPreset: true,
    dtypes: ['float32', 'bfloat16'],
    dtypesNote: "Writing quantized weights in Keras' format is not supported.",
    options: ['maxShardSize'],
    checkOptions: checkShardSize,
    write: async (sink, {backbone, open}, options: WeightFilesOptions) => {
      const [{savedWeights}, {writeWeightFiles}] = await Promise.all([
        import('../saved_weights'),
        import('./write_weights'),
      ]);
      return writeWeightFiles(sink, savedWeights(backbone, undefined, open), options);
    },
  },
} as const satisfies CheckpointFormat;
