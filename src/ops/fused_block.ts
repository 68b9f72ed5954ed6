/**
 * A whole decoder block for one new token per row as a single kernel, on backends that have one. There is no reference,
 * since the kernel is tested against the plain path of `Gemma3DecoderBlock.call`, and no gradient.
 */
import * as tf from '@tensorflow/tfjs';
import {type DenseForm, hasFusedKernel} from './dense_form';
import {toTfjsAttrs} from './op';

export type DenseName = 'query' | 'key' | 'value' | 'output' | 'gate' | 'up' | 'down';

/** What stays the same from token to token. */
export interface BlockAttrs {
  forms: Record<DenseName, DenseForm>;
  numQueryHeads: number;
  /** Width of the gates: intermediateDim / gateDimReduction. */
  gateDim: number;
  epsilon: number;
  /** Queries are multiplied by this. */
  scale: number;
  logitSoftCap: number | null;
  window: number | null;
}

export interface FusedBlockAttrs extends BlockAttrs {
  /** Position of the new token of each row; −1 for a row without one. */
  positions: readonly number[];
  /** Cosines and sines of the rotary angles at these positions, (rows, headDim / 2) each. */
  cos: Float32Array;
  sin: Float32Array;
}

/**
 * Inputs by name: `x` (B, 1, D); `keys` and `values` (B, C, K, H), which are updated in place; the dense kernels; and
 * the scales of the norms that exist: preAttention, postAttention, preFfw, postFfw, queryNorm, keyNorm.
 */
export type FusedBlockTensors = Record<string, tf.Tensor>;

const NAME = 'Gemma3DecoderBlock';

/** True if {@link fusedBlock} can run on the current backend, outside of gradients. */
export const hasFusedBlock = (forms: FusedBlockAttrs['forms']): boolean => hasFusedKernel(NAME, Object.values(forms));

/** → (B, 1, D) */
export function fusedBlock(tensors: FusedBlockTensors, attrs: FusedBlockAttrs): tf.Tensor {
  return tf.engine().runKernel(NAME, tensors, toTfjsAttrs(attrs)) as tf.Tensor;
}
