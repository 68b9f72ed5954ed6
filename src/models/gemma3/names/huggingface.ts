/** Names of Gemma 3's layers in Hugging Face's transformers. */
import type * as tf from '@tensorflow/tfjs';
import {adaptableLayers} from '../../../adapters/model_lora';
import {type ModuleNames} from '../../../adapters/peft_modules';
import {type LoraLayer} from '../../../layers/lora';

/** Modules of a decoder layer, by the path of our layer inside its block. */
const TEXT: Record<string, string> = {
  'attention/query': 'self_attn.q_proj',
  'attention/key': 'self_attn.k_proj',
  'attention/value': 'self_attn.v_proj',
  'attention/attention_output': 'self_attn.o_proj',
  ffw_gating: 'mlp.gate_proj',
  ffw_gating_2: 'mlp.up_proj',
  ffw_linear: 'mlp.down_proj',
};

/** Modules of a layer of the vision tower. */
const VISION: Record<string, string> = {
  'multi_head_attention/query_proj': 'self_attn.q_proj',
  'multi_head_attention/key_proj': 'self_attn.k_proj',
  'multi_head_attention/value_proj': 'self_attn.v_proj',
  'multi_head_attention/out_proj': 'self_attn.out_proj',
  mlp_dense_1: 'mlp.fc1',
  mlp_dense_2: 'mlp.fc2',
};

/** A module of `Gemma3ForCausalLM` or, with vision, of `Gemma3ForConditionalGeneration`. */
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

/**
 * The names of a module in versions of transformers; the first is the one of `moduleName`. Before 4.52, models with
 * vision nested modules differently, since 5 the vision tower has no `vision_model`, and models without a head have no
 * outer `model`.
 */
function moduleNames(name: string, vision: boolean): string[] {
  const text = /^(?:model\.)?(?:language_model\.)?(?:model\.)?(layers\.\d+\..+)$/.exec(name);
  if (text) {
    const [withVision, withoutVision] = [`model.language_model.${text[1]}`, `model.${text[1]}`];
    const current = vision ? [withVision, withoutVision] : [withoutVision, withVision];
    return [...current, `language_model.model.${text[1]}`, `language_model.${text[1]}`, text[1]!];
  }
  const image = /^(?:model\.)?vision_tower\.(?:vision_model\.)?(encoder\.layers\.\d+\..+)$/.exec(name);
  if (!image) return [name];
  return ['vision_tower.vision_model', 'vision_tower'].flatMap(tower => [
    `model.${tower}.${image[1]}`,
    `${tower}.${image[1]}`,
  ]);
}

/** Module names of the layers of a backbone that can have LoRA. */
export function huggingFaceNames(backbone: tf.LayersModel & {readonly textOnlyModel: boolean}): ModuleNames {
  const vision = !backbone.textOnlyModel;
  const modules = new Map<string, LoraLayer>();
  for (const layer of adaptableLayers(backbone).values()) {
    const name = moduleName(layer, vision);
    if (name !== undefined) modules.set(name, layer);
  }
  return {
    modules,
    current: name => moduleNames(name, vision)[0]!,
    all: name => moduleNames(name, vision),
  };
}
