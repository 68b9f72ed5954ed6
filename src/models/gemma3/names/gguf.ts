/** Names of Gemma 3's weights in GGUF files, as llama.cpp's converter writes them. */
import {type ForeignTensor, type NamedWeight} from '../../../checkpoints/foreign_names';
import {torchArrangement, variableOf} from './variables';

/** Tensors around the blocks, by the path of our layer. `mm` and `v` are in the file of the vision encoder. */
const OUTSIDE: Readonly<Record<string, string>> = {
  token_embedding: 'token_embd',
  final_normalization: 'output_norm',
  pooling_dense_1: 'dense_2',
  embedding_projection: 'dense_3',
  'encoder_embeddings/embedding_conv': 'v.patch_embd',
  'encoder_embeddings/position_embedding': 'v.position_embd',
  encoder_layer_norm: 'v.post_ln',
  vision_soft_embedding_norm: 'mm.soft_emb_norm',
  vision_input_projection: 'mm.input_projection',
};

/** Tensors of a decoder block, by the path of our layer in its block. */
const TEXT_BLOCK: Readonly<Record<string, string>> = {
  pre_attention_norm: 'attn_norm',
  'attention/query': 'attn_q',
  'attention/key': 'attn_k',
  'attention/value': 'attn_v',
  'attention/query_norm': 'attn_q_norm',
  'attention/key_norm': 'attn_k_norm',
  'attention/attention_output': 'attn_output',
  post_attention_norm: 'post_attention_norm',
  pre_ffw_norm: 'ffn_norm',
  ffw_gating: 'ffn_gate',
  ffw_gating_2: 'ffn_up',
  ffw_linear: 'ffn_down',
  post_ffw_norm: 'post_ffw_norm',
};

/** Tensors of a block of the vision encoder. */
const VISION_BLOCK: Readonly<Record<string, string>> = {
  layer_norm_1: 'ln1',
  'multi_head_attention/query_proj': 'attn_q',
  'multi_head_attention/key_proj': 'attn_k',
  'multi_head_attention/value_proj': 'attn_v',
  'multi_head_attention/out_proj': 'attn_out',
  layer_norm_2: 'ln2',
  mlp_dense_1: 'ffn_up',
  mlp_dense_2: 'ffn_down',
};

const entry = (names: Readonly<Record<string, string>>, layer: string) =>
  Object.hasOwn(names, layer) ? names[layer] : undefined;

/**
 * The tensor that holds a weight. RMS norms are stored as 1 + scale; all other values, and their arrangement, are as in
 * torch.
 *
 * @throws Error if llama.cpp has no such weight.
 */
export function ggufTensor(weight: NamedWeight): ForeignTensor {
  const {part, block, layer, variable} = variableOf(weight.originalName);
  const inBlock = part === 'vision' ? entry(VISION_BLOCK, layer) : entry(TEXT_BLOCK, layer);
  const name = block === undefined ? entry(OUTSIDE, layer) : inBlock;
  if (name === undefined) throw new Error(`internal: "${weight.originalName}" has no name in GGUF files.`);
  const prefix = block === undefined ? '' : `${part === 'vision' ? 'v.' : ''}blk.${block}.`;
  const suffix = variable === 'bias' || variable === 'beta' ? 'bias' : 'weight';
  const offset = variable === 'scale' ? {offset: -1} : {};
  return {...torchArrangement(weight), ...offset, name: `${prefix}${name}.${suffix}`};
}
