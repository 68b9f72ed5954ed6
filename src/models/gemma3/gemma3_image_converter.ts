/** KerasHub's `Gemma3ImageConverter`. */
import {checkKeys, ValueError} from '../../base/errors';
import {imageConverterConfig} from '../../checkpoints/keras/serialized';
import {
  CHECKPOINT_OPTIONS,
  type CheckpointLike,
  type CheckpointOptions,
  splitOpening,
  withCheckpoint,
} from '../../checkpoints/open_checkpoint';
import {defined} from '../../layers/arguments';
import {CONVERTER_ARGUMENTS, ImageConverter, type ImageConverterArgs} from '../image_converter';
import {registerPresetClass} from '../preset_classes';
import './names/register';

/** Arguments of {@link Gemma3ImageConverter}. */
export type Gemma3ImageConverterArgs = ImageConverterArgs;

/**
 * Prepares images for Gemma 3, as `keras_hub.layers.Gemma3ImageConverter`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_image_converter/): see {@link ImageConverter}.
 */
export class Gemma3ImageConverter extends ImageConverter {
  /** @nocollapse */
  static override className = 'Gemma3ImageConverter';

  /** As {@link ImageConverter.fromConfig}. */
  static override fromConfig(config: object): Gemma3ImageConverter {
    return super.fromConfig(config) as Gemma3ImageConverter;
  }

  /**
   * Loads the image converter of a preset.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError if the preset is for text only, and on unusable files or options.
   */
  static override async fromPreset(
    preset: CheckpointLike,
    options: Gemma3ImageConverterArgs & CheckpointOptions = {},
  ): Promise<Gemma3ImageConverter> {
    checkKeys('fromPreset', options, [...CONVERTER_ARGUMENTS, ...CHECKPOINT_OPTIONS]);
    const {opening, rest} = splitOpening(options);
    return withCheckpoint(
      preset,
      async checkpoint => {
        const saved = await checkpoint.config('imageConverter', 'Gemma3ImageConverter');
        if (saved) return Gemma3ImageConverter.fromConfig({...imageConverterConfig(saved), ...defined(rest)});
        throw new ValueError(
          `Expected a preset that takes images, with image_converter.json. Received: "${checkpoint.name}", a preset ` +
            'for text only.',
        );
      },
      opening,
    );
  }
}
registerPresetClass(Gemma3ImageConverter, 'Gemma3Backbone');
