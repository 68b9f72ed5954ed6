/** Names of Gemma 3's layers and weights in Hugging Face's transformers and sentence-transformers. */
import type * as tf from '@tensorflow/tfjs';
import {adaptableLayers} from '../../../adapters/model_lora';
import {type ModuleNames} from '../../../adapters/peft_modules';
import {type ForeignTensor, type NamedWeight} from '../../../checkpoints/foreign_names';
import {type LoraLayer} from '../../../layers/lora';
import {torchArrangement, variableOf} from './variables';

/** Modules of a decoder layer, by the path of our layer inside its block. */
const TEXT_BLOCK: Record<string, string> = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/attention_output': 'self_attn.o_proj',
  'attention/query_norm': 'self_attn.q_norm',
  'attention/key_norm': 'self_attn.k_norm',
  pre_attention_norm: 'input_layernorm',
  post_attention_norm: 'post_attention_layernorm',
  pre_ffw_norm: 'pre_feedforward_layernorm',
  post_ffw_norm: 'post_feedforward_layernorm',
  ffw_gating: 'mlp.gate_proj',
  ffw_gating_2: 'mlp.up_proj',
  ffw_linear: 'mlp.down_proj',
};

/** Modules around the decoder layers. */
const TEXT: Record<string, string> = {
  token_embedding: 'embed_tokens',
  final_normalization: 'norm',
};

/** Modules of a layer of the vision tower. */
const VISION_BLOCK: Record<string, string> = {
  'multi_head_attention/query_proj': 'self_attn.q_proj',
  'multi_head_attention/key_proj': 'self_attn.k_proj',
  'multi_head_attention/value_proj': 'self_attn.v_proj',
  'multi_head_attention/out_proj': 'self_attn.out_proj',
  layer_norm_1: 'layer_norm1',
  layer_norm_2: 'layer_norm2',
  mlp_dense_1: 'mlp.fc1',
  mlp_dense_2: 'mlp.fc2',
};

/** Modules around the layers of the vision tower. */
const VISION: Record<string, string> = {
  'encoder_embeddings/embedding_conv': 'vision_tower.vision_model.embeddings.patch_embedding',
  'encoder_embeddings/position_embedding': 'vision_tower.vision_model.embeddings.position_embedding',
  encoder_layer_norm: 'vision_tower.vision_model.post_layernorm',
  vision_soft_embedding_norm: 'multi_modal_projector.mm_soft_emb_norm',
};

/** Tensors that are not named after a module and `weight` or `bias`. */
const VISION_PROJECTION = 'multi_modal_projector.mm_input_projection_weight';

/** Folders in which sentence-transformers keeps the dense layers of an embedder. */
const HEAD: Record<string, string> = {
  pooling_dense_1: '2_Dense/linear',
  embedding_projection: '3_Dense/linear',
};

/** The module of a layer, by the path of one of its weights; undefined if transformers has no such layer. */
function moduleOf(weightPath: string, vision: boolean): string | undefined {
  const {part, block, layer} = variableOf(weightPath);
  const inBlock = (prefix: string, modules: Record<string, string>) => {
    const module = Object.hasOwn(modules, layer) ? modules[layer] : undefined;
    return module && `${prefix}${module}`;
  };
  if (part === 'head') return HEAD[layer];
  if (part === 'text') {
    const prefix = `model.${vision ? 'language_model.' : ''}`;
    return block === undefined ? inBlock(prefix, TEXT) : inBlock(`${prefix}layers.${block}.`, TEXT_BLOCK);
  }
  return block === undefined
    ? inBlock('model.', VISION)
    : inBlock(`model.vision_tower.vision_model.encoder.layers.${block}.`, VISION_BLOCK);
}

/**
 * The names of a module or tensor in versions of transformers; the first is the one of `moduleOf`. Before 4.52, models
 * with vision nested modules differently, since 5 the vision tower has no `vision_model`, and models without a head have
 * no outer `model`.
 *
 * @param vision whether the model has a vision encoder.
 */
export function namesInVersions(name: string, vision: boolean): string[] {
  const text = /^(?:model\.)?(?:language_model\.)?(?:model\.)?((?:layers\.\d+|embed_tokens|norm)\..+)$/.exec(name);
  if (text) {
    const [withVision, withoutVision] = [`model.language_model.${text[1]}`, `model.${text[1]}`];
    const current = vision ? [withVision, withoutVision] : [withoutVision, withVision];
    return [...current, `language_model.model.${text[1]}`, `language_model.${text[1]}`, text[1]!];
  }
  const tower = /^(?:model\.)?vision_tower\.(?:vision_model\.)?(.+)$/.exec(name);
  if (tower) {
    return ['vision_tower.vision_model', 'vision_tower'].flatMap(prefix => [
      `model.${prefix}.${tower[1]}`,
      `${prefix}.${tower[1]}`,
    ]);
  }
  const projector = /^(?:model\.)?(multi_modal_projector\..+)$/.exec(name);
  if (projector) return [`model.${projector[1]}`, projector[1]!];
  const head = /^(?:language_model\.)?(lm_head\..+)$/.exec(name);
  return head ? [head[1]!, `language_model.${head[1]}`] : [name];
}

/**
 * The tensor that holds a weight, named as in `Gemma3ForCausalLM` or, with vision, `Gemma3ForConditionalGeneration` of
 * transformers 4.52 and later. The dense layers of an embedder are in folders of their own.
 *
 * @throws Error if transformers has no such weight.
 */
export function huggingFaceTensor(weight: NamedWeight, vision: boolean): ForeignTensor {
  const arrangement = torchArrangement(weight);
  const {layer, variable} = variableOf(weight.originalName);
  if (layer === 'vision_input_projection') return {...arrangement, name: `model.${VISION_PROJECTION}`};
  const module = moduleOf(weight.originalName, vision);
  if (module === undefined) throw new Error(`internal: "${weight.originalName}" has no name in transformers.`);
  return {...arrangement, name: `${module}.${variable === 'bias' || variable === 'beta' ? 'bias' : 'weight'}`};
}

/** Module names of the layers of a backbone that can have LoRA. */
export function huggingFaceNames(backbone: tf.LayersModel & {readonly textOnlyModel: boolean}): ModuleNames {
  const vision = !backbone.textOnlyModel;
  const modules = new Map<string, LoraLayer>();
  for (const layer of adaptableLayers(backbone).values()) {
    const {part, block} = variableOf(`${layer.path}/kernel`);
    // PEFT adapts modules of the blocks only; the embedding is the head as well here.
    const name = part !== 'head' && block !== undefined ? moduleOf(`${layer.path}/kernel`, vision) : undefined;
    if (name !== undefined) modules.set(name, layer);
  }
  const all = (name: string) => namesInVersions(name, vision);
  return {modules, current: name => all(name)[0]!, all};
}
