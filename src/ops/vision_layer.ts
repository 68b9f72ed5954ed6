/**
 * A whole layer of the vision encoder as a single kernel, on backends that have one: it needs little memory besides its
 * input and its result. For an image of 4,096 patches, memory is what limits a model. There is no reference, since the
 * kernel is tested against the plain path of `Gemma3VisionEncoderLayer.call`, and no gradient.
 */
import * as tf from '@tensorflow/tfjs';
import {type DenseForm, hasFusedKernel} from './dense_form';
import {toTfjsAttrs} from './op';

export type VisionDenseName = 'query' | 'key' | 'value' | 'output' | 'inner' | 'outer';
type NormName = 'norm1' | 'norm2';

export interface VisionLayerAttrs {
  forms: Record<VisionDenseName, DenseForm>;
  numHeads: number;
  /** Width of the feed-forward network. */
  intermediateDim: number;
  /** Epsilons of both norms. */
  epsilons: Record<NormName, number>;
}

/**
 * Inputs by name: `x` (B, T, D); the dense kernels, and the bias of each as `queryBias` and so on; gamma and beta of the
 * norms as `norm1Gamma` and so on.
 */
export type VisionLayerInput =
  'x' | VisionDenseName | `${VisionDenseName}Bias` | `${NormName}Gamma` | `${NormName}Beta`;

const NAME = 'Gemma3VisionEncoderLayer';

/** True if {@link fusedVisionLayer} can run on the current backend, outside of gradients. */
export const hasVisionLayer = (forms: VisionLayerAttrs['forms']): boolean => hasFusedKernel(NAME, Object.values(forms));

/** → (B, T, D) */
export function fusedVisionLayer(tensors: Record<VisionLayerInput, tf.Tensor>, attrs: VisionLayerAttrs): tf.Tensor {
  return tf.engine().runKernel(NAME, tensors, toTfjsAttrs(attrs)) as tf.Tensor;
}
