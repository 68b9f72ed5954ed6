/** Tasks, preprocessors and image converters of KerasHub from the files of a Hugging Face folder. */
import {listed, show, ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';
import {type CheckpointPart} from '../../../checkpoints/checkpoint';
import {type HuggingFaceFiles, type HuggingFaceModel} from '../../../checkpoints/huggingface/models';
import {dtypePolicy, hubObject} from '../../../checkpoints/keras/objects';
import {END_OF_TURN, isGemmaTemplate} from '../../../tokenizers/chat_template';
import {pieceIds} from '../../../tokenizers/sentence_piece_proto';
import {huggingFaceTensor, namesInVersions} from './huggingface';
import {backboneConfig} from './huggingface_config';
import {hasVision, imageConverter} from './huggingface_images';

/** Pieces that a vocabulary must have for images. */
const VISION_PIECES = ['<start_of_image>', '<img>', '<end_of_image>'];

const isEmbedder = ({modules}: HuggingFaceFiles) => modules.length > 0;

const layer = (name: string, dtype: string): JsonObject => ({name, trainable: true, dtype: dtypePolicy(dtype)});

async function backbone(files: HuggingFaceFiles): Promise<JsonObject> {
  checkModules(files);
  const config = backboneConfig(files.config, files.modules, `${files.source.name}/config.json`);
  return hubObject('Gemma3Backbone', config);
}

/** @throws ValueError unless the modules of sentence-transformers are those that KerasHub's embedder computes. */
function checkModules({modules, source}: HuggingFaceFiles): void {
  if (modules.length === 0) return;
  const kinds = modules.map(({kind}) => kind).join(', ');
  const known = [
    'Transformer, Pooling',
    'Transformer, Pooling, Normalize',
    'Transformer, Pooling, Dense, Dense, Normalize',
  ];
  const problems = known.includes(kinds) ? [] : [`modules ${kinds}`];
  for (const {kind, path, config} of modules) {
    if (kind === 'Pooling') poolingMode(config, path, problems);
    if (kind !== 'Dense') continue;
    const {bias, activation_function: activation, out_features: width} = config;
    if (bias !== false) problems.push(`${path}: bias=${show(bias)}, expected false`);
    if (typeof activation !== 'string' || !activation.endsWith('Identity')) {
      problems.push(`${path}: activation_function=${show(activation)}, expected Identity`);
    }
    if (!Number.isSafeInteger(width)) problems.push(`${path}: out_features=${show(width)}, expected a number`);
  }
  if (problems.length === 0) return;
  throw new ValueError(
    `Expected one of these lists of modules in "${source.name}/modules.json": ${known.join('; ')}, as ` +
      `Gemma3TextEmbedder computes them. Received: ${listed(problems)}.`,
  );
}

function poolingMode(config: JsonObject, path: string, problems: string[] = []): 'mean' | 'last' {
  const old = Object.keys(config).filter(key => key.startsWith('pooling_mode_') && config[key] === true);
  const modes = typeof config.pooling_mode === 'string' ? [config.pooling_mode] : old;
  if (modes.length === 1 && /^(pooling_mode_)?mean(_tokens)?$/.test(modes[0]!)) return 'mean';
  if (modes.length === 1 && /^(pooling_mode_)?last(_?token)?$/.test(modes[0]!)) return 'last';
  problems.push(`${path}: pooling ${modes.join(', ') || 'of no kind'}, expected the mean or the last token`);
  return 'mean';
}

/** The file with a chat template that is not Gemma's; null if there is none. */
async function foreignTemplate(files: HuggingFaceFiles): Promise<string | null> {
  const template = await files.chatTemplate();
  return template === null || (template.text !== null && isGemmaTemplate(template.text)) ? null : template.file;
}

async function tokenizer(files: HuggingFaceFiles): Promise<JsonObject> {
  const template = await foreignTemplate(files);
  const object = hubObject('Gemma3Tokenizer', {
    ...layer('gemma3_tokenizer', 'int32'),
    config_file: 'tokenizer.json',
    proto: null,
    sequence_length: null,
    add_bos: false,
    add_eos: false,
    has_vision_tokens: !pieceIds(await files.vocabulary(), VISION_PIECES).includes(-1),
  });
  return template === null ? object : {...object, foreign_chat_template: template};
}

/**
 * The tokens that end a text, if there are any besides Gemma's; null otherwise. Gemma's own always end it: exports
 * often list only `<eos>`, and an answer would continue after `<end_of_turn>`.
 */
async function stopTokenIds(files: HuggingFaceFiles): Promise<number[] | null> {
  const text = files.config.text_config;
  const given =
    (await files.json('generation_config.json'))?.eos_token_id ??
    files.config.eos_token_id ??
    (isObject(text) ? text.eos_token_id : undefined);
  const ids = [given ?? []].flat() as number[];
  if (ids.length === 0 || !ids.every(id => Number.isSafeInteger(id) && id >= 0)) return null;
  const usual = pieceIds(await files.vocabulary(), ['<eos>', END_OF_TURN]).filter(id => id >= 0);
  const others = ids.filter(id => !usual.includes(id));
  return others.length > 0 ? [...usual, ...others] : null;
}

async function preprocessor(files: HuggingFaceFiles): Promise<JsonObject | null> {
  if (!(await files.hasVocabulary())) return null;
  const shared = {tokenizer: await tokenizer(files), config_file: 'preprocessor.json'};
  if (isEmbedder(files)) {
    return hubObject('Gemma3TextEmbedderPreprocessor', {
      ...layer('gemma3_text_embedder_preprocessor', 'float32'),
      ...shared,
      sequence_length: await embedderLength(files),
      truncate: 'round_robin',
    });
  }
  const converter = await imageConverter(files);
  const tokens = files.config.mm_tokens_per_image ?? 256;
  return hubObject('Gemma3CausalLMPreprocessor', {
    ...layer('gemma3_causal_lm_preprocessor', 'float32'),
    tokenizer: shared.tokenizer,
    ...(converter && {image_converter: converter}),
    config_file: shared.config_file,
    sequence_length: 1024,
    add_start_token: true,
    add_end_token: true,
    num_vision_tokens_per_image: tokens,
    max_images_per_prompt: 2,
  });
}

async function task(files: HuggingFaceFiles): Promise<JsonObject> {
  const parts = {backbone: await backbone(files), preprocessor: await preprocessor(files)};
  if (!isEmbedder(files)) {
    const stops = parts.preprocessor && (await stopTokenIds(files));
    const object = hubObject('Gemma3CausalLM', {...parts, name: 'gemma3_causal_lm'});
    return stops ? {...object, stop_token_ids: stops} : object;
  }
  const pooling = files.modules.find(({kind}) => kind === 'Pooling')!;
  const settings = await files.json('config_sentence_transformers.json');
  const prompts = isObject(settings?.prompts) ? settings.prompts : {};
  const object = hubObject('Gemma3TextEmbedder', {
    ...parts,
    name: 'gemma3_text_embedder',
    pooling_mode: poolingMode(pooling.config, pooling.path),
    normalize: files.modules.some(({kind}) => kind === 'Normalize'),
  });
  const named = Object.keys(prompts).length > 0;
  return named ? {...object, prompts, default_prompt_name: settings?.default_prompt_name ?? null} : object;
}

/** The length to which sentence-transformers cuts a text, or KerasHub's. */
async function embedderLength(files: HuggingFaceFiles): Promise<number> {
  const length = (await files.json('sentence_bert_config.json'))?.max_seq_length;
  return Number.isSafeInteger(length) && (length as number) > 2 ? (length as number) : 256;
}

const PARTS: Record<CheckpointPart, (files: HuggingFaceFiles) => Promise<JsonObject | null>> = {
  backbone,
  task,
  preprocessor,
  imageConverter,
  tokenizer: async files => ((await files.hasVocabulary()) ? tokenizer(files) : null),
};

/** Buffers that transformers computes again, and SigLIP's head, which Gemma 3 does not use. */
const UNUSED =
  /(^|\.)(rotary_emb(_local)?\.\w*inv_freq|embeddings\.position_ids|embed_scale|vision_tower\.(vision_model\.)?head\..+)$/;

/** Gemma 3 in folders of transformers and sentence-transformers. */
export const gemma3HuggingFaceModel: HuggingFaceModel = {
  classes: {backbone: 'Gemma3Backbone', tokenizer: 'Gemma3Tokenizer'},
  modelTypes: ['gemma3', 'gemma3_text'],
  part: (part, files) => PARTS[part](files) as ReturnType<HuggingFaceModel['part']>,
  names: files => {
    const vision = hasVision(files);
    return {
      tensorOf: weight => huggingFaceTensor(weight, vision),
      namesOf: name => namesInVersions(name, vision),
      isUnused: name => UNUSED.test(name),
      tied: {
        tensor: 'lm_head.weight',
        equals: vision ? 'model.language_model.embed_tokens.weight' : 'model.embed_tokens.weight',
      },
    };
  },
  write: async parts => (await import('./huggingface_written')).writtenFolder(parts),
};
