/** The base class of preprocessors of language models. */
import type * as tf from '@tensorflow/tfjs';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type GenerationPreprocessor, type PromptTokens} from './generate_options';
import {loadFromBase, type PresetOptions} from './preset_classes';
import {Preprocessor} from './preprocessor';
import {type TokenInputs} from './token_inputs';
import {type Tokenizer} from './tokenizer';

/** Inputs of a model by name; undefined for those that it does not have. */
type NamedTensors = {[inputName: string]: tf.Tensor | undefined};

/**
 * Turns strings and images into inputs of a language model, for training and generation, and token ids into strings, as
 * `keras_hub.models.CausalLMPreprocessor`. `P` is the type of prompts.
 */
export abstract class CausalLMPreprocessor<P = string | readonly string[]>
  extends Preprocessor
  implements GenerationPreprocessor<P>
{
  /** @nocollapse */
  static override className = 'CausalLMPreprocessor';
  abstract override readonly tokenizer: Tokenizer & GenerationPreprocessor<P>['tokenizer'];
  /** Put the token that starts a text before each sequence. */
  abstract addStartToken: boolean;
  /** Put the token that ends a text after each sequence, for training. */
  abstract addEndToken: boolean;

  /** Inputs, labels and weights for training, for `fit(x, y, {sampleWeight})`. */
  abstract call(
    x: unknown,
    options?: {sequenceLength?: number},
  ): Promise<{x: NamedTensors; y: tf.Tensor; sampleWeight: tf.Tensor}>;
  /** Prompts as inputs of the model, for `predict`, padded or cut to `sequenceLength`. */
  abstract generatePreprocess(x: P, options?: {sequenceLength?: number}): Promise<NamedTensors>;
  /** Token ids as texts, without padding and special tokens. */
  abstract generatePostprocess(x: Pick<TokenInputs, 'token_ids' | 'padding_mask'>): Promise<string | string[]>;
  /** Prompts for generation as token ids, with their images. */
  abstract promptTokens(x: P, options?: {sequenceLength?: number}): Promise<PromptTokens>;
  /** Removes special tokens. */
  abstract stripSpecial(ids: readonly number[]): number[];
  /** Whether `stripSpecial` removes this id. */
  abstract isSpecial(id: number): boolean;

  /** As {@link Preprocessor.fromPreset}. */
  static override async fromPreset(
    preset: CheckpointLike,
    options: PresetOptions & {sequenceLength?: number} = {},
  ): Promise<CausalLMPreprocessor> {
    return loadFromBase<CausalLMPreprocessor>(this, preset, options);
  }
}
