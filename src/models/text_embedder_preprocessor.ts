/** The base class of preprocessors of text embedders. */
import type * as tf from '@tensorflow/tfjs';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {loadFromBase, type PresetOptions} from './preset_classes';
import {Preprocessor} from './preprocessor';
import {type EmbedderPreprocessor} from './text_embedder';
import {type Tokenizer} from './tokenizer';

/** Turns texts into token ids for embedders, as `keras_hub.models.TextEmbedderPreprocessor`. */
export abstract class TextEmbedderPreprocessor extends Preprocessor implements EmbedderPreprocessor {
  /** @nocollapse */
  static override className = 'TextEmbedderPreprocessor';
  abstract override readonly tokenizer: Tokenizer & EmbedderPreprocessor['tokenizer'];
  readonly imageConverter = null;
  /** How segments are cut if together they are too long. */
  abstract readonly truncate: string;

  /** Token ids and their padding mask, for `predict` and `fit`. */
  abstract call(x: unknown): Promise<{token_ids: tf.Tensor; padding_mask: tf.Tensor}>;
  /** Token ids of the segments of one sequence, cut to `sequenceLength`, without padding. */
  abstract packedTokens(segments: readonly string[]): number[];

  /** As {@link Preprocessor.fromPreset}. */
  static override async fromPreset(
    preset: CheckpointLike,
    options: PresetOptions & {sequenceLength?: number} = {},
  ): Promise<TextEmbedderPreprocessor> {
    return loadFromBase<TextEmbedderPreprocessor>(this, preset, options);
  }
}
