/** LoRA of a whole backbone, as in `keras_hub.models.Backbone`: selects the layers, enables LoRA and merges it. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {type Layer} from '../layers/layer';
import {LoraLayer} from '../layers/lora';
import {type LayerOrModel, nestedLayers} from '../layers/nested_layers';
import {type Adapter} from '../weights/merged_stream';
import {type AnyWeight} from '../weights/packed_weight';
import {Weight} from '../weights/weight';

/** A model that can have LoRA. */
export interface Adaptable extends tf.LayersModel {
  /** Names of the layers that `enableLora` adapts by default. */
  defaultLoraLayerNames(): string[];
}

export interface EnableLoraOptions {
  /**
   * The layers to adapt: names, as in KerasHub, or patterns that are matched against the layers' paths, such as
   * /attention\/(query|key|value)$/. Defaults to queries and values.
   */
  targetLayerNames?: readonly (string | RegExp)[];
  /** The product of the two matrices is scaled by alpha / rank. Defaults to the rank, as in KerasHub. */
  alpha?: number;
  /** Seed of the initial values, a whole number. Defaults to a random one. */
  seed?: number;
}

/** The LoRA settings of one layer in a file or configuration, with the number of the layer. */
export interface LoraEntry {
  readonly index: number;
  readonly rank: number;
  readonly alpha: number;
}

/** The LoRA matrices of a layer, and its bias if that was trained too. */
export interface LayerAdapter extends Adapter {
  readonly layer: LoraLayer;
  readonly bias?: Float32Array;
}

/**
 * All layers that have weights, a vision encoder included, in the order in which KerasHub numbers them: depth first, sub-layers from last to
 * first. KerasHub's files identify layers by these numbers, because names are not unique.
 */
export function numberedLayers(backbone: tf.LayersModel): LayerOrModel[] {
  return [...nestedLayers(backbone, true)].filter(layer => layer.weights.length > 0);
}

/** Layers that can have LoRA, by number. */
export function adaptableLayers(backbone: tf.LayersModel): Map<number, LoraLayer> {
  const entries = numberedLayers(backbone).map((layer, index) => [index, layer] as const);
  return new Map(entries.filter((entry): entry is [number, LoraLayer] => entry[1] instanceof LoraLayer));
}

/** Layers that have LoRA, by number. */
export function loraLayers(backbone: tf.LayersModel): Map<number, LoraLayer> {
  return new Map([...adaptableLayers(backbone)].filter(([, {loraEnabled}]) => loraEnabled));
}

export const NO_LORA = 'There are no lora-enabled layers in this model. Make sure to call `.enableLora(rank)` first.';

/** Implements `Backbone.enableLora`; see there for errors. If it throws, nothing has changed. */
export function enableLora(
  backbone: Adaptable,
  rank: number,
  {targetLayerNames, alpha, seed}: EnableLoraOptions,
): void {
  checkArgument('enableLora', 'rank', rank, 'size');
  if (alpha !== undefined) checkArgument('enableLora', 'alpha', alpha, 'positive');
  if (seed !== undefined && !Number.isSafeInteger(seed)) {
    throw new ValueError(`enableLora expected \`seed\` to be a whole number. Received: seed=${show(seed)}.`);
  }
  const [enabled] = loraLayers(backbone).values();
  if (enabled) {
    throw new ValueError(
      `lora is already enabled, with rank ${enabled.loraRank}. This can only be done once. Received: rank=${rank}. ` +
        'Call `mergeLora` first, then enable LoRA again.',
    );
  }
  turnOn(
    backbone,
    targetLayers(backbone, targetLayerNames).map(layer => ({layer, rank, alpha: alpha ?? rank})),
    seed,
  );
}

/** The layers that names and patterns select. Every name and every pattern must select at least one. */
function targetLayers(backbone: Adaptable, targets: EnableLoraOptions['targetLayerNames']): LoraLayer[] {
  const adaptable = [...adaptableLayers(backbone).values()];
  const names = (layers: readonly Layer[]) => [...new Set(layers.map(({name}) => name))].join(', ');
  if (targets === undefined) {
    const defaults = backbone.defaultLoraLayerNames();
    return adaptable.filter(({name}) => defaults.includes(name));
  }
  if (!Array.isArray(targets) || targets.length === 0) {
    throw new ValueError(
      `Expected targetLayerNames as a list of layer names or patterns, at least one. Received: ${show(targets)}.`,
    );
  }
  const matches = targets.map(target => {
    const found = adaptable.filter(({name, path}) =>
      target instanceof RegExp ? path.search(target) >= 0 : name === target,
    );
    if (found.length > 0) return found;
    const other = numberedLayers(backbone).find(({name}) => name === target);
    const why = other
      ? `a layer of class ${other.getClassName()}, which cannot have LoRA`
      : 'no layer that can have LoRA';
    throw new ValueError(
      `Expected targetLayerNames that are in the model: ${names(adaptable)}. ` +
        `Received: ${target instanceof RegExp ? String(target) : show(target)}, ` +
        `${other ? why : `which selects ${why}`}.`,
    );
  });
  const wanted = new Set(matches.flat());
  return adaptable.filter(layer => wanted.has(layer));
}

/** Enables LoRA and freezes everything else, except for the biases of the adapted layers. */
function turnOn(
  backbone: tf.LayersModel,
  targets: readonly {layer: LoraLayer; rank: number; alpha: number}[],
  seed?: number,
): void {
  backbone.trainable = true;
  for (const layer of backbone.layers) layer.trainable = false;
  for (const [i, {layer, rank, alpha}] of targets.entries()) {
    layer.trainable = true;
    // Each layer gets different initial values.
    const seeded = seed === undefined ? {} : {aInitializer: tf.initializers.heUniform({seed: seed + i})};
    layer.enableLora(rank, {alpha, ...seeded});
  }
}

/** The LoRA entries of `getConfig`; undefined without LoRA. */
export function loraConfig(backbone: tf.LayersModel): LoraEntry[] | undefined {
  const entries = [...loraLayers(backbone)].map(([index, {loraRank, loraAlpha}]) => ({
    index,
    rank: loraRank!,
    alpha: loraAlpha!,
  }));
  return entries.length ? entries : undefined;
}

/** Enables LoRA again from the entries of `loraConfig`. */
export function restoreLora(backbone: tf.LayersModel, entries: readonly LoraEntry[]): void {
  const layers = adaptableLayers(backbone);
  turnOn(
    backbone,
    entries.map(({index, rank, alpha}) => {
      const layer = layers.get(index);
      if (!layer) throw new ValueError(`Expected the number of a layer that can have LoRA. Received: ${index}.`);
      return {layer, rank, alpha};
    }),
  );
}

/**
 * Writes matrices into a model. If the model has no LoRA yet, enables it for the layers of the matrices.
 *
 * @param source name of the matrices in errors.
 * @throws ValueError unless they fit the model. In that case nothing has changed.
 */
export function applyAdapters(backbone: tf.LayersModel, source: string, adapters: readonly LayerAdapter[]): void {
  const enabled = [...loraLayers(backbone).values()];
  if (enabled.length > 0) {
    const given = adapters.map(({layer}) => layer);
    const list = (layers: readonly Layer[]) => layers.map(({path}) => `"${path}"`).join(', ');
    const missing = enabled.filter(layer => !given.includes(layer));
    const extra = given.filter(layer => !enabled.includes(layer));
    if (missing.length + extra.length > 0) {
      throw new ValueError(
        `Expected "${source}" to hold matrices for the layers that have LoRA in the model. Received: ` +
          [
            missing.length && `none for ${list(missing)}`,
            extra.length && `some for ${list(extra)}, which ${extra.length > 1 ? 'have' : 'has'} none in the model`,
          ]
            .filter(Boolean)
            .join('; ') +
          '. Load the file into a model without LoRA: that enables LoRA for the layers in the file.',
      );
    }
    const other = adapters.find(({layer, rank}) => layer.loraRank !== rank);
    if (other) {
      throw new ValueError(
        `The Lora rank expected by file "${source}" is rank=${other.rank}, but the model was called with ` +
          `\`.enableLora(${other.layer.loraRank})\`. Both ranks must match.`,
      );
    }
  } else {
    turnOn(backbone, adapters);
  }
  tf.tidy(() => {
    for (const {layer, a, b, bias, alpha} of adapters) {
      const {a: first, b: second} = layer.loraMatrices!;
      first.write(tf.tensor(a, first.shape));
      second.write(tf.tensor(b, second.shape));
      if (bias) biasOf(layer)!.write(tf.tensor(bias, biasOf(layer)!.shape));
      layer.loraAlpha = alpha;
    }
  });
}

/** The bias of an adapted layer, which stays trainable. */
export function biasOf(layer: Layer): Weight | undefined {
  const {bias} = layer as Layer & {bias?: AnyWeight};
  return bias instanceof Weight ? bias : undefined;
}
