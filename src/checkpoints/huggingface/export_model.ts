/**
 * Saves a model in memory as a Hugging Face folder. At the end either all new files replace the old ones, or none do.
 */
import type * as tf from '@tensorflow/tfjs';
import {intoFolder} from '../../base/byte_sink';
import {checkKeys, show, ValueError} from '../../base/errors';
import {openTarget, type PresetTarget} from '../../files/open_folder';
import {WeightSnapshot} from '../../weights/in_use';
import {weightStream} from '../../weights/repack';
import {isWeightFile} from '../all';
import {type CheckpointPart, type WrittenModel} from '../checkpoint';
import {
  backboneObject,
  imageConverterObject,
  preprocessorObject,
  type SavedPreprocessor,
  type SavedTask,
  type SavedTokenizer,
  type TaskDetails,
  taskObject,
  tokenizerObject,
} from '../keras/objects';
import {isPresetFile} from '../keras/preset_files';
import {type SerializedObject} from '../keras/serialized';
import {checkShardSize, type ShardOptions} from '../shard_options';
import {isCompanion} from './file_names';
import {writeHuggingFaceModel, writeHuggingFaceTokenizer} from './write_model';

/** Options of `exportToTransformers`. */
export interface ExportOptions extends Omit<ShardOptions, 'dtype'> {
  /**
   * Dtype of all weights in the files. By default each keeps its own. Required for weights that are stored as int8 or
   * int4.
   */
  dtype?: 'float32' | 'float16' | 'bfloat16';
  /** Size of each weight file in bytes. A larger tensor has a file of its own. Defaults to 5 GB. */
  shardSize?: number;
}

const OPTIONS = ['dtype', 'shardSize', 'onProgress', 'signal'] as const;

const DTYPES = ['float32', 'float16', 'bfloat16'];

/** The exported model: a task with its backbone, or only a backbone. */
export interface Exported {
  readonly backbone: tf.LayersModel;
  readonly task?: SavedTask;
  readonly details?: TaskDetails;
}

/**
 * The common part of every `exportToTransformers`.
 *
 * @throws ValueError on unknown or unusable options, and for a model that transformers cannot represent; the signal's
 * reason when aborted; I/O errors. In all these cases the target is unchanged.
 */
export async function exportModel(target: PresetTarget, options: ExportOptions, exported: Exported): Promise<void> {
  checkKeys('exportToTransformers', options, OPTIONS);
  const {dtype, signal} = options;
  if (dtype !== undefined && !DTYPES.includes(dtype)) {
    throw new ValueError(`Expected dtype to be one of ${DTYPES.join(', ')}. Received: ${show(dtype)}.`);
  }
  checkShardSize(options);
  signal?.throwIfAborted();
  const {backbone, task, details = {}} = exported;
  const preprocessor = task?.preprocessor ?? null;
  const model: WrittenModel = {
    backbone,
    open: weightStream,
    topology: () => null,
    config: async part => {
      if (part === 'backbone') return backboneObject(backbone, dtype) as SerializedObject;
      if (part === 'task') return task ? (taskObject(task, dtype, details) as SerializedObject) : null;
      return preprocessor && partOf(part, preprocessor, details.preprocessorClass);
    },
    vocabulary: async () => preprocessor && preprocessor.tokenizer.proto,
  };
  const sink = await openTarget(target);
  const write = async () => {
    const snapshot = new WeightSnapshot(() => backbone.weights);
    await writeHuggingFaceModel(sink, model, options);
    snapshot.check('exporting a model');
    signal?.throwIfAborted();
  };
  await intoFolder(sink, write, path => isWeightFile(path) || isCompanion(path) || isPresetFile(path));
}

/** The common part of `exportToTransformers` of tokenizers and preprocessors: only the files of the tokenizer. */
export async function exportTokenizer(
  target: PresetTarget,
  tokenizer: SavedTokenizer,
  preprocessor?: SavedPreprocessor & {getClassName(): string},
): Promise<void> {
  const sink = await openTarget(target);
  const part = (name: CheckpointPart) => preprocessor && partOf(name, preprocessor, preprocessor.getClassName());
  await intoFolder(sink, () =>
    writeHuggingFaceTokenizer(sink, {
      backbone: null,
      task: null,
      preprocessor: part('preprocessor') ?? null,
      tokenizer: tokenizerObject(tokenizer) as SerializedObject,
      imageConverter: part('imageConverter') ?? null,
      vocabulary: tokenizer.proto,
      chatTemplate: undefined,
    }),
  );
}

/** A part of a preprocessor. */
function partOf(part: CheckpointPart, preprocessor: SavedPreprocessor, className?: string): SerializedObject | null {
  const {tokenizer, imageConverter} = preprocessor;
  if (part === 'tokenizer') return tokenizerObject(tokenizer) as SerializedObject;
  if (part === 'preprocessor') return preprocessorObject(preprocessor, className) as SerializedObject;
  return imageConverter ? (imageConverterObject(imageConverter) as SerializedObject) : null;
}
