/** `.keras` archives, as `model.save('x.keras')` of Keras writes them: a backbone, or a task with its preprocessor. */
import {type ByteSource, type PresetSource, readAll} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {isObject} from '../../base/json';
import {ZipFile} from '../../formats/zip';
import {type Checkpoint, type CheckpointPart} from '../checkpoint';
import {type StoredWeights} from '../stored_weights';
import {archiveIn} from './archive_names';
import {companionsOf} from './companions';
import {VOCABULARY_FILE} from './preset_files';
import {checkClass, isSerialized, readSerialized, type SerializedObject} from './serialized';
import {WEIGHTS_FILE} from './weight_files';

const CONFIG_FILE = 'config.json';

class KerasArchive implements Checkpoint {
  readonly format = 'keras';
  readonly title = 'Keras archive';
  private root: Promise<SerializedObject> | undefined;

  constructor(
    readonly name: string,
    private readonly file: ByteSource,
    private readonly zip: ZipFile,
  ) {}

  /** The files of the archive. They are read from it, so closing one of them does nothing. */
  private get files(): PresetSource {
    const {name, zip} = this;
    return {name, has: async path => zip.has(path), open: path => zip.open(path)};
  }

  private model(): Promise<SerializedObject> {
    return (this.root ??= readSerialized(this.files, CONFIG_FILE));
  }

  async config(part: CheckpointPart, className?: string): Promise<SerializedObject | null> {
    const found = partOf(await this.model(), part);
    const file = `${this.name}/${CONFIG_FILE}`;
    if (found) checkClass(found, file, className);
    if (found || part !== 'backbone') return found;
    throw new ValueError(
      `Expected a backbone, or a task around one, in "${file}". Received: ${(await this.model()).class_name}.`,
    );
  }

  async vocabulary(): Promise<Uint8Array> {
    const found = this.zip.names.filter(name => name.split('/').at(-1) === VOCABULARY_FILE);
    if (found.length === 1) return readAll(this.files, found[0]!);
    throw new ValueError(
      `Expected one "${VOCABULARY_FILE}" in "${this.name}". Received: ${found.join(', ') || 'none'}. Save the model in ` +
        'Keras with its preprocessor, or pass `preprocessor: null` for a model that takes token ids.',
    );
  }

  async hasWeights(): Promise<boolean> {
    return this.zip.has(WEIGHTS_FILE);
  }

  async weights(): Promise<StoredWeights> {
    const {openWeightFiles} = await import('./read_weights');
    return openWeightFiles('single', [{name: WEIGHTS_FILE, open: () => this.zip.open(WEIGHTS_FILE)}]);
  }

  async *companions(): AsyncGenerator<{path: string; bytes: Uint8Array}> {
    // A backbone alone has none of them.
    if ((await this.config('tokenizer')) || (await this.config('task'))) yield* companionsOf(this);
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}

/** A part of a saved model, whose parts are arguments of its configuration. */
function partOf(model: SerializedObject, part: CheckpointPart): SerializedObject | null {
  const inside = (owner: SerializedObject | null, name: string): SerializedObject | null => {
    const value = owner?.config[name];
    return isObject(value) && isSerialized(value) ? value : null;
  };
  const task = isSerialized(model.config.backbone) ? model : null;
  if (part === 'task') return task;
  if (part === 'backbone') return task ? inside(task, 'backbone') : /Backbone$/.test(model.class_name) ? model : null;
  const preprocessor = inside(task, 'preprocessor');
  if (part === 'preprocessor') return preprocessor;
  return inside(preprocessor, part === 'tokenizer' ? 'tokenizer' : 'image_converter');
}

/**
 * Opens an archive, or a folder with one.
 *
 * @throws ValueError if it is damaged.
 */
export async function openKerasArchive(source: PresetSource): Promise<Checkpoint> {
  const path = (await archiveIn(source))!;
  const file = await source.open(path);
  try {
    const name = source.named === undefined ? `${source.name}/${path}` : source.name;
    return new KerasArchive(name, file, await ZipFile.open(file));
  } catch (error) {
    await file.close();
    throw error;
  }
}
