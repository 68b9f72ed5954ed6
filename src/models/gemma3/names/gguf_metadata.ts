/** Metadata of GGUF files from the configuration of KerasHub's classes: the counterpart of `gguf_config.ts`. */
import {show, ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';
import {type WrittenParts} from '../../../checkpoints/gguf/models';
import {addVocabulary, convertVocabulary, type GgufVocabulary} from '../../../checkpoints/gguf/write_vocabulary';
import {type GgufWriter} from '../../../formats/gguf';
import {END_OF_TURN, START_OF_TURN} from '../../../tokenizers/chat_template';
import {GEMMA_TEMPLATE} from '../../../tokenizers/gemma_template';
import {BLOCKS_27B, EMBEDDING_ARCHITECTURE, OWN, POOLING, WAVELENGTH} from './gguf_config';

/** Tokens that are special in Google's tokenizer; in SentencePiece, texts may contain them. */
const SPECIAL = new Set([START_OF_TURN, END_OF_TURN, '<image_soft_token>', '<mask>']);
const isSpecial = (token: string) => SPECIAL.has(token) || /^<unused.*>$|^<\|.*\|>$/.test(token);

/** Numbers of a configuration. */
type Sizes = Record<string, number>;

/** The class of the task; undefined for a backbone alone. */
const taskOf = ({task}: WrittenParts): string | undefined => task?.class_name;

/** Value of `general.architecture`. */
const architectureOf = ({backbone}: WrittenParts): string =>
  backbone.config.use_bidirectional_attention === true ? EMBEDDING_ARCHITECTURE : 'gemma3';

/**
 * Checks that llama.cpp computes what KerasHub does.
 *
 * @throws ValueError naming what its Gemma 3 does not have.
 */
export function checkWritable(parts: WrittenParts): void {
  const {config} = parts.backbone;
  const problems: string[] = [];
  const only = (key: string, ...expected: unknown[]) => {
    if (!expected.includes(config[key] ?? null)) problems.push(`${key}=${show(config[key])}`);
  };
  for (const key of ['use_query_key_norm', 'use_post_ffw_norm', 'use_post_attention_norm']) only(key, true);
  only('attention_logit_soft_cap', null);
  only('local_rope_scaling_factor', 1);
  const {
    num_layers: layers,
    hidden_dim: hidden,
    num_query_heads: heads,
    head_dim: headDim,
  } = config as unknown as Sizes;
  const byHead = config.query_head_dim_normalize === true;
  if (byHead !== (layers !== BLOCKS_27B) && Math.floor(hidden! / heads!) !== headDim) only('query_head_dim_normalize');
  if (architectureOf(parts) !== EMBEDDING_ARCHITECTURE) only('is_embedding_model', false, null);
  if (problems.length === 0) return;
  throw new ValueError(
    `Expected a model that llama.cpp can compute. Received: "${parts.name}" with ${problems.join(', ')}, which its ` +
      'Gemma 3 does not have. Convert it to another format.',
  );
}

/** Adds what describes the model and its tokenizer. */
export function addTextMetadata(file: GgufWriter, parts: WrittenParts, fileType: number): void {
  const architecture = architectureOf(parts);
  const {config} = parts.backbone;
  const size = (key: string, from: string) => file.uint32(`${architecture}.${key}`, config[from] as number);
  const number = (key: string, value: number) => file.float32(`${architecture}.${key}`, value);
  addGeneral(file, architecture, 'model', parts);
  file.uint32(`${architecture}.context_length`, contextLength(parts));
  size('block_count', 'num_layers');
  size('embedding_length', 'hidden_dim');
  size('feed_forward_length', 'intermediate_dim');
  size('attention.head_count', 'num_query_heads');
  size('attention.head_count_kv', 'num_key_value_heads');
  size('attention.key_length', 'head_dim');
  size('attention.value_length', 'head_dim');
  number('attention.layer_norm_rms_epsilon', config.layer_norm_epsilon as number);
  number('rope.freq_base', WAVELENGTH.global);
  number('rope.freq_base_swa', WAVELENGTH.local);
  const factor = config.global_rope_scaling_factor as number;
  if (factor !== 1) {
    file.text(`${architecture}.rope.scaling.type`, 'linear');
    number('rope.scaling.factor', factor);
  }
  if (config.use_sliding_window_attention === true) {
    file.uint32(`${architecture}.attention.sliding_window`, slidingWindow(parts));
  }
  const softCap = config.final_logit_soft_cap;
  if (typeof softCap === 'number') number('final_logit_softcapping', softCap);
  addEmbedder(file, parts);
  file.uint32('general.file_type', fileType).uint32('general.quantization_version', QUANTIZATION_VERSION);
  addTokenizer(file, parts);
}

/** The version of ggml's quantized formats. */
const QUANTIZATION_VERSION = 2;

function addGeneral(file: GgufWriter, architecture: string, type: string, {name, parameters}: WrittenParts): void {
  file.text('general.architecture', architecture).text('general.type', type).text('general.name', name);
  if (parameters > 0 && type === 'model') file.text('general.size_label', sizeLabel(parameters));
}

/** A number of parameters with at least two digits, such as "268M" and "4.3B". */
function sizeLabel(parameters: number): string {
  const [scale, suffix] = parameters > 1e9 ? [1e9, 'B'] : parameters > 1e6 ? [1e6, 'M'] : [1e3, 'K'];
  const scaled = parameters / scale;
  return scaled.toFixed(Math.max(2 - String(Math.round(scaled)).replace(/^0+/, '').length, 0)) + suffix;
}

/** Context lengths in tokens. Keras presets do not have them: these are Google's for the same models. */
function contextLength(parts: WrittenParts): number {
  if (architectureOf(parts) === EMBEDDING_ARCHITECTURE) return 2048;
  const factor = parts.backbone.config.global_rope_scaling_factor as number;
  return factor > 1 ? Math.round(16_384 * factor) : 32_768;
}

/** llama.cpp divides the window of an embedder between both sides, and leaves out the token itself. */
function slidingWindow(parts: WrittenParts): number {
  const size = parts.backbone.config.sliding_window_size as number;
  return architectureOf(parts) === EMBEDDING_ARCHITECTURE && size % 2 === 1 && size > 1 ? size - 1 : size;
}

function addEmbedder(file: GgufWriter, parts: WrittenParts): void {
  const architecture = architectureOf(parts);
  if (taskOf(parts) !== 'Gemma3TextEmbedder' && architecture !== EMBEDDING_ARCHITECTURE) return;
  const mode = (parts.task?.config.pooling_mode as string | undefined) ?? 'mean';
  const number = Object.entries(POOLING).find(([, name]) => name === mode)?.[0];
  if (number === undefined) {
    throw new ValueError(`Expected the pooling_mode "mean" or "last" in "${parts.name}". Received: ${show(mode)}.`);
  }
  file.uint32(`${architecture}.pooling_type`, Number(number));
  addOwn(file, parts);
  const {
    hidden_dim: hidden,
    pooling_intermediate_dim: inner,
    embedding_dim: output,
  } = parts.backbone.config as unknown as Sizes;
  if (parts.backbone.config.is_embedding_model !== true) return;
  const widths = {dense_2_feat_in: hidden, dense_2_feat_out: inner, dense_3_feat_in: inner, dense_3_feat_out: output};
  for (const [key, width] of Object.entries(widths)) file.uint32(`${architecture}.${key}`, width!);
}

/** Adds the settings of an embedder that llama.cpp does not have, so that they can be read again here. */
function addOwn(file: GgufWriter, {task, name}: WrittenParts): void {
  if (task?.config.normalize === false) {
    file.flag(OWN.normalize, false);
    console.warn(
      `"${name}" returns embeddings that are not normalized. llama.cpp normalizes them unless it is run with ` +
        '--embd-normalize -1.',
    );
  }
  const prompts = Object.entries(isObject(task?.prompts) ? task.prompts : {}) as [string, string][];
  if (prompts.length === 0) return;
  const bytes = (texts: string[]) => texts.map(text => new TextEncoder().encode(text));
  file.texts(OWN.promptNames, bytes(prompts.map(([key]) => key)));
  file.texts(OWN.prompts, bytes(prompts.map(([, text]) => text)));
  const usual = task?.default_prompt_name;
  if (typeof usual === 'string') file.text(OWN.defaultPromptName, usual);
}

function addTokenizer(file: GgufWriter, parts: WrittenParts): void {
  const rows = parts.backbone.config.vocabulary_size as number;
  const vocabulary = convertVocabulary(parts.vocabulary, rows, isSpecial, parts.name);
  const id = (token: string): number => {
    const found = vocabulary.idOf(token);
    if (found !== undefined) return found;
    throw new ValueError(`Expected a vocabulary with "${token}" in "${parts.name}". Received: one without it.`);
  };
  addVocabulary(file, vocabulary);
  file.uint32('tokenizer.ggml.bos_token_id', id('<bos>')).uint32('tokenizer.ggml.eos_token_id', id('<eos>'));
  file.uint32('tokenizer.ggml.unknown_token_id', id('<unk>')).uint32('tokenizer.ggml.padding_token_id', id('<pad>'));
  addEnds(file, parts, vocabulary);
  const embedder = taskOf(parts) === 'Gemma3TextEmbedder';
  file.flag('tokenizer.ggml.add_bos_token', true).flag('tokenizer.ggml.add_eos_token', embedder);
  file.flag('tokenizer.ggml.add_space_prefix', false);
  const template = templateOf(parts, vocabulary);
  if (template !== undefined) file.text('tokenizer.chat_template', template);
}

/** Adds the tokens that end a text besides `<eos>`. GGUF has two entries for them. */
function addEnds(file: GgufWriter, {task, name}: WrittenParts, {idOf}: GgufVocabulary): void {
  const [eos, turn] = [idOf('<eos>'), idOf(END_OF_TURN)];
  const given = (Array.isArray(task?.stop_token_ids) ? task.stop_token_ids : []) as number[];
  const others = given.filter(id => id !== eos && id !== turn);
  // llama.cpp finds <end_of_turn> by its name, so its entry can hold another token.
  const ends = others.length < 2 && turn !== undefined ? [turn, ...others] : others;
  if (ends.length > 2) {
    throw new ValueError(
      `Expected at most two tokens that end a text besides <eos> and ${END_OF_TURN}: GGUF files have no place for ` +
        `more. Received: the ids ${others.join(', ')} in "${name}".`,
    );
  }
  for (const [i, id] of ends.entries()) file.uint32(`tokenizer.ggml.${['eot', 'eom'][i]}_token_id`, id);
}

/** The chat template: that of the model, or Gemma's for vocabularies with turns. */
function templateOf(parts: WrittenParts, {idOf}: GgufVocabulary): string | undefined {
  const {template, tokenizer, name} = parts;
  if (template !== null) return template;
  if (taskOf(parts) === 'Gemma3TextEmbedder') return undefined;
  const foreign = tokenizer?.foreign_chat_template;
  if (foreign !== undefined) {
    console.warn(
      `"${name}" has a chat template other than Gemma's, in ${show(foreign)} of the model that it was made from. It ` +
        'is not in the preset, so the file gets none. Convert the original model to keep it.',
    );
    return undefined;
  }
  return idOf(START_OF_TURN) === undefined ? undefined : GEMMA_TEMPLATE;
}

/** Adds the description of a vision encoder, for its separate file. */
export function addVisionMetadata(file: GgufWriter, parts: WrittenParts, fileType: number): void {
  const {config} = parts.backbone;
  const vision = (config.vision_encoder as JsonObject).config as JsonObject;
  const size = (key: string, from: string) => file.uint32(`clip.vision.${key}`, vision[from] as number);
  addGeneral(file, 'clip', 'mmproj', parts);
  file.flag('clip.has_vision_encoder', true).text('clip.projector_type', 'gemma3');
  size('projection_dim', 'output_dim');
  size('image_size', 'image_size');
  size('patch_size', 'patch_size');
  size('embedding_length', 'hidden_dim');
  size('feed_forward_length', 'intermediate_dim');
  size('block_count', 'num_layers');
  size('attention.head_count', 'num_heads');
  const {mean, std} = imageNumbers(parts);
  file.float32s('clip.vision.image_mean', mean).float32s('clip.vision.image_std', std);
  file.float32('clip.vision.attention.layer_norm_epsilon', vision.layer_norm_epsilon as number);
  file.flag('clip.use_gelu', true);
  size('projector.scale_factor', 'pool_size');
  file.uint32('general.file_type', fileType).uint32('general.quantization_version', QUANTIZATION_VERSION);
}

/** Mean and deviation of images: pixels · scale + offset is (pixels / 255 − mean) / std. */
function imageNumbers({imageConverter}: WrittenParts): {mean: number[]; std: number[]} {
  const config: JsonObject = imageConverter && isObject(imageConverter.config) ? imageConverter.config : {};
  const three = (value: unknown, fallback: number) =>
    Array.from({length: 3}, (_, i) => Number((Array.isArray(value) ? value.flat(Infinity)[i] : value) ?? fallback));
  const std = three(config.scale, 1 / 127.5).map(scale => 1 / 255 / scale);
  return {mean: three(config.offset, -1).map((offset, i) => -offset * std[i]!), std};
}
