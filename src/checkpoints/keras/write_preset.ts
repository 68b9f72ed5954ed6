/** Saves to a preset. At the end either all new files replace the old ones, or none do. */
import type * as tf from '@tensorflow/tfjs';
import {intoFolder, type PresetSink, writeAll} from '../../base/byte_sink';
import {checkKeys, show, ValueError} from '../../base/errors';
import {writeJson} from '../../base/json';
import {sizeOf} from '../../base/shapes';
import {openTarget, type PresetTarget} from '../../files/open_folder';
import {WeightSnapshot} from '../../weights/in_use';
import {isWeightFile} from '../all';
import {savedWeights} from '../saved_weights';
import {
  backboneObject,
  imageConverterObject,
  metadataObject,
  preprocessorObject,
  type SavedPreprocessor,
  type SavedTask,
  type SavedTokenizer,
  type TaskDetails,
  taskObject,
  tokenizerObject,
} from './objects';
import {checkShardSize, type WeightFilesOptions} from './weight_files';
import {writeWeightFiles} from './write_weights';

/** Options of `saveToPreset`. */
export interface SaveToPresetOptions extends WeightFilesOptions {
  /**
   * Dtype of the weights in the files. Defaults to their current dtype. Required for weights that are stored as int8 or
   * int4.
   */
  dtype?: 'float32' | 'bfloat16';
}

const OPTIONS = ['dtype', 'maxShardSize', 'onProgress', 'signal'] as const;

const DTYPES = ['float32', 'bfloat16'];

/**
 * The common part of every `saveToPreset`: checks the options, opens the target, and puts all files in place at the
 * end, or none if anything fails.
 *
 * @param write writes the files.
 * @throws ValueError on unknown or unusable options; the signal's reason when aborted; I/O errors.
 */
export async function savePreset(
  target: PresetTarget,
  options: SaveToPresetOptions,
  write: (writer: PresetWriter) => Promise<void>,
): Promise<void> {
  checkKeys('saveToPreset', options, OPTIONS);
  const {dtype, signal} = options;
  if (dtype !== undefined && !DTYPES.includes(dtype)) {
    throw new ValueError(`Expected dtype to be one of ${DTYPES.join(', ')}. Received: ${show(dtype)}.`);
  }
  checkShardSize(options);
  signal?.throwIfAborted();
  const sink = await openTarget(target);
  const writer = new PresetWriter(sink, options);
  const writeFiles = async () => {
    await write(writer);
    signal?.throwIfAborted();
  };
  await intoFolder(sink, writeFiles, path => writer.replaces(path));
}

/** The files of a preset, one method for each of its parts. */
export class PresetWriter {
  private readonly obsolete: ((path: string) => boolean)[] = [];

  constructor(
    readonly sink: PresetSink,
    readonly options: SaveToPresetOptions = {},
  ) {}

  /** Whether a file of the old preset belongs to a part that has been written again. */
  replaces(path: string): boolean {
    return this.obsolete.some(test => test(path));
  }

  /** `config.json`, `metadata.json` and the weights. */
  async backbone(backbone: tf.LayersModel): Promise<void> {
    const {dtype} = this.options;
    // An old task.json would rebuild the model from its own copy of the configuration.
    this.obsolete.push(isWeightFile, path => path === 'task.json' || path === 'task.weights.h5');
    await writeJson(this.sink, 'config.json', backboneObject(backbone, dtype));
    const snapshot = new WeightSnapshot(() => backbone.weights);
    const saved = savedWeights(backbone, dtype);
    // LoRA matrices are not counted, because files hold merged kernels.
    const parameters = saved.variables.reduce((sum, {shape}) => sum + sizeOf(shape), 0);
    await writeJson(this.sink, 'metadata.json', metadataObject(parameters));
    await writeWeightFiles(this.sink, saved, this.options);
    snapshot.check('saving a preset');
  }

  /** `tokenizer.json` and the vocabulary. */
  async tokenizer(tokenizer: SavedTokenizer): Promise<void> {
    await writeJson(this.sink, 'tokenizer.json', tokenizerObject(tokenizer));
    await writeAll(this.sink, 'assets/tokenizer/vocabulary.spm', tokenizer.proto);
  }

  /** `preprocessor.json`, the tokenizer, and `image_converter.json` of a model with vision. */
  async preprocessor(preprocessor: SavedPreprocessor, className?: string): Promise<void> {
    const {imageConverter, tokenizer} = preprocessor;
    this.obsolete.push(path => path === 'image_converter.json');
    await writeJson(this.sink, 'preprocessor.json', preprocessorObject(preprocessor, className));
    await this.tokenizer(tokenizer);
    if (imageConverter) await this.imageConverter(imageConverter);
  }

  /** `image_converter.json`. */
  async imageConverter(converter: object): Promise<void> {
    await writeJson(this.sink, 'image_converter.json', imageConverterObject(converter));
  }

  /** `task.json` and all parts of the task. */
  async task(task: SavedTask, details: TaskDetails = {}): Promise<void> {
    await writeJson(this.sink, 'task.json', taskObject(task, this.options.dtype, details));
    await this.backbone(task.backbone);
    if (task.preprocessor) await this.preprocessor(task.preprocessor, details.preprocessorClass);
  }
}
