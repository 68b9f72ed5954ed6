/** A GGUF file that is open, with the file of its vision encoder. Loaded with the first of them. */
import {type ByteSource, type PresetSource} from '../../base/byte_source';
import {show, ValueError} from '../../base/errors';
import {openFileSource} from '../../files/open_file';
import {optionsForOther} from '../../files/other_file';
import {type Checkpoint, type CheckpointPart, type FormatOptions, type OpenOptions} from '../checkpoint';
import {companionsOf} from '../keras/companions';
import {checkClass, type SerializedObject} from '../keras/serialized';
import {type StoredWeights} from '../stored_weights';
import {CHAT_TEMPLATE, Metadata} from './metadata';
import {type GgufFiles, type GgufModel, ggufModels} from './models';
import {modelFiles, openGguf, type OpenGguf, VISION_ARCHITECTURE} from './open_files';
import {ggufWeights} from './read_weights';
import {readVocabulary} from './vocabulary';

class GgufCheckpoint implements Checkpoint {
  readonly format = 'gguf';
  readonly title = 'GGUF';
  readonly files: GgufFiles;

  constructor(
    readonly name: string,
    private readonly model: GgufModel,
    private readonly text: OpenGguf,
    private readonly vision: OpenGguf | undefined,
    private readonly opened: readonly ByteSource[],
  ) {
    this.files = {name, model: text.gguf, vision: vision?.gguf ?? null, visionName: vision?.name ?? ''};
  }

  async config(part: CheckpointPart, className?: string): Promise<SerializedObject | null> {
    const found = this.model.part(part, this.files);
    if (found) checkClass(found, this.name, className);
    return found;
  }

  async vocabulary(): Promise<Uint8Array> {
    return readVocabulary(this.text.gguf, this.name);
  }

  async hasWeights(): Promise<boolean> {
    return this.text.gguf.tensors.size > 0;
  }

  async weights(): Promise<StoredWeights> {
    return ggufWeights(this.name, [this.text, ...(this.vision ? [this.vision] : [])], this.model);
  }

  companions(): AsyncGenerator<{path: string; bytes: Uint8Array}> {
    return companionsOf(this);
  }

  async chatTemplate(): Promise<string | null> {
    const metadata = new Metadata(this.name, this.text.gguf.metadata);
    return metadata.has(CHAT_TEMPLATE) ? metadata.text(CHAT_TEMPLATE) : null;
  }

  async close(): Promise<void> {
    for (const file of this.opened) await file.close();
  }
}

/**
 * Opens a file, or a folder with one.
 *
 * @throws ValueError if it is damaged, of another architecture, or several files could be meant.
 */
export async function openGgufModel(
  source: PresetSource,
  {mmproj, asked, ...rest}: FormatOptions = {},
): Promise<Checkpoint> {
  const opened: ByteSource[] = [];
  try {
    const {model: file, visions} = await modelFiles(source);
    const whole = await openGguf(source, file, opened);
    const name = source.named === undefined ? `${source.name}/${file}` : source.name;
    const model = await modelOf(whole, name);
    const own = model.translated?.(whole.gguf);
    const text = own ? {...whole, gguf: own.model} : whole;
    const inside = own?.vision ? {...whole, gguf: own.vision} : undefined;
    const vision =
      mmproj === undefined
        ? (inside ?? (await findVision(source, visions, text, model, opened)))
        : await openOther(mmproj, nameOf(asked) ?? source.name, rest, opened);
    if (vision) checkVision(vision, text, model);
    const checkpoint = new GgufCheckpoint(name, model, text, vision, opened);
    for (const warning of model.warnings(checkpoint.files)) console.warn(warning);
    return checkpoint;
  } catch (error) {
    for (const one of opened) await one.close();
    throw error;
  }
}

/**
 * The vision encoder of a model among files next to it. Others may belong to other models.
 *
 * @throws ValueError if several fit.
 */
async function findVision(
  source: PresetSource,
  files: readonly string[],
  text: OpenGguf,
  model: GgufModel,
  opened: ByteSource[],
): Promise<OpenGguf | undefined> {
  const fitting: OpenGguf[] = [];
  for (const file of files) {
    const before = opened.length;
    const vision = await openGguf(source, file, opened);
    const fits = projectorOf(vision) === model.projector && model.fitsVision(text.gguf, vision.gguf);
    if (fits) fitting.push(vision);
    else for (const other of opened.splice(before)) await other.close();
  }
  if (fitting.length <= 1) return fitting[0];
  throw new ValueError(
    `Expected one file with the vision encoder of "${text.name}" next to it. Received: ` +
      `${fitting.map(({name}) => name).join(', ')}. Pass one of them as \`mmproj\`, or move the others elsewhere.`,
  );
}

/** Opens a single file that is elsewhere. */
async function openOther(
  file: NonNullable<OpenOptions['mmproj']>,
  model: string,
  {http = {}, openNamed}: FormatOptions,
  opened: ByteSource[],
): Promise<OpenGguf> {
  const options = optionsForOther(file, model, http);
  const text = file instanceof URL ? file.href : file;
  if (openNamed && typeof text === 'string' && isOnHub(text)) {
    const {headers: _headers, fetch: _fetch, ...rest} = http;
    const source = await openNamed(text, {...rest, ...options});
    if (source.named !== undefined) return openGguf(source, source.named, opened);
    throw new ValueError(
      `Expected \`mmproj\` to name a file, such as hf://owner/name/mmproj-model-f16.gguf. Received: "${text}".`,
    );
  }
  const bytes = await openFileSource(file, options);
  const source: PresetSource = {name: bytes.name, has: async () => false, open: async () => bytes};
  return openGguf(source, bytes.name, opened);
}

const nameOf = (asked: unknown) => (asked instanceof URL ? asked.href : typeof asked === 'string' ? asked : undefined);

const isOnHub = (text: string): boolean => /^(?!file:|https?:)[a-z][a-z\d+.-]+:\/\//i.test(text);

async function modelOf({gguf}: OpenGguf, name: string): Promise<GgufModel> {
  const architecture = new Metadata(name, gguf.metadata).text('general.architecture');
  const models = await ggufModels();
  const model = models.find(({architectures}) => architectures.includes(architecture));
  if (model) return model;
  const known = models.flatMap(({architectures}) => architectures.map(known => `"${known}"`));
  const why =
    architecture === VISION_ARCHITECTURE
      ? 'which is a vision encoder. Pass the file of the language model; the encoder is found next to it'
      : 'which is another model';
  throw new ValueError(
    `Expected a GGUF file of the architecture ${known.join(' or ')}. Received: "${name}" of "${architecture}", ${why}.`,
  );
}

/** The kind of model that a vision encoder is for; undefined for other files. */
function projectorOf({gguf: {metadata}}: OpenGguf): unknown {
  if (metadata.get('general.architecture') !== VISION_ARCHITECTURE) return undefined;
  return metadata.get('clip.vision.projector_type') ?? metadata.get('clip.projector_type');
}

/** @throws ValueError unless the file has a vision encoder for this model. */
function checkVision(vision: OpenGguf, text: OpenGguf, {projector, fitsVision}: GgufModel): void {
  const found = projectorOf(vision);
  const why = found === projector ? 'which is for a model of a different width' : `of the kind ${show(found)}`;
  if (found === projector && fitsVision(text.gguf, vision.gguf)) return;
  throw new ValueError(
    `Expected the vision encoder of "${text.name}", of the kind "${projector}". Received: "${vision.name}", ${why}.`,
  );
}
