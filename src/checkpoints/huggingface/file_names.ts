/** Names of the files in a Hugging Face folder. */
import {type PresetSource} from '../../base/byte_source';

export const CONFIG_FILE = 'config.json';
export const TOKENIZER_MODEL = 'tokenizer.model';
export const TOKENIZER_JSON = 'tokenizer.json';

export const WEIGHTS_FILE = 'model.safetensors';
export const INDEX_FILE = 'model.safetensors.index.json';

export const TOKENIZER_CONFIG = 'tokenizer_config.json';
export const SPECIAL_TOKENS = 'special_tokens_map.json';
export const CHAT_TEMPLATE = 'chat_template.jinja';
export const MODULES = 'modules.json';

/** The files of a folder apart from weights, and those of its modules. */
export const COMPANIONS = [
  ...[CONFIG_FILE, 'generation_config.json', TOKENIZER_MODEL, TOKENIZER_JSON, TOKENIZER_CONFIG, SPECIAL_TOKENS],
  ...['added_tokens.json', CHAT_TEMPLATE, 'chat_template.json', 'processor_config.json', 'preprocessor_config.json'],
  ...[MODULES, 'sentence_bert_config.json', 'config_sentence_transformers.json'],
];

/** The folder of a module of sentence-transformers, such as `2_Dense/config.json`. */
const IN_MODULE = /^\d+_[A-Z][A-Za-z]*\/(config\.json|model\.safetensors)$/;

/** Whether a file of a folder, apart from weights, is read with a model there. */
export const isCompanion = (path: string): boolean => COMPANIONS.includes(path) || IN_MODULE.test(path);

/** Weights as pickled Python objects, which can contain programs. */
const PICKLED = ['pytorch_model.bin', 'pytorch_model.bin.index.json'];

/** The weight file that a folder has; undefined if there is none. */
export async function weightFile(source: PresetSource): Promise<string | undefined> {
  for (const file of [WEIGHTS_FILE, INDEX_FILE, ...PICKLED]) if (await source.has(file)) return file;
  return undefined;
}
