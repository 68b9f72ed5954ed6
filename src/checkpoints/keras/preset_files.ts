/** The JSON files and the vocabulary of a Keras preset. Folders in the tfjs format have them too. */
import {type PresetSource, readAll} from '../../base/byte_source';
import {isObject} from '../../base/json';
import {type CheckpointPart} from '../checkpoint';
import {isSerialized, readSerialized, type SerializedObject} from './serialized';

export const VOCABULARY_FILE = 'vocabulary.spm';
export const VOCABULARY = `assets/tokenizer/${VOCABULARY_FILE}`;

/** The file of each part. */
export const PART_FILES: Readonly<Record<CheckpointPart, string>> = {
  backbone: 'config.json',
  task: 'task.json',
  preprocessor: 'preprocessor.json',
  imageConverter: 'image_converter.json',
  tokenizer: 'tokenizer.json',
};

/** Parts whose files `convertPreset` writes next to the weights. */
export const COMPANION_PARTS = ['task', 'preprocessor', 'tokenizer', 'imageConverter'] as const;

/** Files that `convertPreset` copies. */
const COMPANIONS = [...COMPANION_PARTS.map(part => PART_FILES[part]), VOCABULARY];

/** Whether a file belongs to a preset, apart from its weights. */
export const isPresetFile = (path: string): boolean =>
  [...Object.values(PART_FILES), 'metadata.json', 'task.weights.h5', VOCABULARY].includes(path);

/** Reads the files of a preset without keeping them open. */
export class PresetFiles {
  constructor(protected readonly source: PresetSource) {}

  get name(): string {
    return this.source.name;
  }

  /** See `Checkpoint.config`. */
  async config(part: CheckpointPart, className?: string): Promise<SerializedObject | null> {
    const path = PART_FILES[part];
    if (part === 'backbone' || (await this.source.has(path))) return readSerialized(this.source, path, className);
    return part === 'imageConverter' ? this.converterOfPreprocessor(className) : null;
  }

  /** The image converter from the preprocessor's configuration, because older presets have no separate file for it. */
  private async converterOfPreprocessor(className = 'Gemma3ImageConverter'): Promise<SerializedObject | null> {
    const preprocessor = await this.config('preprocessor');
    const found = preprocessor?.config.image_converter;
    if (isSerialized(found)) return found;
    return isObject(found) ? {class_name: className, config: found} : null;
  }

  async vocabulary(): Promise<Uint8Array> {
    return readAll(this.source, VOCABULARY);
  }

  async *companions(): AsyncGenerator<{path: string; bytes: Uint8Array}> {
    for (const path of COMPANIONS) {
      if (await this.source.has(path)) yield {path, bytes: await readAll(this.source, path)};
    }
  }

  async close(): Promise<void> {}
}
