/** What all backbones share: weights in order, options of loading from a preset, configurations. */
import * as tf from '@tensorflow/tfjs';
import {checkKeys, show, ValueError} from '../base/errors';
import {type QuantizationMode} from '../layers/quantize';
import {type PresetTarget} from '../files/open_folder';
import {savePreset, type SaveToPresetOptions} from '../checkpoints/keras/write_preset';
import {
  loadLoraWeights,
  type LoraSource,
  type LoraTarget,
  saveLoraWeights,
  type SaveLoraOptions,
} from '../adapters/keras_lora';
import {enableLora, type EnableLoraOptions, loraLayers, mergeLora} from '../adapters/model_lora';
import {Model} from './model';

export type {ModelInputs} from '../layers/named_inputs';

/** Options of `fromPreset`, beside overrides of the configuration. */
export interface FromPresetOptions {
  /** False builds the model from its configuration alone, with weights that are initialised when first read. */
  loadWeights?: boolean;
  /** How weights rest: "float32" or "bfloat16". Defaults to what the preset says. */
  dtype?: string;
  /** Told after each piece that was read. */
  onProgress?: (progress: {file: string; loaded: number; total: number}) => void;
  /** Stops loading; nothing of the model stays in memory. */
  signal?: AbortSignal;
}

export const FROM_PRESET_OPTIONS = ['loadWeights', 'dtype', 'onProgress', 'signal'] as const;

const counts = new Map<string, number>();

/** `gemma3_backbone`, then `gemma3_backbone_1`…, as Keras names models. */
export function uniqueModelName(prefix: string): string {
  const count = counts.get(prefix) ?? 0;
  counts.set(prefix, count + 1);
  return count ? `${prefix}_${count}` : prefix;
}

/** A model whose layers are ours: its weights keep their order whatever is trainable. */
export abstract class Backbone extends Model {
  /** `Multiply` and the like, which stand in the graph and in the summary but are no layers in Keras. */
  private graphLayers: tf.layers.Layer[] = [];

  /** Sets the layers in the order of Keras; `hidden` ones appear in the summary alone. */
  protected setLayers(all: tf.layers.Layer[], hidden: readonly tf.layers.Layer[]): void {
    this.graphLayers = all;
    this.layers = all.filter(layer => !hidden.includes(layer));
  }

  /** Prints the layers that Keras prints, with their numbers of parameters. */
  override summary(lineLength?: number, positions?: number[], printFn?: (message?: unknown) => void): void {
    const layers = this.layers;
    this.layers = this.graphLayers;
    try {
      super.summary(lineLength, positions, printFn as Parameters<tf.LayersModel['summary']>[2]);
    } finally {
      this.layers = layers;
    }
  }

  // === Weights: in the order of creation, where tfjs would put trainable ones first ===

  override get weights(): tf.LayerVariable[] {
    // tfjs' constructor asks before there are layers.
    return (this.layers ?? []).flatMap(layer => layer.weights);
  }
  override get trainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => weight.trainable);
  }
  override get nonTrainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => !weight.trainable);
  }
  override get trainable(): boolean {
    return super.trainable;
  }
  override set trainable(value: boolean) {
    super.trainable = value;
    for (const layer of this.layers) layer.trainable = value;
  }

  /** Number of parameters, trained or not. */
  override countParams(): number {
    return this.weights.reduce((sum, weight) => sum + tf.util.sizeFromShape(weight.shape as number[]), 0);
  }

  // === Quantization ===

  /**
   * Packs all kernels anew, as "int8", "int4" or "bfloat16", one after the other: memory holds the model and one more
   * matrix. As Keras' `Model.quantize` (https://keras.io/api/models/model/), but the model is afterwards as if it had been
   * loaded with this `dtype`. A vision encoder therefore stays as its configuration says; it has a `quantize` of its own.
   *
   * @throws ValueError for another mode; for weights that rest as integers already, or as the mode says; for a mode that
   * the backend cannot pack. If it fails on the way, some kernels are packed and some are not: all work, and calling it
   * again does the others.
   */
  abstract quantize(mode: QuantizationMode): Promise<void>;

  // === LoRA ===

  /** Names of the layers that `enableLora` means if none are given: queries and values. */
  defaultLoraLayerNames(): string[] {
    return ['query_dense', 'value_dense', 'query', 'value'];
  }

  /** Whether a layer has LoRA that is not merged. */
  get loraEnabled(): boolean {
    return loraLayers(this).size > 0;
  }

  /**
   * Freezes the model and adds to some of its kernels the product of two small matrices that are trained, as
   * `enable_lora` of KerasHub (https://keras.io/keras_hub/api/base_classes/backbone/). Frozen kernels may rest packed.
   * Biases beside these kernels stay trainable, as in Keras. A task around this backbone trains the same weights.
   *
   * @example
   * lm.backbone.enableLora(4);
   * lm.backbone.enableLora(8, {alpha: 16, targetLayerNames: ['query', 'key', 'value', 'attention_output', /ffw/]});
   *
   * @throws ValueError on unknown or unusable arguments, names that mean no layer, and if it was called before.
   */
  enableLora(rank: number, options: EnableLoraOptions = {}): void {
    checkKeys('enableLora', options, ['targetLayerNames', 'alpha', 'seed']);
    enableLora(this, rank, options);
  }

  /**
   * Saves the matrices of LoRA in KerasHub's `.lora.h5`: its `load_lora_weights` reads them. With an alpha that is not the
   * rank B is multiplied by alpha / rank, which KerasHub does not know, and alpha is noted. Biases that stay trainable,
   * as in a vision encoder, are added: KerasHub does not read them. An old file stays as it is until the new one is whole.
   *
   * @throws ValueError without LoRA, for layers of different rank, and for another file ending.
   */
  async saveLoraWeights(target: LoraTarget, options: SaveLoraOptions = {}): Promise<void> {
    await saveLoraWeights(this, target, options);
  }

  /**
   * Loads what `saveLoraWeights` here or in KerasHub wrote: from a path, an http(s) address, bytes, or a file of a
   * browser. Where LoRA is off it is turned on for the layers that the file has.
   *
   * @throws ValueError on another file ending, a file without LoRA or of another rank, and layers that do not fit, naming
   * them; an Error for a damaged file. Then nothing has changed.
   */
  async loadLoraWeights(source: LoraSource): Promise<void> {
    await loadLoraWeights(this, source);
  }

  /**
   * Adds the products of LoRA's matrices to the kernels and ends LoRA, one kernel after the other. Packed kernels are
   * packed anew: as bfloat16 the sum is rounded, int8 and int4 get new scales. All weights stay frozen; `trainable = true`
   * trains them again. Generation is faster afterwards.
   *
   * @throws ValueError without LoRA. If it fails on the way some kernels are merged, and calling it again does the others.
   */
  async mergeLora(): Promise<void> {
    await mergeLora(this);
  }

  // === Copies and files of Keras ===

  /**
   * A model of the same configuration and values, which changes by itself from here on. Values are shared until one of
   * both gets new ones, so that a copy costs no memory; weights that were only declared are initialised.
   */
  abstract clone(): Backbone;

  /**
   * Saves configuration and weights as KerasHub does: `from_preset` of Python reads them, and so does ours. Weights are
   * written in the dtype that they have, or in another one; those at rest as int8 or int4 need one. With LoRA they are merged in the files and stay as they are here. An old preset in the
   * same place stays as it is until the new one is whole.
   *
   * @throws ValueError on unknown or unusable options or a target that cannot be written to; the signal's reason when
   * aborted; what the disk says. Then nothing has changed.
   */
  async saveToPreset(target: PresetTarget, options: SaveToPresetOptions = {}): Promise<void> {
    await savePreset(target, options, writer => writer.backbone(this));
  }

  // === Configuration ===

  protected override updatedConfig(): tf.serialization.ConfigDict {
    return packConfig(super.updatedConfig());
  }
}

/**
 * What a model saves of itself, with its configuration as one string: tfjs changes the case of keys and even of values on
 * the way to JSON, except under a key `name`.
 */
export function packConfig(saved: tf.serialization.ConfigDict): tf.serialization.ConfigDict {
  const config = saved.config as tf.serialization.ConfigDict;
  return {...saved, config: {name: config.name, configJson: {name: JSON.stringify(config)}} as never};
}

/** The configuration that `packConfig` packed, or the one that was given. */
export function unpackConfig(config: object): Record<string, unknown> {
  const packed = (config as {configJson?: {name?: unknown}}).configJson?.name;
  if (packed === undefined) return config as Record<string, unknown>;
  if (typeof packed !== 'string') throw new ValueError(`Expected a packed configuration. Received: ${show(packed)}.`);
  return JSON.parse(packed) as Record<string, unknown>;
}
