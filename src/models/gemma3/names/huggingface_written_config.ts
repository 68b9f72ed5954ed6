/** `config.json` of transformers from a configuration of Gemma3Backbone: the counterpart of `huggingface_config.ts`. */
import {listed, show, ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';

/** Ids of the tokens that the configuration names. */
export interface NamedIds {
  readonly bos: number;
  readonly eos: number;
  readonly pad: number;
  readonly startOfImage: number;
  readonly endOfImage: number;
  /** The place of an image, which is an id after those of the vocabulary. */
  readonly image: number;
}

/** Those of Google's vocabulary, for a model without one. */
export const GOOGLE_IDS: NamedIds = {
  bos: 2,
  eos: 1,
  pad: 0,
  startOfImage: 255_999,
  endOfImage: 256_000,
  image: 262_144,
};

const THETA = {global: 1_000_000, local: 10_000};

/** @throws ValueError naming what transformers' Gemma 3 does not compute. */
function checkConfig(config: JsonObject): void {
  const problems: string[] = [];
  for (const key of ['use_query_key_norm', 'use_post_ffw_norm', 'use_post_attention_norm']) {
    if (config[key] !== true) problems.push(`${key}=${show(config[key])}, expected true`);
  }
  if ((config.attention_logit_soft_cap ?? null) !== null) {
    problems.push(`attention_logit_soft_cap=${show(config.attention_logit_soft_cap)}, expected null`);
  }
  if (problems.length === 0) return;
  throw new ValueError(
    "Expected a model that transformers' Gemma 3 can represent. Received: a backbone with " +
      `${listed(problems)}. Save it as a Keras preset.`,
  );
}

/** The window in transformers' form, which sees half of it on both sides if attention is bidirectional. */
function windowOf({sliding_window_size: size, use_bidirectional_attention: both}: JsonObject): number {
  const window = size as number;
  if (both !== true) return window;
  if (window % 2 === 1) return Math.max(window - 1, 1);
  console.warn(
    `transformers sees ${window / 2} tokens on both sides of a bidirectional window of ${window}, as the model's ` +
      `authors do; KerasHub sees ${window / 2 - 1} on the left. Embeddings of texts that are longer than that differ ` +
      'slightly.',
  );
  return window;
}

/** RoPE in the form that all versions of transformers read. */
function ropeOf({local_rope_scaling_factor: local, global_rope_scaling_factor: global}: JsonObject): JsonObject {
  const scaling = (factor: unknown): JsonObject | null =>
    factor === 1 ? null : {rope_type: 'linear', factor: factor as number};
  const flat = {rope_theta: THETA.global, rope_local_base_freq: THETA.local, rope_scaling: scaling(global)};
  if (local === 1) return flat;
  console.warn(`transformers reads local_rope_scaling_factor=${show(local)} from version 5 on. Older versions use 1.`);
  const of = (factor: unknown, theta: number): JsonObject => ({
    ...(scaling(factor) ?? {rope_type: 'default'}),
    rope_theta: theta,
  });
  const parameters = {sliding_attention: of(local, THETA.local), full_attention: of(global, THETA.global)};
  return {...flat, rope_parameters: parameters};
}

function textConfig(config: JsonObject, ids: NamedIds, dtype: string): JsonObject {
  const [layers, heads] = [config.num_layers as number, config.num_query_heads as number];
  const sliding = config.use_sliding_window_attention === true;
  const perHead = Math.floor((config.hidden_dim as number) / heads);
  const isScaled = config.global_rope_scaling_factor !== 1;
  const bidirectional = config.use_bidirectional_attention === true;
  return {
    model_type: 'gemma3_text',
    vocab_size: config.vocabulary_size!,
    hidden_size: config.hidden_dim!,
    intermediate_size: config.intermediate_dim!,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: config.num_key_value_heads!,
    head_dim: config.head_dim!,
    query_pre_attn_scalar: config.query_head_dim_normalize === false ? perHead : config.head_dim!,
    hidden_activation: 'gelu_pytorch_tanh',
    rms_norm_eps: config.layer_norm_epsilon!,
    // Keras' files do not have the context length: these are the lengths of Google's models.
    max_position_embeddings: bidirectional ? 2048 : isScaled ? 131_072 : 32_768,
    initializer_range: 0.02,
    use_cache: true,
    attention_bias: false,
    attention_dropout: config.dropout ?? 0,
    attn_logit_softcapping: null,
    final_logit_softcapping: config.final_logit_soft_cap ?? null,
    sliding_window: windowOf(config),
    // Versions before 4.53 read the pattern, the others the list.
    sliding_window_pattern: sliding ? 6 : 1,
    layer_types: Array.from({length: layers}, (_, i) =>
      sliding && i % 6 < 5 ? 'sliding_attention' : 'full_attention',
    ),
    ...ropeOf(config),
    ...(bidirectional && {use_bidirectional_attention: true}),
    tie_word_embeddings: true,
    bos_token_id: ids.bos,
    eos_token_id: ids.eos,
    pad_token_id: ids.pad,
    torch_dtype: dtype,
  };
}

/** How many tokens an image has. */
export function tokensPerImage({image_size: size, patch_size: patch, pool_size: pool}: JsonObject): number {
  return ((size as number) / (patch as number) / (pool as number)) ** 2;
}

function visionConfig(vision: JsonObject, dtype: string): JsonObject {
  return {
    model_type: 'siglip_vision_model',
    hidden_size: vision.hidden_dim!,
    intermediate_size: vision.intermediate_dim!,
    num_hidden_layers: vision.num_layers!,
    num_attention_heads: vision.num_heads!,
    num_channels: 3,
    image_size: vision.image_size!,
    patch_size: vision.patch_size!,
    hidden_act: 'gelu_pytorch_tanh',
    layer_norm_eps: vision.layer_norm_epsilon ?? 1e-6,
    attention_dropout: 0,
    vision_use_head: false,
    torch_dtype: dtype,
  };
}

/** The vision encoder of a backbone; undefined for a text model. */
export function visionOf({vision_encoder: encoder}: JsonObject): JsonObject | undefined {
  return isObject(encoder) && isObject(encoder.config) ? encoder.config : undefined;
}

/**
 * The contents of `config.json`.
 *
 * @param config arguments of the backbone, with Keras' names.
 * @param architecture the class of transformers.
 * @param stops the tokens that end a text.
 * @throws ValueError naming what transformers cannot represent.
 */
export function writtenConfig(
  config: JsonObject,
  architecture: string,
  ids: NamedIds,
  stops: number[],
  dtype: string,
): JsonObject {
  checkConfig(config);
  const text = textConfig(config, ids, dtype);
  const vision = visionOf(config);
  if (!vision) return {architectures: [architecture], ...text};
  return {
    architectures: [architecture],
    model_type: 'gemma3',
    boi_token_index: ids.startOfImage,
    eoi_token_index: ids.endOfImage,
    image_token_index: ids.image,
    mm_tokens_per_image: tokensPerImage(vision),
    eos_token_id: stops,
    initializer_range: 0.02,
    tie_word_embeddings: true,
    text_config: text,
    vision_config: visionConfig(vision, dtype),
    torch_dtype: dtype,
  };
}
