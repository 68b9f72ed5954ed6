/** Hugging Face folders: safetensors, and the JSON files of transformers and sentence-transformers. */
import {type PresetSource} from '../../base/byte_source';
import {isObject, readJson} from '../../base/json';
import {type Checkpoint, type CheckpointFormat} from '../checkpoint';
import {isPresetFile} from '../keras/preset_files';
import {isSerialized} from '../keras/serialized';
import {checkShardSize, type ShardOptions} from '../shard_options';
import {
  CONFIG_FILE,
  INDEX_FILE,
  isCompanion,
  TOKENIZER_JSON,
  TOKENIZER_MODEL,
  weightFile,
  WEIGHTS_FILE,
} from './file_names';

/** A folder of transformers, with or without weights, or with only a tokenizer. */
async function recognizes(source: PresetSource): Promise<boolean> {
  if (await source.has(CONFIG_FILE)) {
    const config = await readJson(source, CONFIG_FILE);
    return isObject(config) && !isSerialized(config) && typeof config.model_type === 'string';
  }
  if ((await weightFile(source)) || (await source.has(TOKENIZER_MODEL))) return true;
  if (!(await source.has(TOKENIZER_JSON))) return false;
  const tokenizer = await readJson(source, TOKENIZER_JSON);
  return isObject(tokenizer) && isObject(tokenizer.model);
}

export const huggingFaceFormat = {
  name: 'huggingface',
  recognizes,
  open: async (source: PresetSource): Promise<Checkpoint> => {
    const {HuggingFaceCheckpoint} = await import('./folder_checkpoint');
    return new HuggingFaceCheckpoint(source);
  },
  isWeightFile: (path: string) =>
    path === WEIGHTS_FILE || path === INDEX_FILE || /^model-\d{5}-of-\d{5}\.safetensors$/.test(path),
  writer: {
    isPreset: false,
    dtypes: ['float32', 'float16', 'bfloat16'],
    dtypesNote: "Hugging Face folders have no weights in this package's int8 and int4 formats.",
    options: ['shardSize'],
    obsolete: path => isCompanion(path) || isPresetFile(path),
    checkOptions: checkShardSize,
    write: async (sink, model, options: ShardOptions) => {
      const {writeHuggingFaceModel} = await import('./write_model');
      return writeHuggingFaceModel(sink, model, options);
    },
  },
} as const satisfies CheckpointFormat;
