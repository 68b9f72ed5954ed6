/** `config.json` of transformers as the arguments of Gemma3Backbone, with Keras' names. */
import {listed, show, ValueError} from '../../../base/errors';
import {isObject, type Json, type JsonObject} from '../../../base/json';
import {type SentenceModule} from '../../../checkpoints/huggingface/models';
import {dtypePolicy, hubObject} from '../../../checkpoints/keras/objects';

/** Reads values by key, and collects those that this package's model cannot represent. */
class ConfigReader {
  private readonly seen = new Set<string>();
  constructor(
    private readonly values: JsonObject,
    private readonly prefix: string,
    readonly problems: string[],
  ) {}

  /** The value of the first of these keys that has one. */
  get(...keys: string[]): Json | undefined {
    keys.forEach(key => this.seen.add(key));
    const key = keys.find(name => this.values[name] !== undefined && this.values[name] !== null);
    return key === undefined ? undefined : this.values[key];
  }

  refuse(key: string, received: unknown, expected: string): void {
    this.problems.push(`${this.prefix}${key}=${show(received)}, expected ${expected}`);
  }

  number(key: string, usual?: number): number {
    const value = this.get(key) ?? usual;
    if (typeof value === 'number' && Number.isFinite(value)) return value;
    this.refuse(key, value, 'a number');
    return NaN;
  }

  numberOrNull(key: string): number | null {
    return this.get(key) === undefined ? null : this.number(key);
  }

  /** Reads a value of which this package supports only one. */
  only(key: string, expected: Json): void {
    const value = this.get(key) ?? expected;
    if (value !== expected) this.refuse(key, value, show(expected));
  }

  object(key: string): JsonObject | undefined {
    const value = this.get(key);
    if (value === undefined || isObject(value)) return value;
    this.refuse(key, value, 'an object');
    return undefined;
  }

  /** Keys that were not read and may affect the computation. */
  unknown(harmless: ReadonlySet<string>): string[] {
    return Object.keys(this.values)
      .filter(key => !this.seen.has(key) && !harmless.has(key) && !key.startsWith('_'))
      .map(key => `${this.prefix}${key}`);
  }
}

/** Keys that do not affect the computation. */
const HARMLESS: ReadonlySet<string> = new Set([
  ...['architectures', 'bos_token_id', 'cache_implementation', 'dtype', 'eos_token_id'],
  ...['id2label', 'initializer_range', 'is_decoder', 'is_encoder_decoder', 'label2id', 'max_position_embeddings'],
  ...['model_type', 'num_channels', 'output_attentions', 'output_hidden_states', 'pad_token_id', 'problem_type'],
  ...['return_dict', 'tie_word_embeddings', 'tokenizer_class', 'torch_dtype', 'transformers_version', 'use_cache'],
  ...['vision_use_head', 'boi_token_index', 'eoi_token_index', 'image_token_index', 'chunk_size_feed_forward'],
  ...['boi_token_id', 'eoi_token_id', 'image_token_id', 'unsloth_version', 'unsloth_fixed', 'projection_dim'],
]);

/** RoPE of the two kinds of layers: the wavelengths are fixed, the factors are arguments. */
function ropeFactors(text: ConfigReader): {local: number; global: number} {
  const nested = text.object('rope_parameters') ?? {};
  const flat = 'rope_type' in nested || 'rope_theta' in nested;
  const of = (kind: string) => (isObject(nested[kind]) ? nested[kind] : {});
  const scaling = text.object('rope_scaling') ?? {};
  const globalSettings = {...(flat ? nested : of('full_attention')), ...scaling};
  const read = (settings: JsonObject, key: string, thetaKey: string, theta: number): number => {
    const {rope_type: type = settings.type ?? 'default', factor = 1, rope_theta: inside} = settings;
    // Some versions write both; the settings per kind of layer take precedence.
    const outside = text.get(thetaKey);
    const wavelength = inside ?? outside ?? theta;
    if (wavelength !== theta) text.refuse(thetaKey, wavelength, `${theta}, the only one that KerasHub's Gemma 3 has`);
    if (type !== 'default' && type !== 'linear') text.refuse(`${key}.rope_type`, type, '"default" or "linear"');
    if (type === 'default') return 1;
    if (typeof factor === 'number' && factor > 0) return factor;
    text.refuse(`${key}.factor`, factor, 'a number above 0');
    return 1;
  };
  return {
    local: read(of('sliding_attention'), 'rope_parameters.sliding_attention', 'rope_local_base_freq', 10_000),
    global: read(globalSettings, 'rope_scaling', 'rope_theta', 1_000_000),
  };
}

/**
 * The window of a bidirectional model in Keras' form. Google and transformers see window // 2 tokens on both sides.
 * KerasHub divides its window between both sides, with one token less on the left if it is even: an odd one is
 * equivalent.
 */
export const bothSides = (size: number) => 2 * Math.floor(size / 2) + 1;

/** Whether layers have a window. KerasHub's Gemma 3 has one in five of six layers, or in none. */
function slidingWindow(text: ConfigReader, layers: number): {sliding: boolean; size: number} {
  const size = text.number('sliding_window', 4096);
  const types = text.get('layer_types');
  const pattern = text.get('sliding_window_pattern', '_sliding_window_pattern') ?? 6;
  if (types === undefined) {
    if (pattern !== 6) text.refuse('sliding_window_pattern', pattern, '6');
    return {sliding: true, size};
  }
  const list = Array.isArray(types) ? types : [types];
  const every = (fits: (i: number) => boolean) =>
    list.length === layers && list.every((type, i) => type === (fits(i) ? 'sliding_attention' : 'full_attention'));
  if (every(i => i % 6 < 5)) return {sliding: true, size};
  if (every(() => false)) return {sliding: false, size};
  text.refuse('layer_types', types, '"sliding_attention" for five of six layers and "full_attention" for the sixth');
  return {sliding: true, size};
}

/** Queries are scaled by 1/√query_pre_attn_scalar, for which KerasHub has two choices. */
function scalesByHead(text: ConfigReader, headDim: number, hidden: number, heads: number): boolean {
  const scalar = text.number('query_pre_attn_scalar', 256);
  if (scalar === headDim) return true;
  const other = Math.floor(hidden / heads);
  if (scalar !== other) {
    text.refuse(
      'query_pre_attn_scalar',
      scalar,
      `head_dim, ${headDim}, or hidden_size / num_attention_heads, ${other}`,
    );
  }
  return false;
}

function visionConfig(vision: ConfigReader, outputDim: number, tokens: number): JsonObject {
  const [imageSize, patchSize] = [vision.number('image_size', 224), vision.number('patch_size', 16)];
  vision.only('hidden_act', 'gelu_pytorch_tanh');
  vision.only('attention_dropout', 0);
  const poolSize = imageSize / patchSize / Math.sqrt(tokens);
  if (!Number.isInteger(poolSize)) {
    vision.refuse('image_size', imageSize, `patches that ${tokens} tokens divide evenly (mm_tokens_per_image)`);
  }
  return {
    name: 'gemma3_vision_encoder',
    trainable: true,
    dtype: dtypePolicy('float32'),
    num_heads: vision.number('num_attention_heads', 12),
    hidden_dim: vision.number('hidden_size', 768),
    num_layers: vision.number('num_hidden_layers', 12),
    intermediate_dim: vision.number('intermediate_size', 3072),
    output_dim: outputDim,
    pool_size: poolSize,
    image_size: imageSize,
    patch_size: patchSize,
    layer_norm_epsilon: vision.number('layer_norm_eps', 1e-6),
  };
}

/** As in KerasHub's presets: float32 or bfloat16 throughout. */
function dtypeName(all: ConfigReader, text: ConfigReader): string {
  const dtype = all.get('dtype', 'torch_dtype') ?? text.get('dtype', 'torch_dtype') ?? 'float32';
  const known = ['float32', 'bfloat16', 'float16'];
  if (!known.includes(dtype as string)) all.refuse('dtype', dtype, known.join(' or '));
  return dtype as string;
}

/** The widths of the two dense layers of EmbeddingGemma; null for models without them. */
export function denseWidths(modules: readonly SentenceModule[]): [intermediate: number, output: number] | null {
  const widths = modules.filter(({kind}) => kind === 'Dense').map(({config}) => config.out_features);
  return widths.length === 2 ? (widths as [number, number]) : null;
}

/**
 * The configuration of the backbone.
 *
 * @param config the contents of `config.json`.
 * @param modules those of sentence-transformers, for an embedder.
 * @param file its name, for errors.
 * @throws ValueError naming all keys whose values the backbone cannot represent.
 */
export function backboneConfig(config: JsonObject, modules: readonly SentenceModule[], file: string): JsonObject {
  const problems: string[] = [];
  const all = new ConfigReader(config, '', problems);
  const multimodal = config.model_type === 'gemma3';
  const part = (key: string) => new ConfigReader(all.object(key) ?? {}, `${key}.`, problems);
  const text = multimodal ? part('text_config') : all;
  const hasVision = multimodal && all.get('vision_config') !== undefined;
  const vision = part('vision_config');
  if (all.get('quantization_config') !== undefined) {
    all.refuse('quantization_config', config.quantization_config, 'floating-point weights: use the original model');
  }
  text.only('hidden_activation', 'gelu_pytorch_tanh');
  text.only('attention_bias', false);
  const [hidden, layers] = [text.number('hidden_size', 2304), text.number('num_hidden_layers', 26)];
  const [heads, headDim] = [text.number('num_attention_heads', 8), text.number('head_dim', 256)];
  const {sliding, size} = slidingWindow(text, layers);
  const bidirectional = text.get('use_bidirectional_attention') === true;
  const rope = ropeFactors(text);
  const tokens = all.number('mm_tokens_per_image', 256);
  const encoder = hasVision ? visionConfig(vision, hidden, tokens) : null;
  const widths = denseWidths(modules);
  const result: JsonObject = {
    name: 'gemma3_backbone',
    trainable: true,
    dtype: dtypePolicy(dtypeName(all, text)),
    vocabulary_size: text.number('vocab_size', 262_208),
    image_size: encoder ? encoder.image_size! : null,
    num_layers: layers,
    num_query_heads: heads,
    num_key_value_heads: text.number('num_key_value_heads', 4),
    hidden_dim: hidden,
    intermediate_dim: text.number('intermediate_size', 9216),
    head_dim: headDim,
    query_head_dim_normalize: scalesByHead(text, headDim, hidden, heads),
    use_query_key_norm: true,
    use_post_ffw_norm: true,
    use_post_attention_norm: true,
    attention_logit_soft_cap: text.numberOrNull('attn_logit_softcapping'),
    final_logit_soft_cap: text.numberOrNull('final_logit_softcapping'),
    use_sliding_window_attention: sliding,
    sliding_window_size: bidirectional ? bothSides(size) : size,
    local_rope_scaling_factor: rope.local,
    global_rope_scaling_factor: rope.global,
    vision_encoder: encoder && hubObject('Gemma3VisionEncoder', encoder),
    use_bidirectional_attention: bidirectional,
    layer_norm_epsilon: text.number('rms_norm_eps', 1e-6),
    dropout: text.number('attention_dropout', 0),
    is_embedding_model: widths !== null,
    pooling_intermediate_dim: widths && widths[0],
    embedding_dim: widths && widths[1],
  };
  if (problems.length) {
    throw new ValueError(
      `Expected a configuration that KerasHub's Gemma3Backbone can represent in "${file}". Received: ` +
        `${listed(problems)}.`,
    );
  }
  const readers = [all, ...(text === all ? [] : [text]), ...(hasVision ? [vision] : [])];
  const unknown = readers.flatMap(reader => reader.unknown(HARMLESS));
  if (unknown.length) {
    console.warn(
      `"${file}" has unknown keys that are ignored: ${listed(unknown)}. If results differ from those of ` +
        'transformers, they are the reason.',
    );
  }
  return result;
}
