/** From one kind of files to another, variable by variable: no model is ever in memory. */
import {checkKeys, show, ValueError} from '../src/base/errors';
import {openPreset, type PresetLike} from '../src/hub/open_preset';
import {type PresetSink, writeAll} from '../src/base/byte_sink';
import {type PresetSource, readAll} from '../src/base/byte_source';
import {type AnyWeight} from '../src/layers/layer';
import {biasOf, type LayerAdapter} from '../src/adapters/model_lora';
import {Gemma3Backbone} from '../src/models/gemma3/gemma3_backbone';
import {Gemma3CausalLM} from '../src/models/gemma3/gemma3_causal_lm';
import {type WeightFormat} from '../src/weights/dtype';
import {ArrayStream, type OpenValues} from '../src/weights/value_stream';
import {MergedStream} from '../src/weights/merged_stream';
import {Weight} from '../src/weights/weight';
import {isObject, type JsonObject} from '../src/base/json';
import {parseSerialized} from '../src/checkpoints/keras/serialized';
import {backboneObject, dtypePolicy, metadataObject} from '../src/checkpoints/keras/objects';
import {kerasPaths} from '../src/checkpoints/model_paths';
import {type LoraSource, readLoraWeights} from '../src/adapters/keras_lora';
import {openTarget, type PresetTarget} from '../src/files/open_folder';
import {checkVariables, openStoredWeights} from '../src/checkpoints/load_weights';
import {DatasetStream, Scratch} from '../src/checkpoints/dataset_stream';
import {type StoredWeights} from '../src/checkpoints/stored_weights';
import {savedWeights} from '../src/checkpoints/saved_weights';
import {TFJS_FILE} from '../src/checkpoints/tfjs/manifest';
import {entryBytes, entryPieces, manifestEntry} from '../src/checkpoints/tfjs/write_weights';
import {
  isWeightFile,
  type SaveProgress,
  type WeightFilesOptions,
  writeWeightFiles,
} from '../src/checkpoints/keras/write_weights';
import {SHARD_SIZE, Shards} from '../src/checkpoints/tfjs/write_shards';

/** Options of `convertPreset`. */
export interface ConvertPresetOptions extends WeightFilesOptions {
  /** "keras": a preset as KerasHub saves it. "tfjs": a folder for `tf.loadLayersModel`, and for `fromPreset` as well. */
  to: 'keras' | 'tfjs';
  /** How weights rest in the new files; "int8" and "int4" for tfjs alone. Defaults to what the preset says. */
  dtype?: WeightFormat;
  /** LoRA to merge into the weights, as `saveLoraWeights` wrote it. Nothing by default. */
  lora?: LoraSource;
  /** For tfjs: bytes of a file of weights. Defaults to 32 MB. */
  shardSize?: number;
}

const OPTIONS = ['to', 'dtype', 'lora', 'shardSize', 'maxShardSize', 'onProgress', 'signal'] as const;

const DTYPES = {keras: ['float32', 'bfloat16'], tfjs: ['float32', 'bfloat16', 'int8', 'int4']} as const;

/** What `convertPreset` wrote. */
export interface ConvertedPreset {
  /** How weights rest. */
  dtype: string;
  parameters: number;
  /** Bytes of all weights. */
  bytes: number;
  /** Names of the files. */
  files: string[];
}

/** What a preset has beside its weights; each may be missing. */
const COMPANIONS = [
  'task.json',
  'preprocessor.json',
  'tokenizer.json',
  'image_converter.json',
  'assets/tokenizer/vocabulary.spm',
];

/**
 * Writes a preset in another format or dtype. Values go from file to file in pieces: memory holds a few million of them,
 * and for int8 and int4 the matrix that is being packed, on the current backend. As with `saveToPreset`, files in the target
 * that have the names of new ones are replaced, in the end and all at once.
 *
 * @throws ValueError on unknown or unusable options, and as `fromPreset` does for the preset; the signal's reason when
 * aborted; what the disk says. Then the target is as it was.
 */
export async function convertPreset(
  preset: PresetLike,
  target: PresetTarget,
  options: ConvertPresetOptions,
): Promise<ConvertedPreset> {
  checkOptions(options);
  const {dtype, signal} = options;
  signal?.throwIfAborted();
  const source = await openPreset(preset);
  const text = new TextDecoder().decode(await readAll(source, 'config.json'));
  const {config} = parseSerialized(text, `${source.name}/config.json`, 'Gemma3Backbone');
  const sink = new NamingSink(await openTarget(target));
  const backbone = new Gemma3Backbone({...config, ...(dtype && {dtype})} as never);
  try {
    const stored = await openStoredWeights(source);
    let bytes: number;
    try {
      checkFloats(stored, source);
      checkVariables(backbone, stored, source);
      const lora = options.lora === undefined ? undefined : await readLoraWeights(backbone, options.lora);
      const open = withLora(opener(stored), lora?.adapters);
      bytes =
        options.to === 'keras'
          ? await writeWeightFiles(sink, savedWeights(backbone, undefined, open), options)
          : await writeTfjs(backbone, await taskClass(source), open, sink, options);
    } finally {
      // Before the commit: the target may be the folder that is read from.
      await stored.close();
    }
    const file = backboneFile(backbone, options);
    await writeAll(sink, 'config.json', json(file));
    await writeAll(sink, 'metadata.json', json(metadataObject(backbone.countParams())));
    await copyCompanions(source, sink, (file.config as JsonObject).dtype as JsonObject);
    signal?.throwIfAborted();
    await sink.commit(isWeightFile);
    return {dtype: backbone.config.dtype, parameters: backbone.countParams(), bytes, files: sink.files.sort()};
  } catch (error) {
    await sink.abort();
    throw error;
  } finally {
    backbone.dispose();
  }
}

function checkOptions(options: ConvertPresetOptions): void {
  checkKeys('convertPreset', options, OPTIONS);
  const {to, dtype, shardSize, maxShardSize} = options;
  if (!Object.hasOwn(DTYPES, to)) throw new ValueError(`Expected to: "keras" or "tfjs". Received: ${show(to)}.`);
  const dtypes: readonly string[] = DTYPES[to];
  if (dtype !== undefined && !dtypes.includes(dtype)) {
    const why = to === 'keras' ? ' The format in which Keras keeps quantized weights is not written.' : '';
    throw new ValueError(`Expected dtype to be one of ${dtypes.join(', ')}. Received: ${show(dtype)}.${why}`);
  }
  if (shardSize !== undefined && !Number.isSafeInteger(shardSize)) {
    throw new ValueError(`Expected shardSize to be a whole number of bytes. Received: ${show(shardSize)}.`);
  }
  for (const [name, value] of Object.entries({shardSize, maxShardSize})) {
    if (value != null && !(value > 0)) {
      throw new ValueError(`Expected ${name} to be above 0. Received: ${show(value)}.`);
    }
  }
  if (to === 'keras' ? shardSize !== undefined : maxShardSize !== undefined) {
    throw new ValueError('`shardSize` is for tfjs, `maxShardSize` for keras. Received the other one.');
  }
}

/** What was rounded to integers once is not rounded again. */
function checkFloats({variables}: StoredWeights, source: PresetSource): void {
  const packed = [...variables].find(([, variable]) => variable.packed);
  if (!packed) return;
  throw new ValueError(
    `Expected a preset of floats to convert. Received: "${source.name}", whose weights rest as ` +
      `${packed[1].packed!.format}. Convert the preset that it was made from.`,
  );
}

/** Notes what was written. */
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

const json = (value: unknown) => new TextEncoder().encode(JSON.stringify(value, null, 4));

/** `config.json`. In a folder of tfjs, which Keras does not read, the dtype may be one of integers. */
function backboneFile(backbone: Gemma3Backbone, {to}: ConvertPresetOptions): JsonObject {
  const {dtype} = backbone.config;
  const integers = to === 'tfjs' && (dtype === 'int8' || dtype === 'int4');
  const file = backboneObject(backbone, integers ? 'float32' : undefined);
  return integers ? {...file, config: {...(file.config as JsonObject), dtype: dtypePolicy(dtype)}} : file;
}

/** Values for a weight, which has a path in files of Keras. */
type Opener = (weight: AnyWeight, path: string) => OpenValues;

/** Values of the source. */
function opener(stored: StoredWeights): Opener {
  const scratch = new Scratch();
  return (weight, path) => {
    return new DatasetStream(stored.variables.get(stored.keyOf(path, weight))!.dataset, scratch, () => {});
  };
}

/** The same with LoRA merged. */
function withLora(open: Opener, adapters: readonly LayerAdapter[] = []): Opener {
  const kernels = new Map(adapters.map(adapter => [adapter.layer.adapted, adapter]));
  const biases = new Map(adapters.map(({layer, bias}) => [bias && biasOf(layer), bias]));
  return (weight, path) => {
    const bias = weight instanceof Weight ? biases.get(weight) : undefined;
    if (bias) return new ArrayStream(weight.shape as number[], bias);
    const adapter = kernels.get(weight);
    return adapter ? new MergedStream(open(weight, path), async () => adapter) : open(weight, path);
  };
}

/** `model.json` and the shards; returns the bytes of all weights. */
async function writeTfjs(
  backbone: Gemma3Backbone,
  task: string | undefined,
  open: Opener,
  sink: PresetSink,
  options: ConvertPresetOptions,
): Promise<number> {
  const {shardSize = SHARD_SIZE, onProgress, signal} = options;
  const weights = [...kerasPaths(backbone)];
  const entries = weights.map(([, weight]) => manifestEntry(weight));
  const total = entries.reduce((sum, entry) => sum + entryBytes(entry), 0);
  const count = Math.max(1, Math.ceil(total / shardSize));
  const paths = Array.from({length: count}, (_, i) => `group1-shard${i + 1}of${count}.bin`);

  const model = task === 'Gemma3CausalLM' ? new Gemma3CausalLM({backbone}) : backbone;
  const modelTopology = model.toJSON(null, false) as unknown;
  if (model !== backbone) model.dispose();
  const head = {format: 'layers-model', generatedBy: 'tfjs-gemma3', convertedBy: 'tfjs-gemma3'};
  await writeAll(sink, TFJS_FILE, json({...head, modelTopology, weightsManifest: [{paths, weights: entries}]}));

  const shards = new Shards(sink, paths, shardSize);
  for (const [path, weight] of weights) {
    for await (const piece of entryPieces(weight, open(weight, path))) {
      signal?.throwIfAborted();
      await shards.write(piece);
      onProgress?.({file: shards.file, saved: shards.written, total} satisfies SaveProgress);
    }
  }
  await shards.close();
  return total;
}

async function taskClass(source: PresetSource): Promise<string | undefined> {
  if (!(await source.has('task.json'))) return undefined;
  return parseSerialized(new TextDecoder().decode(await readAll(source, 'task.json')), 'task.json').class_name;
}

/** Everything beside the weights as it is, but for the dtype of a task's backbone. */
async function copyCompanions(source: PresetSource, sink: PresetSink, dtype: JsonObject): Promise<void> {
  for (const path of COMPANIONS) {
    if (!(await source.has(path))) continue;
    const bytes = await readAll(source, path);
    if (path !== 'task.json') {
      await writeAll(sink, path, bytes);
      continue;
    }
    const task = parseSerialized(new TextDecoder().decode(bytes), `${source.name}/${path}`);
    const {backbone} = task.config;
    if (isObject(backbone) && isObject(backbone.config)) backbone.config.dtype = dtype;
    await writeAll(sink, path, json(task));
  }
}
