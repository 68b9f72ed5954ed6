/** The path of the second half of a decoder block that needs little memory: a single kernel over its weights. */
import type * as tf from '@tensorflow/tfjs';
import {formOf, storedTensor} from '../../../ops/dense_form';
import {feedForward, hasFeedForward} from '../../../ops/feed_forward';
import {type FusableBlock} from './fused_step';

type FusableHalf = Pick<FusableBlock, 'preFfwNorm' | 'postFfwNorm' | 'gatingFfw' | 'gatingFfw2' | 'ffwLinear'>;

/** → (B, T, D), or undefined if no fused kernel can run: the backend has none, or a gradient or LoRA is needed. */
export function fusedFeedForward(block: FusableHalf, x: tf.Tensor): tf.Tensor | undefined {
  const {preFfwNorm, postFfwNorm, gatingFfw, gatingFfw2, ffwLinear} = block;
  const adapted = [gatingFfw, gatingFfw2, ffwLinear].some(({loraEnabled}) => loraEnabled);
  const [gate, up, down] = [gatingFfw.kernel, gatingFfw2.kernel, ffwLinear.kernel];
  const forms = {gate: formOf(gate, 1), up: formOf(up, 1), down: formOf(down, 1)};
  if (adapted || x.size === 0 || !hasFeedForward(forms)) return undefined;
  const weights = {gate: storedTensor(gate), up: storedTensor(up), down: storedTensor(down)};
  const tensors = {x, preNorm: preFfwNorm.scale.read(), ...weights};
  return feedForward(postFfwNorm ? {...tensors, postNorm: postFfwNorm.scale.read()} : tensors, {
    forms,
    gateDim: gate.shape.at(-1)!,
    epsilon: preFfwNorm.epsilon,
  });
}
