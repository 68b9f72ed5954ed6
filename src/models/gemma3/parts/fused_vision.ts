/** The path of a layer of the vision encoder that needs little memory: a single kernel over all of its weights. */
import type * as tf from '@tensorflow/tfjs';
import {type Dense} from '../../../layers/dense';
import {type LayerNormalization} from '../../../layers/layer_normalization';
import {formOf, storedTensor} from '../../../ops/dense_form';
import {
  fusedVisionLayer,
  hasVisionLayer,
  type VisionDenseName,
  type VisionLayerAttrs,
  type VisionLayerInput,
} from '../../../ops/vision_layer';

/** The parts of a `Gemma3VisionEncoderLayer` that the fused kernel reads. */
export interface FusableVisionLayer {
  readonly attn: {
    readonly queryProj: Dense;
    readonly keyProj: Dense;
    readonly valueProj: Dense;
    readonly outProj: Dense;
  };
  readonly layerNorm1: LayerNormalization;
  readonly mlpDense1: Dense;
  readonly mlpDense2: Dense;
  readonly layerNorm2: LayerNormalization;
  readonly config: {readonly numHeads: number; readonly intermediateDim: number};
}

/** → (B, T, D), or undefined if no fused kernel can run: the backend has none, or a gradient or LoRA is needed. */
export function fusedVision(layer: FusableVisionLayer, x: tf.Tensor): tf.Tensor | undefined {
  const {attn, layerNorm1, layerNorm2, config} = layer;
  const denses: Record<VisionDenseName, Dense> = {
    query: attn.queryProj,
    key: attn.keyProj,
    value: attn.valueProj,
    output: attn.outProj,
    inner: layer.mlpDense1,
    outer: layer.mlpDense2,
  };
  const entries = Object.entries(denses) as [VisionDenseName, Dense][];
  if (x.rank !== 3 || x.size === 0 || entries.some(([, {loraEnabled}]) => loraEnabled)) return undefined;
  const forms = Object.fromEntries(
    entries.map(([name, {kernel}]) => [name, formOf(kernel, 1)]),
  ) as VisionLayerAttrs['forms'];
  if (!hasVisionLayer(forms)) return undefined;
  const weights = entries.flatMap(([name, {kernel, bias}]) => [
    [name, storedTensor(kernel)],
    [`${name}Bias`, bias!.read()],
  ]);
  const norms = Object.entries({norm1: layerNorm1, norm2: layerNorm2}).flatMap(([name, {gamma, beta}]) => [
    [`${name}Gamma`, gamma.read()],
    [`${name}Beta`, beta.read()],
  ]);
  const tensors = Object.fromEntries([['x', x], ...weights, ...norms]) as Record<VisionLayerInput, tf.Tensor>;
  return fusedVisionLayer(tensors, {
    forms,
    numHeads: config.numHeads,
    intermediateDim: config.intermediateDim,
    epsilons: {norm1: layerNorm1.epsilon, norm2: layerNorm2.epsilon},
  });
}
