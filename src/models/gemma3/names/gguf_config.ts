/** Metadata of GGUF files as the arguments of Gemma3Backbone, with Keras' names. */
import {ValueError} from '../../../base/errors';
import {type JsonObject} from '../../../base/json';
import {Metadata} from '../../../checkpoints/gguf/metadata';
import {type GgufFiles} from '../../../checkpoints/gguf/models';
import {dtypePolicy, hubObject} from '../../../checkpoints/keras/objects';
import {type GgufFile, GgufStrings} from '../../../formats/gguf';
import {bothSides} from './huggingface_config';

/** Value of `general.architecture` in embedding models. */
export const EMBEDDING_ARCHITECTURE = 'gemma-embedding';
/** RoPE's wavelengths. In KerasHub's Gemma 3 they are fixed. */
export const WAVELENGTH = {global: 1_000_000, local: 10_000};
/** Every sixth block has no window. */
const WINDOW_PATTERN = 6;
/** The number of blocks by which llama.cpp recognizes the 27B model, whose queries are scaled differently. */
export const BLOCKS_27B = 62;

/** This package's own keys for further settings of an embedder, which llama.cpp leaves to each request. */
export const OWN = {
  /** Whether vectors have length 1. */
  normalize: 'tfjs_gemma3.normalize',
  /** The prefixes for several kinds of text, and the names of the kinds. */
  prompts: 'tfjs_gemma3.prompts',
  promptNames: 'tfjs_gemma3.prompt_names',
  defaultPromptName: 'tfjs_gemma3.default_prompt_name',
};

/** llama.cpp's numbers of pooling modes. */
export const POOLING: Readonly<Record<number, string>> = {1: 'mean', 3: 'last'};

/** The part of the metadata that describes the model, for each kind of model. */
export function textMetadata({name, model}: GgufFiles): {metadata: Metadata; architecture: string} {
  const architecture = new Metadata(name, model.metadata).text('general.architecture');
  return {metadata: new Metadata(name, model.metadata, `${architecture}.`), architecture};
}

/** The shape of a tensor that must exist. */
function shapeOf({tensors}: GgufFile, tensor: string, rank: number, file: string): readonly number[] {
  const shape = tensors.get(tensor)?.shape;
  if (shape?.length === rank) return shape;
  const received = shape ? `one of shape [${shape}]` : 'a file without it';
  throw new ValueError(`Expected a tensor "${tensor}" with ${rank} axes in "${file}". Received: ${received}.`);
}

/**
 * The default dtype of the weights: that of the embedding if it is a float type. Weights with fewer bits become
 * bfloat16, unless the user chooses another dtype.
 */
function dtypeOf({tensors}: GgufFile): string {
  const type = tensors.get('token_embd.weight')?.type.name;
  return type === 'F32' ? 'float32' : type === 'F16' ? 'float16' : 'bfloat16';
}

/** How queries are scaled: by the width of a head, or by that of the hidden state divided by the number of heads. */
function scalesByHead(metadata: Metadata, headDim: number, hiddenDim: number, heads: number): boolean {
  if (!metadata.has('attention.scale')) return metadata.size('block_count') !== BLOCKS_27B;
  const scale = metadata.number('attention.scale');
  const [byHead, byHidden] = [1 / Math.sqrt(headDim), 1 / Math.sqrt(Math.floor(hiddenDim / heads))];
  const near = (wanted: number) => Math.abs(scale - wanted) < 1e-5 * wanted;
  if (near(byHead)) return true;
  if (near(byHidden)) return false;
  throw metadata.invalid('attention.scale', `${byHead} or ${byHidden}`);
}

/** Checks settings that llama.cpp can vary, but KerasHub's Gemma 3 cannot. */
function checkFixed(metadata: Metadata, headDim: number): void {
  const only = (key: string, expected: number) => {
    if (metadata.number(key, expected) !== expected) throw metadata.invalid(key, String(expected));
  };
  only('rope.freq_base', WAVELENGTH.global);
  only('rope.freq_base_swa', WAVELENGTH.local);
  only('rope.dimension_count', headDim);
  only('attention.value_length', headDim);
  const pattern = metadata.raw('attention.sliding_window_pattern');
  if (pattern === undefined || pattern === WINDOW_PATTERN) return;
  const flags = Array.isArray(pattern) ? (pattern as unknown[]) : [];
  if (flags.length === 0 || flags.some((flag, i) => flag !== i % WINDOW_PATTERN < WINDOW_PATTERN - 1)) {
    throw metadata.invalid('attention.sliding_window_pattern', `${WINDOW_PATTERN}, or true for five of six blocks,`);
  }
}

/** The window in Keras' form. */
function slidingWindow(metadata: Metadata, bidirectional: boolean): number {
  const size = metadata.size('attention.sliding_window');
  return bidirectional ? bothSides(size) : size;
}

/** The factor by which positions of blocks without a window are divided. */
function ropeFactor(metadata: Metadata): number {
  const type = metadata.text('rope.scaling.type', 'none');
  if (type === 'none') return 1;
  if (type === 'linear') return metadata.number('rope.scaling.factor', 1);
  throw metadata.invalid('rope.scaling.type', '"none" or "linear"');
}

/** The widths of an embedder's two dense layers; null for models without them, and for files that leave them out. */
export function denseWidths({model, name}: GgufFiles): {hidden: number; output: number} | null {
  if (!model.tensors.has('dense_2.weight') && !model.tensors.has('dense_3.weight')) return null;
  const [hidden] = shapeOf(model, 'dense_2.weight', 2, name);
  const [output] = shapeOf(model, 'dense_3.weight', 2, name);
  return {hidden: hidden!, output: output!};
}

/**
 * The backbone's configuration.
 *
 * @throws ValueError naming metadata that is missing, or that KerasHub's Gemma 3 cannot represent.
 */
export function backboneConfig(files: GgufFiles): JsonObject {
  const {metadata, architecture} = textMetadata(files);
  const bidirectional = !metadata.flag('attention.causal', architecture !== EMBEDDING_ARCHITECTURE);
  const [heads, hiddenDim] = [metadata.size('attention.head_count'), metadata.size('embedding_length')];
  const headDim = metadata.size('attention.key_length', 256);
  checkFixed(metadata, headDim);
  const [rows] = shapeOf(files.model, 'token_embd.weight', 2, files.name);
  const tokens = files.model.metadata.get('tokenizer.ggml.tokens');
  if (tokens instanceof GgufStrings && tokens.length > rows!) {
    throw new Metadata(files.name, files.model.metadata).invalid(
      'tokenizer.ggml.tokens',
      `at most ${rows} texts, one for each row of token_embd.weight,`,
    );
  }
  const window = metadata.number('attention.sliding_window', 0);
  const dense = denseWidths(files);
  const vision = files.vision && visionConfig(files, hiddenDim);
  return {
    name: 'gemma3_backbone',
    trainable: true,
    dtype: dtypePolicy(dtypeOf(files.model)),
    vocabulary_size: rows!,
    image_size: vision ? vision.image_size! : null,
    num_layers: metadata.size('block_count'),
    num_query_heads: heads,
    num_key_value_heads: metadata.size('attention.head_count_kv', heads),
    hidden_dim: hiddenDim,
    intermediate_dim: metadata.size('feed_forward_length'),
    head_dim: headDim,
    query_head_dim_normalize: scalesByHead(metadata, headDim, hiddenDim, heads),
    use_query_key_norm: true,
    use_post_ffw_norm: true,
    use_post_attention_norm: true,
    attention_logit_soft_cap: null,
    final_logit_soft_cap: metadata.has('final_logit_softcapping') ? metadata.number('final_logit_softcapping') : null,
    use_sliding_window_attention: window > 0,
    sliding_window_size: window > 0 ? slidingWindow(metadata, bidirectional) : 4096,
    local_rope_scaling_factor: 1,
    global_rope_scaling_factor: ropeFactor(metadata),
    vision_encoder: vision && hubObject('Gemma3VisionEncoder', vision),
    use_bidirectional_attention: bidirectional,
    layer_norm_epsilon: epsilon(metadata, 'attention.layer_norm_rms_epsilon'),
    dropout: 0,
    is_embedding_model: dense !== null,
    pooling_intermediate_dim: dense && dense.hidden,
    embedding_dim: dense && dense.output,
  };
}

/** A number that is stored as float32, with the fewest digits that identify it: 1e-6, not 9.99999997e-7. */
const epsilon = (metadata: Metadata, key: string): number => Number(metadata.number(key, 1e-6).toPrecision(7));

/** Metadata of the vision encoder. */
export const visionMetadata = ({vision, visionName}: GgufFiles): Metadata =>
  new Metadata(visionName, vision!.metadata, 'clip.vision.');

function visionConfig(files: GgufFiles, hiddenDim: number): JsonObject {
  const metadata = visionMetadata(files);
  if (metadata.size('projection_dim', hiddenDim) !== hiddenDim) {
    throw metadata.invalid('projection_dim', `the width of the language model, ${hiddenDim},`);
  }
  return {
    name: 'gemma3_vision_encoder',
    trainable: true,
    dtype: dtypePolicy('float32'),
    num_heads: metadata.size('attention.head_count'),
    hidden_dim: metadata.size('embedding_length'),
    num_layers: metadata.size('block_count'),
    intermediate_dim: metadata.size('feed_forward_length'),
    output_dim: hiddenDim,
    pool_size: metadata.size('projector.scale_factor', 4),
    image_size: metadata.size('image_size'),
    patch_size: metadata.size('patch_size'),
    layer_norm_epsilon: epsilon(metadata, 'attention.layer_norm_epsilon'),
  };
}
