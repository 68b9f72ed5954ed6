/** The JSON files and the vocabulary of a Hugging Face folder. Each is read once, when it is first needed. */
import {type PresetSource, readAll} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {isObject, type Json, type JsonObject, readJson} from '../../base/json';
import {addTokens, type AddedToken, protoOfTokenizerJson} from '../../tokenizers/tokenizer_json';
import {CHAT_TEMPLATE, CONFIG_FILE, MODULES, TOKENIZER_CONFIG, TOKENIZER_JSON, TOKENIZER_MODEL} from './file_names';
import {type HuggingFaceFiles, type SentenceModule} from './models';

const ADDED_TOKENS = 'added_tokens.json';
const ADAPTER = 'adapter_config.json';

export class HuggingFaceFolder implements HuggingFaceFiles {
  private readonly read = new Map<string, Promise<Json | null>>();
  private proto: Promise<Uint8Array> | undefined;

  private constructor(
    readonly source: PresetSource,
    private readonly configuration: JsonObject | null,
    readonly modules: readonly SentenceModule[],
  ) {}

  static async open(source: PresetSource): Promise<HuggingFaceFolder> {
    const config = (await source.has(CONFIG_FILE)) ? await readJson(source, CONFIG_FILE) : null;
    if (config !== null && !isObject(config)) {
      throw new ValueError(`Expected an object in "${source.name}/${CONFIG_FILE}". Received: ${show(config)}.`);
    }
    if (config === null && (await source.has(ADAPTER))) {
      throw new ValueError(
        `Expected a model in "${source.name}". Received: an adapter of PEFT. Load its base model, and pass the folder to ` +
          '`backbone.importPeftAdapter`.',
      );
    }
    return new HuggingFaceFolder(source, config, await readModules(source));
  }

  get config(): JsonObject {
    if (this.configuration) return this.configuration;
    throw new ValueError(
      `Expected "${CONFIG_FILE}" in "${this.source.name}". Received: a folder without it. Fetch the folder again.`,
    );
  }

  private value(path: string): Promise<Json | null> {
    const known = this.read.get(path);
    if (known) return known;
    const reading = this.source.has(path).then(has => (has ? readJson(this.source, path) : null));
    this.read.set(path, reading);
    return reading;
  }

  async json(path: string): Promise<JsonObject | null> {
    const value = await this.value(path);
    if (value === null || isObject(value)) return value;
    throw new ValueError(`Expected an object in "${this.source.name}/${path}". Received: ${show(value)}.`);
  }

  async text(path: string): Promise<string | null> {
    return (await this.source.has(path)) ? new TextDecoder().decode(await readAll(this.source, path)) : null;
  }

  /** The chat template and its file; null if there is none. */
  async chatTemplate(): Promise<{file: string; text: string | null} | null> {
    const jinja = await this.text(CHAT_TEMPLATE);
    if (jinja !== null) return {file: CHAT_TEMPLATE, text: jinja};
    for (const file of ['chat_template.json', TOKENIZER_CONFIG]) {
      const template = (await this.json(file))?.chat_template;
      // If there are several templates, they have names, and transformers uses "default" unless told otherwise.
      const named = Array.isArray(template)
        ? template.find(entry => isObject(entry) && entry.name === 'default')
        : undefined;
      const text = isObject(named) ? named.template : template;
      if (text !== undefined && text !== null) return {file, text: typeof text === 'string' ? text : null};
    }
    return null;
  }

  async hasVocabulary(): Promise<boolean> {
    return (await this.source.has(TOKENIZER_MODEL)) || (await this.source.has(TOKENIZER_JSON));
  }

  /** @throws ValueError if there is no tokenizer, or it is not one that SentencePiece can express. */
  vocabulary(): Promise<Uint8Array> {
    return (this.proto ??= this.readVocabulary());
  }

  private async readVocabulary(): Promise<Uint8Array> {
    const {source} = this;
    if (await source.has(TOKENIZER_MODEL)) {
      return addTokens(await readAll(source, TOKENIZER_MODEL), await this.addedTokens(), source.name);
    }
    if (await source.has(TOKENIZER_JSON)) {
      return protoOfTokenizerJson(await readJson(source, TOKENIZER_JSON), `${source.name}/${TOKENIZER_JSON}`);
    }
    throw new ValueError(
      `Expected "${TOKENIZER_MODEL}" or "${TOKENIZER_JSON}" in "${source.name}". Received neither. Fetch the folder ` +
        'again, or pass `preprocessor: null` for a model that takes token ids.',
    );
  }

  /** Tokens that were added to those of `tokenizer.model`, or that replaced some of them. */
  private async addedTokens(): Promise<AddedToken[]> {
    const decoder = (await this.json(TOKENIZER_CONFIG))?.added_tokens_decoder;
    if (isObject(decoder)) {
      return Object.entries(decoder).flatMap(([id, token]) => tokenOf(Number(id), isObject(token) && token.content));
    }
    const added = await this.json(ADDED_TOKENS);
    if (added) return Object.entries(added).flatMap(([content, id]) => tokenOf(id, content));
    const tokens = (await this.json(TOKENIZER_JSON))?.added_tokens;
    return Array.isArray(tokens)
      ? tokens.flatMap(token => (isObject(token) ? tokenOf(token.id, token.content) : []))
      : [];
  }
}

const tokenOf = (id: unknown, content: unknown): AddedToken[] =>
  Number.isSafeInteger(id) && typeof content === 'string' ? [{id: id as number, content}] : [];

/** @throws ValueError if there is a `modules.json` that cannot be read. */
async function readModules(source: PresetSource): Promise<SentenceModule[]> {
  if (!(await source.has(MODULES))) return [];
  const list = await readJson(source, MODULES);
  const modules: SentenceModule[] = [];
  for (const module of Array.isArray(list) ? list : [list]) {
    const {type, path} = isObject(module) ? module : {};
    // A folder inside this one: the names come from a file.
    if (typeof type !== 'string' || typeof path !== 'string' || !/^$|^\w[\w.-]*$/.test(path)) {
      throw new ValueError(
        `Expected modules with type and path in "${source.name}/${MODULES}". Received: ${show(module)}.`,
      );
    }
    const file = `${path}/${CONFIG_FILE}`;
    const config = path !== '' && (await source.has(file)) ? await readJson(source, file) : {};
    modules.push({kind: type.slice(type.lastIndexOf('.') + 1), path, config: isObject(config) ? config : {}});
  }
  return modules;
}
