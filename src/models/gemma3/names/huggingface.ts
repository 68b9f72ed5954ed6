import {type LoraLayer} from '../../../layers/lora';
import {adaptableLayers} from '../../../adapters/model_lora';
import {type Gemma3Backbone} from '../gemma3_backbone';

/** What layers are called inside a decoder block. */
const TEXT: Record<string, string> = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/attention_output': 'self_attn.o_proj',
  ffw_gating: 'mlp.gate_proj',
  ffw_gating_2: 'mlp.up_proj',
  ffw_linear: 'mlp.down_proj',
};

/** And inside a block of the vision encoder. */
const VISION: Record<string, string> = {
  'multi_head_attention/query_proj': 'self_attn.q_proj',
  'multi_head_attention/key_proj': 'self_attn.k_proj',
  'multi_head_attention/value_proj': 'self_attn.v_proj',
  'multi_head_attention/out_proj': 'self_attn.out_proj',
  mlp_dense_1: 'mlp.fc1',
  mlp_dense_2: 'mlp.fc2',
};

/** A module of Hugging Face's `Gemma3ForCausalLM` or, with vision, `Gemma3ForConditionalGeneration`. */
function moduleName({path}: LoraLayer, vision: boolean): string | undefined {
  const text = /^decoder_block_(\d+)\/(.+)$/.exec(path);
  if (text) {
    const part = TEXT[text[2]!];
    return part && `model.${vision ? 'language_model.' : ''}layers.${text[1]}.${part}`;
  }
  const image = /\/encoder_block_(\d+)\/(.+)$/.exec(path);
  const part = image && VISION[image[2]!];
  return part ? `model.vision_tower.vision_model.encoder.layers.${image[1]}.${part}` : undefined;
}

/** Layers that PEFT can have LoRA for, by the name of their module there. */
export function modulesOf(backbone: Gemma3Backbone): Map<string, LoraLayer> {
  const named = [...adaptableLayers(backbone).values()].map(layer => [
    moduleName(layer, !backbone.textOnlyModel),
    layer,
  ]);
  return new Map(named.filter((entry): entry is [string, LoraLayer] => entry[0] !== undefined));
}

/** The name that a module has today, from that of any version: those with vision were called in another order once. */
export function currentModuleName(name: string, vision: boolean): string {
  const text = /^(?:model\.)?(?:language_model\.)?(?:model\.)?(layers\.\d+\..+)$/.exec(name);
  if (text) return `model.${vision ? 'language_model.' : ''}${text[1]}`;
  const image = /^(?:model\.)?(vision_tower\..+)$/.exec(name);
  return image ? `model.${image[1]}` : name;
}
