/**
 * The contents of a transformers folder for a Gemma 3 model, apart from weights: the counterpart of
 * `huggingface_parts.ts`.
 */
import {ValueError} from '../../../base/errors';
import {isObject, type JsonObject} from '../../../base/json';
import {type NamedWeight} from '../../../checkpoints/foreign_names';
import {CHAT_TEMPLATE, MODULES, SPECIAL_TOKENS, TOKENIZER_CONFIG} from '../../../checkpoints/huggingface/file_names';
import {type WrittenFolder, type WrittenParts} from '../../../checkpoints/huggingface/models';
import {END_OF_TURN, START_OF_TURN} from '../../../tokenizers/chat_template';
import {GEMMA_TEMPLATE} from '../../../tokenizers/gemma_template';
import {parseSentencePieceProto, pieceIds} from '../../../tokenizers/sentence_piece_proto';
import {IMAGE_TOKEN} from '../../../tokenizers/tokenizer_json';
import {addedTokens, type VocabularyNotes} from '../../../tokenizers/write_tokenizer_json';
import {huggingFaceTensor} from './huggingface';
import {imageFiles} from './huggingface_images';
import {GOOGLE_IDS, type NamedIds, visionOf, writtenConfig} from './huggingface_written_config';

const START_OF_IMAGE = '<start_of_image>';
const END_OF_IMAGE = '<end_of_image>';

/** Which of transformers' classes a model is. */
type Kind = 'text' | 'vision' | 'embedder';

const ARCHITECTURES: Record<Kind, string> = {
  text: 'Gemma3ForCausalLM',
  vision: 'Gemma3ForConditionalGeneration',
  embedder: 'Gemma3TextModel',
};

/** @throws ValueError for an embedder with a vision encoder, which sentence-transformers does not have. */
function kindOf({backbone, task, preprocessor, imageConverter}: WrittenParts): Kind {
  const embeds =
    backbone?.config.is_embedding_model === true ||
    task?.class_name === 'Gemma3TextEmbedder' ||
    preprocessor?.class_name === 'Gemma3TextEmbedderPreprocessor';
  const vision = backbone ? visionOf(backbone.config) !== undefined : imageConverter !== null;
  if (!embeds) return vision ? 'vision' : 'text';
  if (!vision) return 'embedder';
  throw new ValueError(
    'Expected a text-only embedder for the layout of sentence-transformers. Received: one with a vision encoder. ' +
      'Load it with visionEncoder: null first.',
  );
}

/**
 * The name of a tensor as in the files that Google publishes, which all versions of transformers read. Newer versions
 * have other names for the modules of a model with vision, but save under these.
 */
function publishedName(name: string, kind: Kind): string {
  if (name.includes('/') || kind === 'text') return name;
  if (kind === 'embedder') return name.replace(/^model\./, '');
  return name.replace(/^model\.language_model\./, 'language_model.model.').replace(/^model\./, '');
}

/** The tokens of a vocabulary that files name, and their ids. */
interface Vocabulary {
  readonly ids: NamedIds;
  readonly endOfTurn: number;
  readonly hasTurns: boolean;
}

function readVocabulary(proto: Uint8Array | null): Vocabulary {
  if (!proto) return {ids: GOOGLE_IDS, endOfTurn: 106, hasTurns: false};
  const names = ['<bos>', '<eos>', '<pad>', START_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN, START_OF_TURN, END_OF_TURN];
  const [bos, eos, pad, startOfImage, endOfImage, own, startOfTurn, endOfTurn] = pieceIds(proto, names) as [
    ...[number, number, number, number, number, number, number, number],
  ];
  const image = own >= 0 ? own : parseSentencePieceProto(proto).starts.length;
  return {
    ids: {bos, eos, pad, startOfImage, endOfImage, image},
    endOfTurn,
    hasTurns: startOfTurn >= 0 && endOfTurn >= 0,
  };
}

/** The tokens that end a text: those of the task, or Gemma's. */
function stopsOf({task}: WrittenParts, {ids, endOfTurn}: Vocabulary): number[] {
  const stops = task?.stop_token_ids;
  return Array.isArray(stops) ? (stops as number[]) : [ids.eos, endOfTurn].filter(id => id >= 0);
}

/**
 * The chat template: the one that the model came with, or Gemma's for a vocabulary with turns. If the template is known
 * to be a different one, but is not available, none is written.
 */
function templateOf({chatTemplate, tokenizer}: WrittenParts, {hasTurns}: Vocabulary): string | null {
  if (chatTemplate !== undefined) return chatTemplate;
  const foreign = tokenizer?.foreign_chat_template;
  if (typeof foreign !== 'string') return hasTurns ? GEMMA_TEMPLATE : null;
  console.warn(
    `The chat template of this model was in ${foreign}, and is not Gemma's. It is not in the preset, so the folder ` +
      'has none. Add it there, or convert the files from which the preset was made.',
  );
  return null;
}

/** What the tokenizer's files contain besides the vocabulary. */
function notesOf(proto: Uint8Array, {ids}: Vocabulary, kind: Kind): VocabularyNotes {
  const isNew = ids.image >= parseSentencePieceProto(proto).starts.length;
  return {
    special: [START_OF_TURN, END_OF_TURN, START_OF_IMAGE, END_OF_IMAGE, IMAGE_TOKEN],
    added: kind === 'vision' && isNew ? [{id: ids.image, content: IMAGE_TOKEN}] : [],
    before: ['<bos>'],
    after: kind === 'embedder' ? ['<eos>'] : [],
  };
}

const IMAGE_TOKENS = {boi_token: START_OF_IMAGE, eoi_token: END_OF_IMAGE, image_token: IMAGE_TOKEN};

function tokenizerFiles(
  proto: Uint8Array,
  notes: VocabularyNotes,
  kind: Kind,
  template: string | null,
): [string, JsonObject | string][] {
  const named = {bos_token: '<bos>', eos_token: '<eos>', pad_token: '<pad>', unk_token: '<unk>'};
  const plain = {lstrip: false, normalized: false, rstrip: false, single_word: false};
  const images = kind === 'vision' ? IMAGE_TOKENS : {};
  const added = addedTokens(proto, notes).map(({id, ...token}) => [String(id), token] as const);
  const config: JsonObject = {
    tokenizer_class: 'GemmaTokenizer',
    ...named,
    ...images,
    ...(kind === 'vision' && {extra_special_tokens: IMAGE_TOKENS, processor_class: 'Gemma3Processor'}),
    add_bos_token: true,
    add_eos_token: kind === 'embedder',
    added_tokens_decoder: Object.fromEntries(added),
    clean_up_tokenization_spaces: false,
    // Python's value for "no limit".
    model_max_length: 1e30,
    spaces_between_special_tokens: false,
    use_default_system_prompt: false,
    ...(template !== null && {chat_template: template}),
  };
  const objects = Object.entries(named).map(([name, content]) => [name, {content, ...plain}] as const);
  return [
    [TOKENIZER_CONFIG, config],
    [SPECIAL_TOKENS, {...Object.fromEntries(objects), ...images}],
    // Versions before 4.52 read it from tokenizer_config.json.
    ...(template === null ? [] : ([[CHAT_TEMPLATE, template]] as [string, string][])),
  ];
}

/** The files of sentence-transformers. */
function embedderFiles({task, preprocessor}: WrittenParts, config: JsonObject): [string, JsonObject | JsonObject[]][] {
  const width = config.hidden_dim!;
  const dense = config.is_embedding_model === true;
  // A backbone with dense layers always pools the mean and normalizes.
  const mean = dense || task?.config.pooling_mode === 'mean';
  const normalizes = dense || task?.config.normalize !== false;
  const [between, output] = [config.pooling_intermediate_dim!, config.embedding_dim!];
  const kinds = ['Transformer', 'Pooling', ...(dense ? ['Dense', 'Dense'] : []), ...(normalizes ? ['Normalize'] : [])];
  const modules = kinds.map((kind, i) => ({
    ...{idx: i, name: String(i), path: i === 0 ? '' : `${i}_${kind}`},
    type: `sentence_transformers.models.${kind}`,
  }));
  const layer = (inputs: JsonObject[string], outputs: JsonObject[string]) => ({
    ...{in_features: inputs, out_features: outputs, bias: false},
    activation_function: 'torch.nn.modules.linear.Identity',
  });
  const length = preprocessor?.config.sequence_length;
  return [
    [MODULES, modules],
    [
      '1_Pooling/config.json',
      {
        word_embedding_dimension: width,
        pooling_mode_cls_token: false,
        pooling_mode_mean_tokens: mean,
        pooling_mode_max_tokens: false,
        pooling_mode_mean_sqrt_len_tokens: false,
        pooling_mode_weightedmean_tokens: false,
        pooling_mode_lasttoken: !mean,
        include_prompt: true,
      },
    ],
    ...(dense
      ? ([
          ['2_Dense/config.json', layer(width, between)],
          ['3_Dense/config.json', layer(between, output)],
        ] as [string, JsonObject][])
      : []),
    ['sentence_bert_config.json', {max_seq_length: length ?? 256, do_lower_case: false}],
    [
      'config_sentence_transformers.json',
      {
        model_type: 'SentenceTransformer',
        prompts: isObject(task?.prompts) ? task.prompts : {},
        default_prompt_name: task?.default_prompt_name ?? null,
        similarity_fn_name: 'cosine',
      },
    ],
  ];
}

/** As `HuggingFaceModel.write`. */
export async function writtenFolder(parts: WrittenParts): Promise<WrittenFolder> {
  const {backbone, vocabulary: proto} = parts;
  const kind = kindOf(parts);
  const vocabulary = readVocabulary(proto);
  const notes = proto && notesOf(proto, vocabulary, kind);
  const template = kind === 'embedder' || !proto ? null : templateOf(parts, vocabulary);
  return {
    names: {
      tensorOf: (weight: NamedWeight) => {
        const tensor = huggingFaceTensor(weight, kind === 'vision');
        return {...tensor, name: publishedName(tensor.name, kind)};
      },
    },
    files: new Map<string, JsonObject | JsonObject[] | string>([
      ...(backbone ? modelFiles(parts, backbone.config, kind, vocabulary) : []),
      ...(proto && notes ? tokenizerFiles(proto, notes, kind, template) : []),
    ]),
    notes,
  };
}

function modelFiles(
  parts: WrittenParts,
  backbone: JsonObject,
  kind: Kind,
  vocabulary: Vocabulary,
): [string, JsonObject | JsonObject[]][] {
  const {ids} = vocabulary;
  const stops = stopsOf(parts, vocabulary);
  const config = writtenConfig(backbone, ARCHITECTURES[kind], ids, stops, dtypeOf(backbone));
  const generation = {bos_token_id: ids.bos, eos_token_id: stops, pad_token_id: ids.pad};
  return [
    ['config.json', config],
    ...(kind === 'embedder'
      ? embedderFiles(parts, backbone)
      : [['generation_config.json', generation] as [string, JsonObject]]),
    ...(kind === 'vision' ? imageFiles(parts, config) : []),
  ];
}

/** The dtype of the weights: arithmetic of a mixed policy is in 16 bits, but its weights are not. */
function dtypeOf({dtype}: JsonObject): string {
  const name = isObject(dtype) && isObject(dtype.config) ? dtype.config.name : dtype;
  return name === 'bfloat16' || name === 'float16' ? name : 'float32';
}
