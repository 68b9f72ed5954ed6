/**
 * The second half of a decoder block as a single kernel, on backends that have one: long prompts then need no memory for
 * the gates of all tokens at once. There is no reference, since the kernel is tested against the plain path of
 * `Gemma3DecoderBlock.call`, and no gradient.
 */
import * as tf from '@tensorflow/tfjs';
import {type DenseForm, hasFusedKernel} from './dense_form';
import {toTfjsAttrs} from './op';

export type FeedForwardName = 'gate' | 'up' | 'down';

export interface FeedForwardAttrs {
  forms: Record<FeedForwardName, DenseForm>;
  /** Width of the gates. */
  gateDim: number;
  /** Of the norms. */
  epsilon: number;
}

const NAME = 'Gemma3FeedForward';

/** True if {@link feedForward} can run on the current backend, outside of gradients. */
export const hasFeedForward = (forms: FeedForwardAttrs['forms']): boolean => hasFusedKernel(NAME, Object.values(forms));

export type FeedForwardTensors = Record<'x' | 'preNorm' | FeedForwardName, tf.Tensor> & {postNorm?: tf.Tensor};

/**
 * `x + postNorm(down(gelu(gate(n)) · up(n)))` where n is `preNorm(x)`; norms are given by their scales, and the second
 * may be missing. x (…, D) → (…, D)
 */
export function feedForward(tensors: FeedForwardTensors, attrs: FeedForwardAttrs): tf.Tensor {
  return tf.engine().runKernel(NAME, tensors, toTfjsAttrs(attrs)) as tf.Tensor;
}
