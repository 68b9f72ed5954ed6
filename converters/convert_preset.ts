/** Converts presets between file formats, variable by variable, so that memory never holds the whole model. */
import {type LoraSource, readLoraWeights} from '../src/adapters/keras_lora';
import {biasOf, type LayerAdapter} from '../src/adapters/model_lora';
import {intoFolder, type PresetSink, writeAll} from '../src/base/byte_sink';
import {checkKeys, show, ValueError} from '../src/base/errors';
import {isObject, type JsonObject, writeJson} from '../src/base/json';
import {isGgufFile, isPresetFile} from '../src/base/named_file';
import {isWeightFile} from '../src/checkpoints/all';
import {
  type Checkpoint,
  type CheckpointPart,
  type CheckpointWriter,
  type WriteOptions,
} from '../src/checkpoints/checkpoint';
import {integerReader} from '../src/checkpoints/integer_values';
import {otherWeights} from '../src/checkpoints/keras/on_demand';
import {backboneObject, dtypePolicy, metadataObject} from '../src/checkpoints/keras/objects';
import {type SerializedObject} from '../src/checkpoints/keras/serialized';
import {checkVariables} from '../src/checkpoints/load_weights';
import {
  CHECKPOINT_OPTIONS,
  type CheckpointOptions,
  openCheckpoint,
  splitOpening,
} from '../src/checkpoints/open_checkpoint';
import {type StoredWeights, valueReader} from '../src/checkpoints/stored_weights';
import {type FileSource, type FileTarget} from '../src/files/open_file';
import {openTarget, type PresetTarget} from '../src/files/open_folder';
import {openSingleTarget} from '../src/files/single_target';
import {type PresetLike} from '../src/hub/open_preset';
import {Gemma3Backbone, type Gemma3BackboneArgs} from '../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../src/models/gemma3/gemma3_causal_lm';
import {knownConfig} from '../src/models/gemma3/parts/backbone_config';
import {isPolicy} from '../src/weights/dtype';
import {MergedStream} from '../src/weights/merged_stream';
import {type AnyWeight} from '../src/weights/packed_weight';
import {ArrayStream, type OpenValues} from '../src/weights/value_stream';
import {Weight} from '../src/weights/weight';
import {type ConversionDtype, type ConversionFormat, conversionFormats, writerOf, type WriterOptions} from './formats';

/** Options of `convertPreset`. */
export interface ConvertPresetOptions extends WriterOptions, CheckpointOptions {
  /**
   * "keras": a preset as KerasHub saves it. "tfjs": a folder for `tf.loadLayersModel`, and for `fromPreset` as well.
   * "gguf": a file for llama.cpp and programs based on it, and next to it one for the vision encoder.
   */
  to: ConversionFormat;
  /**
   * Dtype in which weights are stored in the new files; int8 and int4 only for tfjs. Defaults to the preset's own
   * dtype.
   */
  dtype?: ConversionDtype;
  /** LoRA weights to merge, in the form in which `saveLoraWeights` writes them. Defaults to none. */
  lora?: LoraSource;
  /**
   * A `.weights.h5` file with the weights, instead of the preset's, which are then neither read nor downloaded: as for
   * `fromPreset`.
   */
  weights?: FileSource;
}

const OPTIONS = ['to', 'dtype', 'lora', 'weights', 'onProgress', 'signal', ...CHECKPOINT_OPTIONS] as const;

/** What `convertPreset` wrote. */
export interface ConvertedPreset {
  /** Dtype in which weights are stored. */
  dtype: string;
  parameters: number;
  /** Bytes of all weights. */
  bytes: number;
  /** Names of the files. */
  files: string[];
}

/**
 * Writes a preset in another format or dtype. Values are copied in pieces: memory holds a few million of them, and for
 * int8 and int4 also the matrix that is being packed on the current backend. As with `saveToPreset`, files in the
 * target that have the same names as new ones are replaced, all at once at the end.
 *
 * @throws ValueError on unknown or unusable options, and on presets that `fromPreset` refuses; the signal's reason when
 * aborted; I/O errors. In all these cases the target is unchanged.
 */
export async function convertPreset(
  preset: PresetLike,
  target: PresetTarget | FileTarget,
  options: ConvertPresetOptions,
): Promise<ConvertedPreset> {
  checkOptions(options);
  const {dtype, signal} = options;
  signal?.throwIfAborted();
  const opening = {...splitOpening(options).opening, ...(signal && {signal})};
  const checkpoint = await openCheckpoint(preset, opening);
  let backbone: Gemma3Backbone | undefined;
  try {
    const saved = (await checkpoint.config('backbone', 'Gemma3Backbone'))!;
    const config = knownConfig(saved.config, checkpoint.name);
    const {weights} = options;
    const from = weights === undefined ? checkpoint : await otherWeights(checkpoint.name, weights, opening);
    const writer = writerOf(options.to);
    const policy = dtype !== undefined && isPolicy(dtype) && !writer.takesIntegers ? {dtype} : {};
    const converted = new Gemma3Backbone({...config, ...policy} as unknown as Gemma3BackboneArgs);
    backbone = converted;
    const {sink: opened, file} = await openDestination(target, writer);
    const sink = new NamingSink(opened);
    const bytes = await intoFolder(
      sink,
      () => writeConverted(converted, checkpoint, from, sink, {...options, ...(file && {file})}),
      path => !file && ((!writer.fileEnding && isWeightFile(path)) || writer.obsolete?.(path) === true),
    );
    return {
      dtype: writer.storedDtype?.(dtype ?? converted.config.dtype) ?? dtype ?? converted.config.dtype,
      parameters: converted.countParams(),
      bytes,
      files: sink.files.sort(),
    };
  } finally {
    backbone?.dispose();
    await checkpoint.close();
  }
}

/** Opens the target: a folder or, for formats that have models in one file, that file. */
async function openDestination(
  target: PresetTarget | FileTarget,
  {fileEnding}: CheckpointWriter,
): Promise<{sink: PresetSink; file?: WriteOptions['file']}> {
  const single = fileEnding === undefined ? undefined : await openSingleTarget(target, fileEnding);
  if (single) return {sink: single.sink, file: {name: single.name, alone: single.alone}};
  const path = target instanceof URL ? target.pathname : target;
  if (fileEnding === undefined && typeof path === 'string' && isPresetFile(path)) {
    const how = isGgufFile(path) ? 'To write that file, use to: "gguf".' : 'Archives of Keras are read, not written.';
    throw new ValueError(`Expected a folder as the target. Received: ${show(path)}. ${how}`);
  }
  return {sink: await openTarget(target as PresetTarget)};
}

/**
 * Writes all files of the new preset. Returns the size of its weights in bytes.
 *
 * @param from the source of the weights: the checkpoint, or another file.
 */
async function writeConverted(
  backbone: Gemma3Backbone,
  checkpoint: Checkpoint,
  from: Pick<Checkpoint, 'name' | 'weights'>,
  sink: PresetSink,
  options: ConvertPresetOptions & WriteOptions,
): Promise<number> {
  const task = (await checkpoint.config('task'))?.class_name;
  const writer = writerOf(options.to);
  const config = (part: CheckpointPart) => configOf(part, backbone, checkpoint, options);
  const stored = await from.weights();
  let bytes: number;
  try {
    if (!writer.takesIntegers) checkFloats(stored, checkpoint);
    checkVariables(backbone, stored, checkpoint);
    await stored.checkValues?.(options.signal);
    const lora = options.lora === undefined ? undefined : await readLora(backbone, checkpoint, options.lora, options);
    const open = withLora(writer.takesIntegers ? integerReader(stored) : valueReader(stored), lora?.adapters);
    const topology = () => topologyOf(backbone, task);
    const vocabulary = async () => ((await checkpoint.config('tokenizer')) ? checkpoint.vocabulary() : null);
    const model = {backbone, open, topology, config, vocabulary, source: checkpoint};
    bytes = await writer.write(sink, model, options);
  } finally {
    await stored.close();
  }
  if (writer.isPreset) {
    await writeJson(sink, 'config.json', (await config('backbone'))!);
    await writeJson(sink, 'metadata.json', metadataObject(backbone.countParams()));
    await writeCompanions(checkpoint, sink, config);
  }
  options.signal?.throwIfAborted();
  // Closed before the new files are moved into place, because the target may be the folder that is read from.
  await checkpoint.close();
  return bytes;
}

/** Reads LoRA, with the headers of the preset if it is on the same server. */
async function readLora(
  backbone: Gemma3Backbone,
  {name}: Checkpoint,
  file: LoraSource,
  {headers, fetch}: ConvertPresetOptions,
): ReturnType<typeof readLoraWeights> {
  const {optionsForOther} = await import('../src/files/other_file');
  return readLoraWeights(backbone, file, optionsForOther(file, name, {headers, fetch}));
}

function checkOptions(options: ConvertPresetOptions): void {
  checkKeys('convertPreset', options, [...OPTIONS, ...conversionFormats.flatMap(({options}) => options)]);
  const {to, dtype} = options;
  const format = conversionFormats.find(({name}) => name === to);
  if (!format) {
    const names = conversionFormats.map(({name}) => `"${name}"`);
    throw new ValueError(`Expected to: ${names.slice(0, -1).join(', ')} or ${names.at(-1)}. Received: ${show(to)}.`);
  }
  const {dtypes, dtypesNote} = format;
  if (dtype !== undefined && !dtypes.includes(dtype)) {
    const why = dtypesNote ? ` ${dtypesNote}` : '';
    throw new ValueError(`Expected dtype to be one of ${dtypes.join(', ')}. Received: ${show(dtype)}.${why}`);
  }
  for (const other of conversionFormats) {
    const extra = other.options.find(name => !format.options.includes(name) && options[name as never]);
    if (extra === undefined) continue;
    const own = format.options.length ? `has ${format.options.join(', ')}` : 'has no options';
    throw new ValueError(
      `Expected options of "${to}", which ${own}. Received: ${extra}, an option of "${other.name}".`,
    );
  }
  writerOf(to).checkOptions(options);
}

/** Refuses weights that were already rounded to integers, because rounding them again would lose accuracy. */
function checkFloats({variables}: StoredWeights, {name}: Checkpoint): void {
  const packed = [...variables.values()].find(variable => variable.packed);
  if (!packed) return;
  throw new ValueError(
    `Expected a preset with floating-point weights. Received: "${name}", which stores its weights as ${packed.dtype}. Convert ` +
      'the preset from which it was created.',
  );
}

/** Remembers the names of the files that were written. */
class NamingSink implements PresetSink {
  readonly files: string[] = [];
  constructor(private readonly inner: PresetSink) {}
  get name(): string {
    return this.inner.name;
  }
  create(path: string): ReturnType<PresetSink['create']> {
    this.files.push(path);
    return this.inner.create(path);
  }
  commit(obsolete: (path: string) => boolean): Promise<void> {
    return this.inner.commit(obsolete);
  }
  abort(): Promise<void> {
    return this.inner.abort();
  }
}

/** Contents of `config.json`. The dtype can be int8 or int4 only in formats that Keras does not read. */
function backboneFile(backbone: Gemma3Backbone, {to}: ConvertPresetOptions): JsonObject {
  const {dtype} = backbone.config;
  const {dtypes, takesIntegers} = writerOf(to);
  const integers = (dtype === 'int8' || dtype === 'int4') && (takesIntegers || dtypes.includes(dtype));
  const file = backboneObject(backbone, integers ? 'float32' : undefined);
  return integers ? {...file, config: {...(file.config as JsonObject), dtype: dtypePolicy(dtype)}} : file;
}

/** The layers of a causal language model, or of the backbone for all other presets, as tfjs serializes them. */
function topologyOf(backbone: Gemma3Backbone, task: string | undefined): unknown {
  const model = task === 'Gemma3CausalLM' ? new Gemma3CausalLM({backbone}) : backbone;
  try {
    return model.toJSON(null, false);
  } finally {
    if (model !== backbone) model.dispose();
  }
}

/** Opens the values of a weight. `path` is its path in Keras' files. */
type Opener = (weight: AnyWeight, path: string) => OpenValues;

/** Opens the same values with LoRA merged. */
function withLora(open: Opener, adapters: readonly LayerAdapter[] = []): Opener {
  const kernels = new Map(adapters.map(adapter => [adapter.layer.adapted, adapter]));
  const biases = new Map(adapters.map(({layer, bias}) => [bias && biasOf(layer), bias]));
  return (weight, path) => {
    const bias = weight instanceof Weight ? biases.get(weight) : undefined;
    if (bias) return new ArrayStream(weight.shape, bias);
    const adapter = kernels.get(weight);
    return adapter ? new MergedStream(open(weight, path), async () => adapter) : open(weight, path);
  };
}

/** The configuration of a part. Only the dtype of the backbone changes, which a task repeats. */
async function configOf(
  part: CheckpointPart,
  backbone: Gemma3Backbone,
  checkpoint: Checkpoint,
  options: ConvertPresetOptions,
): Promise<SerializedObject | null> {
  if (part === 'backbone') return backboneFile(backbone, options) as SerializedObject;
  const found = await checkpoint.config(part);
  const inside = found?.config.backbone;
  if (part === 'task' && isObject(inside) && isObject(inside.config)) {
    inside.config.dtype = (backboneFile(backbone, options).config as JsonObject).dtype!;
  }
  return found;
}

/** Copies the other files of the preset. */
async function writeCompanions(
  checkpoint: Checkpoint,
  sink: PresetSink,
  config: (part: CheckpointPart) => Promise<SerializedObject | null>,
): Promise<void> {
  for await (const {path, bytes} of checkpoint.companions()) {
    if (path === 'task.json') await writeJson(sink, path, (await config('task'))!);
    else await writeAll(sink, path, bytes);
  }
}
