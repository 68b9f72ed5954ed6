/** The weights of Gemma 3 as other programs see them: which part each belongs to, and how its values are arranged. */
import {type Arrangement} from '../../../checkpoints/arrangement';
import {type NamedWeight} from '../../../checkpoints/foreign_names';

/** Where a weight is in the model. */
export interface Gemma3Variable {
  /** The decoder with embedding and final norm, the vision encoder with its projection, or an embedder's dense layers. */
  readonly part: 'text' | 'vision' | 'head';
  /** Number of its block, if it is in one. */
  readonly block: number | undefined;
  /** Path of the layer in its block, or in its part: `attention/query`, `token_embedding`. */
  readonly layer: string;
  /** Name in the layer: `kernel`, `bias`, `scale`, `gamma`, `beta` or `embeddings`. */
  readonly variable: string;
}

const HEAD = ['pooling_dense_1', 'embedding_projection'];

/** Where a weight is, from its path in this package. */
export function variableOf(originalName: string): Gemma3Variable {
  const end = originalName.lastIndexOf('/');
  const [path, variable] = [originalName.slice(0, end), originalName.slice(end + 1)];
  const block = /^decoder_block_(\d+)\/(.+)$/.exec(path);
  if (block) return {part: 'text', block: Number(block[1]), layer: block[2]!, variable};
  const encoder = /(?:^|\/)(?:image_encoder|vision_output_encoder)\/(?:encoder_block_(\d+)\/)?(.+)$/.exec(path);
  if (encoder) {
    const [, index, layer] = encoder;
    return {part: 'vision', block: index === undefined ? undefined : Number(index), layer: layer!, variable};
  }
  return {part: HEAD.includes(path) ? 'head' : 'text', block: undefined, layer: path, variable};
}

/**
 * How torch, and every format that takes its tensors from torch, arranges a weight: kernels are (outputs, inputs), and
 * all heads of a projection are on one axis.
 */
export function torchArrangement({originalName, shape}: NamedWeight): Arrangement {
  const {part, layer, variable} = variableOf(originalName);
  if (variable !== 'kernel') return {shape};
  if (part === 'text' && shape.length === 3) {
    const [a, b, c] = shape as [number, number, number];
    return layer === 'attention/attention_output'
      ? {shape: [c, a * b], split: [c, a, b], axes: [1, 2, 0]} // (heads, width, outputs)
      : {shape: [a * c, b], split: [a, c, b], axes: [0, 2, 1]}; // (heads, inputs, width)
  }
  if (shape.length === 4) {
    const [height, width, inputs, outputs] = shape as [number, number, number, number];
    return {shape: [outputs, inputs, height, width], axes: [2, 3, 1, 0]};
  }
  // The only kernel that transformers does not transpose.
  if (layer === 'vision_input_projection') return {shape};
  return {shape: [shape[1]!, shape[0]!], axes: [1, 0]};
}
