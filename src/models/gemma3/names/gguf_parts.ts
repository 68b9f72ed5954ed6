/** Tasks, preprocessors and image converters of KerasHub from the metadata of GGUF files. */
import {type JsonObject} from '../../../base/json';
import {type CheckpointPart} from '../../../checkpoints/checkpoint';
import {CHAT_TEMPLATE, Metadata} from '../../../checkpoints/gguf/metadata';
import {type GgufFiles, type GgufModel, type WrittenFile, type WrittenParts} from '../../../checkpoints/gguf/models';
import {dtypePolicy, hubObject} from '../../../checkpoints/keras/objects';
import {type SerializedObject} from '../../../checkpoints/keras/serialized';
import {type GgufFile} from '../../../formats/gguf';
import {END_OF_TURN, isGemmaTemplate} from '../../../tokenizers/chat_template';
import {ggufTensor} from './gguf';
import {
  backboneConfig,
  denseWidths,
  EMBEDDING_ARCHITECTURE,
  OWN,
  POOLING,
  textMetadata,
  visionMetadata,
} from './gguf_config';
import {fromOllama} from './gguf_ollama';
import {addTextMetadata, addVisionMetadata, checkWritable} from './gguf_metadata';

const named = (name: string, dtype: string): JsonObject => ({name, trainable: true, dtype: dtypePolicy(dtype)});

/** An embedder, possibly around a causal model: files of language models name no pooling. */
function isEmbedder(files: GgufFiles): boolean {
  const {metadata, architecture} = textMetadata(files);
  return architecture === EMBEDDING_ARCHITECTURE || metadata.number('pooling_type', 0) in POOLING;
}

const backbone = (files: GgufFiles) => hubObject('Gemma3Backbone', backboneConfig(files));

function tokenizer({name, model, vision}: GgufFiles): JsonObject {
  const all = new Metadata(name, model.metadata);
  const foreign = all.has(CHAT_TEMPLATE) && !isGemmaTemplate(all.text(CHAT_TEMPLATE));
  const object = hubObject('Gemma3Tokenizer', {
    ...named('gemma3_tokenizer', 'int32'),
    config_file: 'tokenizer.json',
    proto: null,
    sequence_length: null,
    add_bos: false,
    add_eos: false,
    has_vision_tokens: vision !== null,
  });
  return foreign ? {...object, foreign_chat_template: CHAT_TEMPLATE} : object;
}

function preprocessor(files: GgufFiles): JsonObject {
  if (isEmbedder(files)) {
    return hubObject('Gemma3TextEmbedderPreprocessor', {
      ...named('gemma3_text_embedder_preprocessor', 'float32'),
      tokenizer: tokenizer(files),
      config_file: 'preprocessor.json',
      sequence_length: 256,
      truncate: 'round_robin',
    });
  }
  const converter = imageConverter(files);
  return hubObject('Gemma3CausalLMPreprocessor', {
    ...named('gemma3_causal_lm_preprocessor', 'float32'),
    tokenizer: tokenizer(files),
    ...(converter && {image_converter: converter}),
    config_file: 'preprocessor.json',
    sequence_length: 1024,
    add_start_token: true,
    add_end_token: true,
    num_vision_tokens_per_image: files.vision ? tokensPerImage(files) : 256,
    max_images_per_prompt: 2,
  });
}

function tokensPerImage(files: GgufFiles): number {
  const metadata = visionMetadata(files);
  const patches = Math.floor(metadata.size('image_size') / metadata.size('patch_size'));
  return Math.floor(patches / metadata.size('projector.scale_factor', 4)) ** 2;
}

/**
 * The image converter. The file has mean and standard deviation only; resizing is that of the image processor of
 * transformers, with which the model was converted.
 */
function imageConverter(files: GgufFiles): JsonObject | null {
  if (!files.vision) return null;
  const metadata = visionMetadata(files);
  const size = metadata.size('image_size');
  const [mean, std] = [metadata.numbers('image_mean', 3), metadata.numbers('image_std', 3)];
  if (std.some(value => value <= 0)) throw metadata.invalid('image_std', 'numbers above 0');
  return hubObject('Gemma3ImageConverter', {
    ...named('gemma3_image_converter', 'float32'),
    image_size: [size, size],
    scale: std.map(value => 1 / 255 / value),
    offset: mean.map((value, i) => -value / std[i]!),
    interpolation: 'bilinear',
    antialias: true,
    crop_to_aspect_ratio: false,
    pad_to_aspect_ratio: false,
    bounding_box_format: 'yxyx',
  });
}

function task(files: GgufFiles): JsonObject {
  const parts = {backbone: backbone(files), preprocessor: preprocessor(files)};
  if (!isEmbedder(files)) {
    const stops = stopTokenIds(files);
    const object = hubObject('Gemma3CausalLM', {...parts, name: 'gemma3_causal_lm'});
    return stops ? {...object, stop_token_ids: stops} : object;
  }
  const {metadata} = textMetadata(files);
  const pooling = POOLING[metadata.number('pooling_type', 1)];
  if (pooling === undefined) throw metadata.invalid('pooling_type', '1, the mean, or 3, the last token,');
  const own = new Metadata(files.name, files.model.metadata);
  const normalize = own.flag(OWN.normalize, true);
  const name = 'gemma3_text_embedder';
  const object = hubObject('Gemma3TextEmbedder', {...parts, name, pooling_mode: pooling, normalize});
  return own.has(OWN.promptNames) ? {...object, ...promptsOf(own)} : object;
}

function promptsOf(own: Metadata): JsonObject {
  const [names, texts] = [own.texts(OWN.promptNames), own.texts(OWN.prompts)];
  if (names.length !== texts.length) throw own.invalid(OWN.prompts, `${names.length} texts`);
  const entries = Array.from({length: names.length}, (_, i) => [names.at(i), texts.at(i)] as const);
  const usual = own.has(OWN.defaultPromptName) ? own.text(OWN.defaultPromptName) : null;
  return {prompts: Object.fromEntries(entries), default_prompt_name: usual};
}

const PARTS: Record<CheckpointPart, (files: GgufFiles) => JsonObject | null> = {
  backbone,
  task,
  preprocessor,
  imageConverter,
  tokenizer,
};

/**
 * Tensors under their current names. The first converter of vision encoders for llama.cpp, of which many files exist,
 * swapped the two layers of a feed-forward network. Their shapes reveal it.
 */
function currentNames({tensors}: GgufFile): Map<string, string> {
  const names = new Map([...tensors.keys()].map(name => [name, name]));
  const [rows = 0, columns = 0] = tensors.get('v.blk.0.ffn_down.weight')?.shape ?? [];
  const patches = tensors.get('v.position_embd.weight')?.shape;
  if (patches === undefined || rows === columns || columns !== patches[1]) return names;
  for (const name of tensors.keys()) {
    const found = /^(v\.blk\.\d+\.ffn_)(up|down)(\.(?:weight|bias))$/.exec(name);
    if (found) names.set(name, `${found[1]}${found[2] === 'up' ? 'down' : 'up'}${found[3]}`);
  }
  return names;
}

/** Whether the projection of a vision encoder is as wide as the embeddings of a language model. */
const fitsVision = (text: GgufFile, vision: GgufFile): boolean =>
  vision.tensors.get('mm.input_projection.weight')?.shape[1] === text.tensors.get('token_embd.weight')?.shape[1];

/** Warnings for users about a file. */
function warnings(files: GgufFiles): string[] {
  if (textMetadata(files).architecture !== EMBEDDING_ARCHITECTURE || denseWidths(files) !== null) return [];
  return [
    `"${files.name}" has no dense layers after the pooling: its embeddings are those of llama.cpp without them, and not ` +
      "those of EmbeddingGemma. For these, use a file that was converted with llama.cpp's " +
      '--sentence-transformers-dense-modules.',
  ];
}

/** Kinds of tokens that end a text, a turn or a message. */
const STOPS = ['eos', 'eot', 'eom'];

/**
 * The tokens that end a text, if there are any besides Gemma's; null otherwise. Gemma's own always end it: files often
 * name only one of them.
 */
function stopTokenIds({name, model}: GgufFiles): number[] | null {
  const ggml = new Metadata(name, model.metadata, 'tokenizer.ggml.');
  if (!ggml.has('tokens')) return null;
  const tokens = ggml.texts('tokens');
  const given = STOPS.map(kind => `${kind}_token_id`).filter(key => ggml.has(key));
  const ids = given.map(key => {
    const id = ggml.number(key);
    if (Number.isInteger(id) && id >= 0 && id < tokens.length) return id;
    throw ggml.invalid(key, `an id below ${tokens.length}`);
  });
  const others = ids.filter(id => tokens.at(id) !== '<eos>' && tokens.at(id) !== END_OF_TURN);
  if (others.length === 0) return null;
  const usual = Array.from({length: tokens.length}, (_, id) => id).filter(
    id => [5, END_OF_TURN.length].includes(tokens.bytesOf(id).length) && ['<eos>', END_OF_TURN].includes(tokens.at(id)),
  );
  return [...new Set([...usual, ...others])];
}

const isVision = (tensor: string) => /^(v|mm)\./.test(tensor);

/** The text model, and the vision encoder in a separate file. */
function filesOf(parts: WrittenParts): WrittenFile[] {
  checkWritable(parts);
  const text: WrittenFile = {
    vision: false,
    holds: tensor => !isVision(tensor),
    addMetadata: (file, fileType) => addTextMetadata(file, parts, fileType),
    keepsFloats: () => false,
  };
  if (!parts.backbone.config.vision_encoder) return [text];
  const vision: WrittenFile = {
    vision: true,
    holds: isVision,
    addMetadata: (file, fileType) => addVisionMetadata(file, parts, fileType),
    // Not all backends of llama.cpp support these in 16 bits, and they are small.
    keepsFloats: tensor => /^v\.(patch|position)_embd|^mm\.input_projection/.test(tensor),
  };
  return [text, vision];
}

/** Gemma 3 in GGUF files. */
export const gemma3GgufModel: GgufModel = {
  architectures: ['gemma3', EMBEDDING_ARCHITECTURE],
  projector: 'gemma3',
  part: (part, files) => PARTS[part](files) as SerializedObject | null,
  translated: fromOllama,
  fitsVision,
  warnings,
  tensorOf: ggufTensor,
  adapts: tensor => tensor.startsWith('blk.'),
  writes: 'Gemma3Backbone',
  filesOf,
  tied: {tensor: 'output.weight', equals: 'token_embd.weight'},
  currentNames,
};
