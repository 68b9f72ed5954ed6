/** The base class of backbones: loading options, quantization, LoRA and files of KerasHub. */
import type * as tf from '@tensorflow/tfjs';
import {
  loadLoraWeights,
  type LoraSource,
  type LoraTarget,
  mergeLora,
  type SaveLoraOptions,
  saveLoraWeights,
} from '../adapters/on_demand';
import {enableLora, type EnableLoraOptions, loraLayers} from '../adapters/model_lora';
import {checkKeys} from '../base/errors';
import {exportModel, type ExportOptions} from '../checkpoints/huggingface/on_demand';
import {savePreset, type SaveToPresetOptions} from '../checkpoints/keras/on_demand';
import {CHECKPOINT_OPTIONS, type CheckpointLike, type CheckpointOptions} from '../checkpoints/open_checkpoint';
import {type FetchOptions} from '../files/http_client';
import {type FileSource} from '../files/open_file';
import {type PresetTarget} from '../files/open_folder';
import {type PresetEntry, presets} from '../hub/registry';
import {type QuantizationMode} from '../layers/quantize';
import {type ReversibleEmbedding} from '../layers/reversible_embedding';
import {type DtypeName} from '../weights/dtype';
import {FunctionalModel} from './functional_model';
import {loadFromBase, type PresetOptions} from './preset_classes';

export {packConfig, unpackConfig} from './packed_config';
export type {ModelInputs} from '../layers/named_inputs';

/** Options of `fromPreset`. */
export interface FromPresetOptions extends CheckpointOptions {
  /**
   * False builds the model from its configuration only; its weights are initialized when they are first read. Defaults
   * to true.
   */
  loadWeights?: boolean;
  /**
   * A `.weights.h5` file with the weights, instead of the preset's, which are then neither read nor downloaded. It may
   * be of a backbone or of a task around it, written by `saveWeights` or by Keras' `save_weights`. At an http(s)
   * address, `headers` are sent only if the preset is on the same server.
   */
  weights?: FileSource;
  /**
   * How weights are stored: "float32", "bfloat16", "int8", "int4" or the name of another Keras policy. Arithmetic is
   * always float32. Defaults to the dtype of the preset.
   */
  dtype?: DtypeName;
  /** Called after each piece of a file that was read; `loaded` and `total` are bytes. */
  onProgress?: (progress: {file: string; loaded: number; total: number}) => void;
  /** Stops loading: the promise is rejected with the signal's reason. No part of the model stays in memory. */
  signal?: AbortSignal;
}

export const FROM_PRESET_OPTIONS = [
  'loadWeights',
  'weights',
  'dtype',
  'onProgress',
  'signal',
  ...CHECKPOINT_OPTIONS,
] as const;

const counts = new Map<string, number>();

/** `gemma3_backbone`, then `gemma3_backbone_1` and so on, as Keras names models. */
export function uniqueModelName(prefix: string): string {
  const count = counts.get(prefix) ?? 0;
  counts.set(prefix, count + 1);
  return count ? `${prefix}_${count}` : prefix;
}

/** A model without its head, as `keras_hub.models.Backbone`. */
export abstract class Backbone extends FunctionalModel {
  /** @nocollapse */
  static override className = 'Backbone';
  /** Embeds token ids. */
  abstract readonly tokenEmbedding: ReversibleEmbedding;
  /** All layers of the graph, including those that only the summary shows, such as `Multiply`. */
  private graphLayers: tf.layers.Layer[] = [];

  /** Sets the layers in Keras' order. `hidden` layers appear only in the summary. */
  protected setLayers(all: tf.layers.Layer[], hidden: readonly tf.layers.Layer[]): void {
    this.graphLayers = all;
    this.layers = all.filter(layer => !hidden.includes(layer));
  }

  /** Prints the same layers as Keras, with their numbers of parameters. */
  override summary(lineLength?: number, positions?: number[], printFn?: (message?: unknown) => void): void {
    const layers = this.layers;
    this.layers = this.graphLayers;
    try {
      super.summary(lineLength, positions, printFn as Parameters<tf.LayersModel['summary']>[2]);
    } finally {
      this.layers = layers;
    }
  }

  // === Quantization ===

  /**
   * Packs all kernels as "int8", "int4" or "bfloat16", one after another, so memory holds only one matrix in addition
   * to the model. As Keras' `Model.quantize` (https://keras.io/api/models/model/), except that the model then equals
   * one that was loaded with this `dtype`. A vision encoder therefore keeps its format; call its own `quantize` to
   * change it.
   *
   * @throws ValueError for another mode; for weights that are already stored as integers or in this format; for a mode
   * that the backend cannot pack. If it fails halfway, some kernels are packed and some are not. All of them work, and
   * calling it again packs the rest.
   */
  abstract quantize(mode: QuantizationMode): Promise<void>;

  // === LoRA ===

  /** Names of the layers that `enableLora` adapts by default: projections of queries and values. */
  defaultLoraLayerNames(): string[] {
    return ['query_dense', 'value_dense', 'query', 'value'];
  }

  /** Whether any layer has LoRA that is not merged. */
  get loraEnabled(): boolean {
    return loraLayers(this).size > 0;
  }

  /**
   * Freezes the model, and adds the product of two small trainable matrices to some of its kernels, as `enable_lora` of
   * KerasHub (https://keras.io/keras_hub/api/base_classes/backbone/). Frozen kernels may be packed. As in Keras, the
   * biases of adapted layers stay trainable. A task around this backbone trains the same weights.
   *
   * @param rank the number of columns of the first matrix.
   * @example
   * lm.backbone.enableLora(4);
   * lm.backbone.enableLora(8, {alpha: 16, targetLayerNames: ['query', 'key', 'value', 'attention_output', /ffw/]});
   *
   * @throws ValueError on unknown or unusable arguments, on names that match no layer, and if LoRA is already enabled.
   */
  enableLora(rank: number, options: EnableLoraOptions = {}): void {
    this.checkInUse();
    checkKeys('enableLora', options, ['targetLayerNames', 'alpha', 'seed']);
    enableLora(this, rank, options);
  }

  /**
   * Saves the LoRA matrices as `.lora.h5`, which KerasHub's `load_lora_weights` reads. KerasHub has no alpha: if alpha
   * differs from the rank, B is saved multiplied by alpha / rank, and alpha is recorded. Trainable biases, as in a
   * vision encoder, are saved as well; KerasHub ignores them. An existing file is replaced only when the new one is
   * complete.
   *
   * @throws ValueError without LoRA, for layers of different ranks, and for another file extension.
   */
  async saveLoraWeights(target: LoraTarget, options: SaveLoraOptions = {}): Promise<void> {
    this.checkInUse();
    await saveLoraWeights(this, target, options);
  }

  /**
   * Loads LoRA matrices that `saveLoraWeights` or KerasHub saved: from a path, an http(s) or `file:` URL, bytes, or a `File`
   * in a browser. If LoRA is off, it is enabled for the layers in the file.
   *
   * @param options how to request the file, if it is at an http(s) address.
   * @throws ValueError on another file extension, on a file without LoRA or of another rank, and on layers that do not
   * match, naming them; an Error for a damaged file. In these cases the model is unchanged.
   */
  async loadLoraWeights(source: LoraSource, options: FetchOptions = {}): Promise<void> {
    this.checkInUse();
    await loadLoraWeights(this, source, options);
  }

  /**
   * Adds the LoRA products to the kernels and removes LoRA, one kernel after another. Packed kernels are packed again:
   * bfloat16 rounds the sum, int8 and int4 get new scales. All weights stay frozen; set `trainable = true` to train
   * them. Generation is faster afterwards.
   *
   * @throws ValueError without LoRA. If it fails halfway, some kernels are merged, and calling it again merges the
   * rest.
   */
  async mergeLora(): Promise<void> {
    this.checkInUse();
    await mergeLora(this);
  }

  // === Copies and KerasHub's files ===

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * Loads a backbone of the preset's class, {@link Gemma3Backbone}.
   *
   * @param options also arguments of that class, which override those of the preset.
   * @throws ValueError if the preset holds another class; otherwise as the `fromPreset` of the class.
   */
  static async fromPreset(preset: CheckpointLike, options: FromPresetOptions & PresetOptions = {}): Promise<Backbone> {
    return loadFromBase<Backbone>(this, preset, options);
  }

  /**
   * An independent model with the same configuration and values. Values are shared until one of the models changes
   * them, so a copy costs no memory. Weights without values are initialized.
   */
  abstract clone(): Backbone;

  /**
   * Saves configuration and weights as KerasHub does, for `fromPreset` here and `from_preset` in Python. Weights keep
   * their dtype unless `options` name another one, which they must for int8 and int4 weights. LoRA is merged in the
   * files, but not in the model. An existing preset is replaced only when the new one is complete.
   *
   * @throws ValueError on unknown or unusable options, or a target that cannot be written to; the signal's reason when
   * aborted; errors of the file system. In these cases an existing preset is unchanged.
   */
  async saveToPreset(target: PresetTarget, options: SaveToPresetOptions = {}): Promise<void> {
    this.checkInUse();
    await savePreset(target, options, writer => writer.backbone(this));
  }

  /**
   * Saves configuration and weights as a Hugging Face folder, for transformers and everything that reads its folders:
   * safetensors with the names, shapes and dtypes of Google's files. Dtypes and LoRA are as in {@link saveToPreset}. An
   * existing folder is replaced only when the new one is complete.
   *
   * @throws ValueError on unknown or unusable options, for a model that transformers cannot represent, and for a target that
   * cannot be written to; the signal's reason when aborted; errors of the file system. In these cases an existing folder
   * is unchanged.
   */
  async exportToTransformers(target: PresetTarget, options: ExportOptions = {}): Promise<void> {
    this.checkInUse();
    await exportModel(target, options, {backbone: this});
  }
}
