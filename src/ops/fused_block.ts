/**
 * A whole decoder block, or all of them, for one new token per row as a single kernel, on backends that have one. There
 * is no reference, since the kernels are tested against the plain path of `Gemma3DecoderBlock.call`, and no gradient.
 */
import * as tf from '@tensorflow/tfjs';
import {type DenseForm, hasFusedKernel} from './dense_form';
import {toTfjsAttrs} from './op';

export type DenseName = 'query' | 'key' | 'value' | 'output' | 'gate' | 'up' | 'down';

/** Settings that are the same for every token. */
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

/** Cosines and sines of the rotary angles at the positions of the new tokens, (rows, headDim / 2) each. */
export interface Angles {
  cos: Float32Array;
  sin: Float32Array;
}

export interface FusedBlockAttrs extends BlockAttrs, Angles {
  /** Position of the new token of each row; −1 for a row without one. */
  positions: readonly number[];
}

export interface FusedBlocksAttrs {
  /** In order: each one's input is the result of the previous one. */
  blocks: readonly BlockAttrs[];
  /** Position of the new token of each row; −1 for a row without one. */
  positions: readonly number[];
  /** The angles of each block. Those of the same kind are the same object. */
  angles: readonly Angles[];
}

/**
 * Inputs by name: `x` (B, 1, D); `keys` and `values` (B, C, K, H), which are updated in place; the dense kernels; and
 * the scales of the norms that exist: preAttention, postAttention, preFfw, postFfw, queryNorm, keyNorm.
 */
export type FusedBlockTensors = Record<string, tf.Tensor>;

const NAME = 'Gemma3DecoderBlock';
const SEVERAL = 'Gemma3DecoderBlocks';

/** True if {@link fusedBlock} can run on the current backend, outside of gradients. */
export const hasFusedBlock = (forms: FusedBlockAttrs['forms']): boolean => hasFusedKernel(NAME, Object.values(forms));

/** → (B, 1, D) */
export function fusedBlock(tensors: FusedBlockTensors, attrs: FusedBlockAttrs): tf.Tensor {
  return tf.engine().runKernel(NAME, tensors, toTfjsAttrs(attrs)) as tf.Tensor;
}

/** True if {@link fusedBlocks} can run on the current backend, where {@link fusedBlock} can. */
export const hasFusedBlocks = (): boolean => tf.getKernel(SEVERAL, tf.getBackend()) !== undefined;

/**
 * All blocks, one after another.
 *
 * @param tensors `x`, and the inputs of each block, with the names of {@link inputNames}.
 * @returns (B, 1, D)
 */
export function fusedBlocks(tensors: FusedBlockTensors, attrs: FusedBlocksAttrs): tf.Tensor {
  return tf.engine().runKernel(SEVERAL, tensors, toTfjsAttrs(attrs)) as tf.Tensor;
}

const DENSES: readonly DenseName[] = ['query', 'key', 'value', 'output', 'gate', 'up', 'down'];
const NORMS = ['preAttention', 'postAttention', 'preFfw', 'postFfw', 'queryNorm', 'keyNorm'] as const;
/** The inputs of a block, without `x`. */
export type BlockInput = DenseName | (typeof NORMS)[number] | 'keys' | 'values';

/** The name of an input of each block. */
type InputNames = Readonly<Record<BlockInput, string>>;
const names: InputNames[] = [];

/** The names of block i's inputs among those of all blocks. */
export function inputNames(i: number): InputNames {
  return (names[i] ??= Object.fromEntries(
    [...DENSES, ...NORMS, 'keys', 'values'].map(name => [name, `${i}.${name}`]),
  ) as InputNames);
}
