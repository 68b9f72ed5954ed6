/** The JSON files of a preset: models, tasks, preprocessors and tokenizers as KerasHub serializes them, key by key. */
import type * as tf from '@tensorflow/tfjs';
import {snakeCase, snakeKeys} from '../../base/casing';
import {type Json, type JsonObject} from '../../base/json';
import {policyInFiles, visionPolicyInFiles} from '../saved_weights';
import {isSerialized} from './serialized';

/** The versions of Keras and KerasHub that the format of these files follows. */
export const KERAS_VERSION = '3.15.1';
export const KERAS_HUB_VERSION = '0.32.0';

/** A serialized object of KerasHub, by default of its Gemma 3 package. Each class is in a module of the same name. */
export function hubObject(
  className: string,
  config: JsonObject,
  module = `models.gemma3.${snakeCase(className)}`,
): JsonObject {
  return {
    module: `keras_hub.src.${module}`,
    class_name: className,
    config,
    registered_name: `keras_hub>${className}`,
  };
}

/** A serialized dtype policy. */
export function dtypePolicy(name: string): JsonObject {
  return {module: 'keras', class_name: 'DTypePolicy', config: {name}, registered_name: null};
}

/** Puts the entries in the order of `keys`, then all others, so that files can be compared with KerasHub's. */
function ordered(config: JsonObject, keys: readonly string[]): JsonObject {
  const rest = Object.keys(config).filter(key => !keys.includes(key));
  return Object.fromEntries([...keys, ...rest].filter(key => key in config).map(key => [key, config[key]!]));
}

const HEAD = ['name', 'trainable', 'dtype'];

const BACKBONE_KEYS = [
  ...HEAD,
  'vocabulary_size',
  'image_size',
  'num_layers',
  'num_query_heads',
  'num_key_value_heads',
  'hidden_dim',
  'intermediate_dim',
  'head_dim',
  'query_head_dim_normalize',
  'use_query_key_norm',
  'use_post_ffw_norm',
  'use_post_attention_norm',
  'attention_logit_soft_cap',
  'final_logit_soft_cap',
  'use_sliding_window_attention',
  'sliding_window_size',
  'local_rope_scaling_factor',
  'global_rope_scaling_factor',
  'vision_encoder',
  'use_bidirectional_attention',
  'layer_norm_epsilon',
  'dropout',
  'is_embedding_model',
  'pooling_intermediate_dim',
  'embedding_dim',
];

const VISION_KEYS = [
  ...HEAD,
  'num_heads',
  'hidden_dim',
  'num_layers',
  'intermediate_dim',
  'output_dim',
  'pool_size',
  'image_size',
  'patch_size',
  'layer_norm_epsilon',
];

/** Name of a dtype policy. A configuration holds the name or a serialized policy. */
function policyName(dtype: unknown): string {
  return typeof dtype === 'string' ? dtype : String((dtype as {config?: {name?: unknown}} | null)?.config?.name);
}

/**
 * `config.json`.
 *
 * @param wanted the dtype to save the weights in. Defaults to the dtype of each layer.
 * @throws ValueError for weights that are stored as integers if no dtype is given.
 */
export function backboneObject(backbone: tf.LayersModel, wanted: string | undefined): JsonObject {
  const owner = `Model "${backbone.name}"`;
  // Files hold merged weights, so LoRA is left out.
  const {visionEncoder, lora: _, ...config} = backbone.getConfig() as Record<string, Json>;
  const {config: vision} = (visionEncoder ?? {}) as {config?: JsonObject};
  const all: JsonObject = {
    ...(snakeKeys(config) as JsonObject),
    trainable: backbone.trainable,
    dtype: dtypePolicy(policyInFiles(owner, policyName(config.dtype), wanted)),
    vision_encoder: vision ? visionObject(owner, vision, wanted) : null,
  };
  return hubObject(backbone.getClassName(), ordered(all, BACKBONE_KEYS));
}

function visionObject(owner: string, config: JsonObject, wanted: string | undefined): JsonObject {
  const dtype = dtypePolicy(visionPolicyInFiles(owner, policyName(config.dtype), wanted));
  return hubObject('Gemma3VisionEncoder', ordered({...(snakeKeys(config) as JsonObject), dtype}, VISION_KEYS));
}

/** The parts of a tokenizer that are saved. */
export interface SavedTokenizer {
  /** The vocabulary, as SentencePiece stores it. */
  readonly proto: Uint8Array;
  /** Only Gemma 3's tokenizer has it. */
  readonly foreignChatTemplate?: string | null;
  getClassName(): string;
  getConfig(): {
    name: string;
    addBos: boolean;
    addEos: boolean;
    sequenceLength: number | null;
    /** Only Gemma 3's tokenizer has it. */
    hasVisionTokens?: boolean;
  };
}

/**
 * `tokenizer.json`. The vocabulary is a separate file. KerasHub has no chat templates; it ignores keys next to
 * "config", so a foreign template is named there.
 */
export function tokenizerObject(tokenizer: SavedTokenizer): JsonObject {
  const {name, hasVisionTokens, addBos, addEos, sequenceLength} = tokenizer.getConfig();
  const className = tokenizer.getClassName();
  const config = {
    name,
    trainable: true,
    dtype: dtypePolicy('int32'),
    config_file: 'tokenizer.json',
    proto: null,
    sequence_length: sequenceLength,
    add_bos: addBos,
    add_eos: addEos,
    ...(hasVisionTokens !== undefined && {has_vision_tokens: hasVisionTokens}),
  };
  const own = className === 'SentencePieceTokenizer' ? 'tokenizers.sentence_piece_tokenizer' : undefined;
  const {foreignChatTemplate: template} = tokenizer;
  return {...hubObject(className, config, own), ...(template != null && {foreign_chat_template: template})};
}

const CONVERTER_KEYS = [
  ...HEAD,
  'image_size',
  'scale',
  'offset',
  'interpolation',
  'antialias',
  'crop_to_aspect_ratio',
  'pad_to_aspect_ratio',
  'bounding_box_format',
];

/**
 * `image_converter.json`, from a converter or its configuration in either casing. KerasHub refuses an argument that it
 * does not have, but ignores keys next to "config", so `image_orientation` is stored there.
 */
export function imageConverterObject(converter: object): JsonObject {
  const {getConfig, getClassName} = converter as {getConfig?: () => object; getClassName?: () => string};
  const config = getConfig ? getConfig.call(converter) : converter;
  const plain = snakeKeys(isSerialized(config) ? config.config : config) as JsonObject;
  const saved = isSerialized(config) ? config.image_orientation : undefined;
  const {name = 'gemma3_image_converter', trainable = true, dtype = 'float32', ...others} = plain;
  const {image_orientation = saved, ...rest} = others;
  const all = {name, trainable, dtype: dtypePolicy(policyName(dtype)), ...rest};
  const className = getClassName?.call(converter) ?? 'Gemma3ImageConverter';
  const module = className === 'ImageConverter' ? 'layers.preprocessing.image_converter' : undefined;
  const object = hubObject(className, ordered(all, CONVERTER_KEYS), module);
  return {...object, ...(image_orientation !== undefined && {image_orientation})};
}

/** The parts of a preprocessor that are saved. */
export interface SavedPreprocessor {
  readonly name: string;
  readonly tokenizer: SavedTokenizer;
  /** A converter or its configuration; null or left out for text only. */
  readonly imageConverter?: object | null;
  getConfig(): Record<string, unknown>;
}

const PREPROCESSOR_KEYS = [
  ...HEAD,
  'tokenizer',
  'image_converter',
  'config_file',
  'sequence_length',
  'truncate',
  'add_start_token',
  'add_end_token',
  'num_vision_tokens_per_image',
  'max_images_per_prompt',
];

/** `preprocessor.json`. */
export function preprocessorObject(
  preprocessor: SavedPreprocessor,
  className = 'Gemma3CausalLMPreprocessor',
): JsonObject {
  const {name, tokenizer, imageConverter} = preprocessor;
  const {tokenizer: _t, imageConverter: _i, ...config} = preprocessor.getConfig();
  const all: JsonObject = {
    ...(snakeKeys(config) as JsonObject),
    name,
    trainable: true,
    dtype: dtypePolicy('float32'),
    tokenizer: tokenizerObject(tokenizer),
    config_file: 'preprocessor.json',
    ...(imageConverter && {image_converter: imageConverterObject(imageConverter)}),
  };
  return hubObject(className, ordered(all, PREPROCESSOR_KEYS));
}

/** The parts of a task that are saved. */
export interface SavedTask {
  readonly name: string;
  readonly backbone: tf.LayersModel;
  readonly preprocessor: SavedPreprocessor | null;
  /** Only a causal language model has it. */
  readonly stopTokenIds?: readonly number[] | null;
  /** Only embedders have prompts. */
  readonly prompts?: Readonly<Record<string, string>>;
  readonly defaultPromptName?: string | null;
  getClassName(): string;
}

/** How a task differs from the causal language model. */
export interface TaskDetails {
  /** Defaults to the preprocessor of the causal language model. */
  preprocessorClass?: string;
  /** Arguments other than backbone, preprocessor and name, with KerasHub's names. */
  config?: JsonObject;
}

/**
 * `task.json`. KerasHub has no entries for the tokens that end a text and for an embedder's prompts; it ignores keys
 * next to "config".
 */
export function taskObject(task: SavedTask, wanted: string | undefined, details: TaskDetails = {}): JsonObject {
  const {backbone, preprocessor, name, stopTokenIds, prompts = {}, defaultPromptName} = task;
  const object = hubObject(task.getClassName(), {
    backbone: backboneObject(backbone, wanted),
    preprocessor: preprocessor && preprocessorObject(preprocessor, details.preprocessorClass),
    name,
    ...details.config,
  });
  return {
    ...object,
    ...(stopTokenIds && {stop_token_ids: [...stopTokenIds]}),
    ...(Object.keys(prompts).length > 0 && {prompts: {...prompts}, default_prompt_name: defaultPromptName ?? null}),
  };
}

/** `metadata.json`. */
export function metadataObject(parameterCount: number, date = new Date()): JsonObject {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return {
    keras_version: KERAS_VERSION,
    keras_hub_version: KERAS_HUB_VERSION,
    parameter_count: parameterCount,
    date_saved: `${day}@${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`,
    // All tasks that KerasHub has for this backbone, not only the one that is saved.
    tasks: ['CausalLM', 'TextEmbedder'],
  };
}
