/** Gemma 3 as a chain of stages for training: vision encoder, embedding, and one stage per decoder block. */
import type * as tf from '@tensorflow/tfjs';
import {type Stage} from '../../../training/stages';
import {type Gemma3Backbone} from '../gemma3_backbone';

/**
 * The stages from inputs by name to hidden states (B, T, D) before the final norm.
 *
 * @param inputs the inputs of the backbone; the caller disposes them.
 * @param dropout the seed of dropout, or null for no dropout.
 */
export function gemma3Stages(
  backbone: Gemma3Backbone,
  inputs: Record<string, tf.Tensor>,
  dropout: string | null,
): Stage[] {
  const {tokenEmbedding, visionEncoder, interleaveEmbeddings, transformerLayers} = backbone;
  const {token_ids: tokenIds, padding_mask: paddingMask, images, vision_indices: indices} = inputs;
  const masks = [paddingMask!, ...(visionEncoder ? [inputs.vision_mask!] : [])];
  const embedding: Stage = {
    weights: tokenEmbedding.weights,
    call: parts => {
      const text = backbone.embedTokens(tokenIds!);
      return parts ? interleaveEmbeddings!.call([parts, text, indices!]) : text;
    },
  };
  const vision: Stage[] = visionEncoder
    ? [{weights: visionEncoder.weights, call: () => visionEncoder.call(images!)}]
    : [];
  const blocks = transformerLayers.map((block, i): Stage => {
    const kwargs = dropout === null ? {} : {training: true, seed: `${dropout}/${i}`};
    return {weights: block.weights, call: x => block.call([x!, ...masks], kwargs)};
  });
  return [...vision, embedding, ...blocks];
}
