/** The base class of tokenizers: special tokens, and loading and saving with a preset. */
import type * as tf from '@tensorflow/tfjs';
import {checkKeys, ValueError} from '../base/errors';
import {type NumberArray, type ShapedArray} from '../base/nested_array';
import {exportTokenizer} from '../checkpoints/huggingface/on_demand';
import {type SavedTokenizer} from '../checkpoints/keras/objects';
import {savePreset} from '../checkpoints/keras/on_demand';
import {type CheckpointLike, withCheckpoint} from '../checkpoints/open_checkpoint';
import {FETCH_OPTIONS, type FetchOptions} from '../files/http_client';
import {type PresetTarget} from '../files/open_folder';
import {type PresetEntry, presets} from '../hub/registry';
import {loadFromBase, type PresetOptions} from './preset_classes';

/** One token id, or a sequence of them. */
export type TokenIds = number | readonly number[] | NumberArray;

/** Token ids, or several sequences of them. */
export type TokenIdsOrBatch = TokenIds | readonly (readonly number[] | NumberArray)[] | ShapedArray | tf.Tensor;

/** Converts strings to token ids and back, as `keras_hub.tokenizers.Tokenizer`. */
export abstract class Tokenizer implements SavedTokenizer {
  /** @nocollapse */
  static className = 'Tokenizer';
  /** The file of a preset that has the configuration. */
  readonly configFile = 'tokenizer.json';
  /** Names of the files that `saveAssets` writes. */
  abstract readonly fileAssets: readonly string[];
  abstract readonly name: string;
  /** The bytes of the vocabulary. */
  abstract readonly proto: Uint8Array;

  /** The ids of a text, or of each text of a batch. */
  abstract tokenize(text: string): number[];
  abstract tokenize(texts: readonly string[]): number[][];
  abstract tokenize(input: string | readonly string[] | tf.Tensor): number[] | number[][];
  /** The text of a sequence of ids, or of each sequence of a batch. */
  abstract detokenize(ids: TokenIds): string;
  abstract detokenize(batch: readonly (readonly number[] | NumberArray)[]): string[];
  abstract detokenize(input: TokenIdsOrBatch): string | string[];
  /** Number of tokens in the vocabulary. */
  abstract readonly vocabularySize: number;
  /** All tokens, by id. */
  abstract getVocabulary(): string[];
  /** The id of a token. */
  abstract tokenToId(token: string): number;
  /** The token with this id. */
  abstract idToToken(id: number): string;
  /** All special tokens that the vocabulary must have. */
  abstract readonly specialTokens: readonly string[];
  /** Their ids, in the same order. */
  abstract readonly specialTokenIds: readonly number[];
  /** All arguments except the vocabulary, which is a separate file. */
  abstract getConfig(): ReturnType<SavedTokenizer['getConfig']>;
  /** Replaces the vocabulary; null removes it. */
  abstract setProto(proto: Uint8Array | null): void;

  getClassName(): string {
    return (this.constructor as typeof Tokenizer).className;
  }

  /** As {@link tokenize}. */
  call(text: string): number[];
  call(texts: readonly string[]): number[][];
  call(input: string | readonly string[] | tf.Tensor): number[] | number[][];
  call(input: string | readonly string[] | tf.Tensor): number[] | number[][] {
    return this.tokenize(input);
  }

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * Loads the tokenizer of a preset. Of a base class, the result has the class that fits the preset.
   *
   * @param options arguments of that class, which override those of the preset.
   * @throws ValueError if files are missing or unusable, and on unknown or unusable options.
   */
  static async fromPreset(preset: CheckpointLike, options: PresetOptions = {}): Promise<Tokenizer> {
    return loadFromBase<Tokenizer>(this, preset, options);
  }

  /**
   * Replaces the vocabulary with that of a preset.
   *
   * @param options how to request its files, if it is at an http(s) address.
   * @throws ValueError if there is none, or it lacks a special token.
   */
  async loadPresetAssets(preset: CheckpointLike, options: FetchOptions = {}): Promise<void> {
    checkKeys('loadPresetAssets', options, FETCH_OPTIONS);
    this.setProto(await withCheckpoint(preset, checkpoint => checkpoint.vocabulary(), options));
  }

  /** Saves the tokenizer and its vocabulary into a preset, next to existing files, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.tokenizer(this));
  }

  /**
   * Saves the tokenizer into a Hugging Face folder, next to existing files, with Gemma's chat template.
   *
   * @throws ValueError without a vocabulary, and for one with which Hugging Face's tokenizers would produce different
   * ids.
   */
  async exportToTransformers(target: PresetTarget): Promise<void> {
    await exportTokenizer(target, this);
  }
}

/** The error for a tokenizer without a vocabulary. */
export function noVocabulary(owner: string): ValueError {
  return new ValueError(
    `${owner} expected a vocabulary. Received none: pass \`proto\` when it is created, or call \`setProto\`, ` +
      '`loadAssets` or `loadPresetAssets`.',
  );
}
