/** The base class of preprocessors: a tokenizer, perhaps an image converter, and loading and saving with a preset. */
import {exportTokenizer} from '../checkpoints/huggingface/on_demand';
import {type SavedPreprocessor} from '../checkpoints/keras/objects';
import {savePreset} from '../checkpoints/keras/on_demand';
import {checkPositiveInteger} from '../base/checks';
import {ValueError} from '../base/errors';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type PresetTarget} from '../files/open_folder';
import {type PresetEntry, presets} from '../hub/registry';
import {type ImageConverter} from './image_converter';
import {loadFromBase, type PresetOptions} from './preset_classes';
import {type Tokenizer} from './tokenizer';

/** Turns strings and images into inputs of a model, as `keras_hub.models.Preprocessor`. */
export abstract class Preprocessor implements SavedPreprocessor {
  /** @nocollapse */
  static className = 'Preprocessor';
  /** The file of a preset that has the configuration. */
  readonly configFile = 'preprocessor.json';
  abstract readonly name: string;
  /** Turns strings into token ids and back. */
  abstract readonly tokenizer: Tokenizer;
  /** Prepares images; null for text only. */
  abstract readonly imageConverter: ImageConverter | null;
  private length = 1;

  getClassName(): string {
    return (this.constructor as typeof Preprocessor).className;
  }

  /** Length of the token sequences. Can be set. */
  get sequenceLength(): number {
    return this.length;
  }
  set sequenceLength(length: number) {
    checkPositiveInteger(this.getClassName(), 'sequenceLength', length);
    this.length = length;
  }

  /** Height and width of the images that the converter returns; null without a converter. Can be set. */
  get imageSize(): readonly [number, number] | null {
    return this.imageConverter?.imageSize ?? null;
  }
  set imageSize(size: readonly [number, number] | null) {
    if (!this.imageConverter) {
      throw new ValueError('Cannot set `imageSize` on a preprocessor whose `imageConverter` is null.');
    }
    this.imageConverter.imageSize = size;
  }

  /** The arguments. The tokenizer's configuration does not include its vocabulary, which is a separate file. */
  abstract getConfig(): Record<string, unknown>;

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * Loads the preprocessor of a preset, with its tokenizer. Of a base class, the result has the class that fits the
   * preset; `Preprocessor` itself gives the class that the preset was saved with.
   *
   * @param options arguments of that class, which override those of the preset.
   * @throws ValueError on unknown options, and if files are missing or unusable.
   */
  static async fromPreset(preset: CheckpointLike, options: PresetOptions = {}): Promise<Preprocessor> {
    return loadFromBase<Preprocessor>(this, preset, options, {
      part: 'preprocessor',
      advice: 'Call `fromPreset` of the one that you need, such as CausalLMPreprocessor.',
    });
  }

  /**
   * Replaces the vocabulary of the tokenizer with that of a preset.
   *
   * @throws ValueError if there is none, or it lacks a special token.
   */
  async loadPresetAssets(preset: CheckpointLike): Promise<void> {
    await this.tokenizer.loadPresetAssets(preset);
  }

  /** Saves the preprocessor and its tokenizer into a preset, next to existing files, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.preprocessor(this, this.getClassName()));
  }

  /**
   * Saves the tokenizer into a Hugging Face folder, next to existing files: see `exportToTransformers` of the
   * tokenizer.
   *
   * @throws as there.
   */
  async exportToTransformers(target: PresetTarget): Promise<void> {
    await exportTokenizer(target, this.tokenizer, this);
  }
}
