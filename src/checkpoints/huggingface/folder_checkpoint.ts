/** An open Hugging Face folder. Loaded with the first of them. */
import {type PresetSource, readAll} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {type Checkpoint, type CheckpointPart} from '../checkpoint';
import {COMPANION_PARTS, PART_FILES, VOCABULARY} from '../keras/preset_files';
import {checkClass, type SerializedObject} from '../keras/serialized';
import {type StoredWeights} from '../stored_weights';
import {COMPANIONS, CONFIG_FILE, weightFile} from './file_names';
import {HuggingFaceFolder} from './files';
import {type HuggingFaceModel, huggingFaceModels} from './models';
import {openHuggingFaceWeights} from './read_weights';

export class HuggingFaceCheckpoint implements Checkpoint {
  readonly format = 'huggingface';
  readonly title = 'Hugging Face safetensors';
  private files: Promise<HuggingFaceFolder> | undefined;

  constructor(private readonly source: PresetSource) {}

  get name(): string {
    return this.source.name;
  }

  private folder(): Promise<HuggingFaceFolder> {
    return (this.files ??= HuggingFaceFolder.open(this.source));
  }

  /** @throws ValueError naming the architecture, if the folder holds a different model. */
  private async model(): Promise<{model: HuggingFaceModel; files: HuggingFaceFolder}> {
    const files = await this.folder();
    const {model_type: type, architectures} = files.config;
    const models = await huggingFaceModels();
    const model = models.find(({modelTypes}) => modelTypes.some(known => known === type));
    if (model) return {model, files};
    const [architecture] = Array.isArray(architectures) ? architectures : [];
    throw new ValueError(
      `Expected a model of one of these types in "${this.name}/${CONFIG_FILE}": ${models.flatMap(({modelTypes}) => modelTypes).join(', ')}. ` +
        `Received: ${JSON.stringify(type ?? null)}${architecture === undefined ? '' : `, ${String(architecture)}`}, which ` +
        'this package does not have.',
    );
  }

  async config(part: CheckpointPart, className?: string): Promise<SerializedObject | null> {
    if (part === 'tokenizer' && !(await this.source.has(CONFIG_FILE))) {
      // Only a tokenizer: the arguments of its class have defaults.
      return null;
    }
    const {model, files} = await this.model();
    const found = await model.part(part, files);
    if (found) checkClass(found, `${this.name}/${CONFIG_FILE}`, className);
    return found;
  }

  async vocabulary(): Promise<Uint8Array> {
    return (await this.folder()).vocabulary();
  }

  async hasWeights(): Promise<boolean> {
    return (await weightFile(this.source)) !== undefined;
  }

  async weights(): Promise<StoredWeights> {
    const {model, files} = await this.model();
    return openHuggingFaceWeights(this.source, model.names(files), files.modules);
  }

  async *companions(): AsyncGenerator<{path: string; bytes: Uint8Array}> {
    const encoder = new TextEncoder();
    for (const part of COMPANION_PARTS) {
      const object = await this.config(part);
      if (object) yield {path: PART_FILES[part], bytes: encoder.encode(JSON.stringify(object, null, 4))};
    }
    const files = await this.folder();
    if (await files.hasVocabulary()) yield {path: VOCABULARY, bytes: await files.vocabulary()};
  }

  async *originals(): AsyncGenerator<{path: string; bytes: Uint8Array}> {
    const {modules} = await this.folder();
    const inside = modules.flatMap(({path}) => (path === '' ? [] : [`${path}/${CONFIG_FILE}`]));
    for (const path of [...COMPANIONS, ...inside]) {
      if (await this.source.has(path)) yield {path, bytes: await readAll(this.source, path)};
    }
  }

  async chatTemplate(): Promise<string | null> {
    return (await (await this.folder()).chatTemplate())?.text ?? null;
  }

  async close(): Promise<void> {}
}
