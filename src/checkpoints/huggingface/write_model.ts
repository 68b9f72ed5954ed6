/** Writes a folder of Hugging Face: safetensors, one file or shards with an index, and the files of the model. */
import {type PresetSink, writeAll} from '../../base/byte_sink';
import {ValueError} from '../../base/errors';
import {isObject, type JsonObject, writeJson} from '../../base/json';
import {type TensorContent, writeSafetensors} from '../../formats/safetensors';
import {tokenizerJson} from '../../tokenizers/write_tokenizer_json';
import {arrangedForFile, TensorBuffer} from '../arrangement';
import {type Checkpoint, type WrittenModel} from '../checkpoint';
import {type ForeignTensor} from '../foreign_names';
import {type SavedVariable, savedWeights, storedBytes, type StoredDtype, storedPieces} from '../saved_weights';
import {type ShardOptions} from '../shard_options';
import {CONFIG_FILE, INDEX_FILE, TOKENIZER_JSON, TOKENIZER_MODEL, WEIGHTS_FILE} from './file_names';
import {type HuggingFaceModel, huggingFaceModels, type WrittenFolder, type WrittenParts} from './models';

/** Default size of a weight file in bytes, as in transformers 4. */
const SHARD_SIZE = 5 * 10 ** 9;

/** Number formats under the names that safetensors has for them. */
const DTYPES: Record<StoredDtype, string> = {float32: 'F32', float16: 'F16', bfloat16: 'BF16'};

/** A tensor to write. */
interface Written {
  readonly tensor: ForeignTensor;
  readonly dtype: StoredDtype;
  readonly bytes: number;
  readonly variable: SavedVariable;
}

/** A weight file, with the names that its tensors have there. */
interface WeightFile {
  readonly path: string;
  readonly tensors: {name: string; written: Written}[];
}

/**
 * Writes all files.
 *
 * @param options `dtype`: float32, float16 or bfloat16 for all weights. By default each keeps its own.
 * @returns the bytes of all weights.
 * @throws ValueError naming what transformers cannot represent, and on values that the dtype cannot hold.
 */
export async function writeHuggingFaceModel(
  sink: PresetSink,
  model: WrittenModel,
  options: ShardOptions,
): Promise<number> {
  const {backbone, open, source} = model;
  const parts = await partsOf(model);
  const folder = await folderOf(parts, 'backbone', backbone.getClassName());
  const dtype = (options.dtype ?? dtypeOfSource(source, parts)) as StoredDtype | undefined;
  const saved = savedWeights(backbone, options.dtype, open).variables.map(variable => {
    const written = {...variable, dtype: dtype ?? variable.dtype};
    const tensor = folder.names.tensorOf(variable.weight);
    return {tensor, dtype: written.dtype, bytes: storedBytes(written), variable};
  });
  if (source?.format === 'huggingface') await copyFiles(sink, source, options.dtype);
  else await writeFiles(sink, parts, folder);
  return writeWeights(sink, saved, options);
}

/**
 * Writes the files of a tokenizer alone.
 *
 * @throws ValueError for a vocabulary to which Hugging Face's tokenizers would give other ids.
 */
export async function writeHuggingFaceTokenizer(sink: PresetSink, parts: WrittenParts): Promise<void> {
  await writeFiles(sink, parts, await folderOf(parts, 'tokenizer', parts.tokenizer!.class_name));
}

/** The contents of the folder for a model of this class. */
async function folderOf(
  parts: WrittenParts,
  part: keyof HuggingFaceModel['classes'],
  className: string,
): Promise<WrittenFolder> {
  const writer = (await huggingFaceModels()).find(({classes}) => classes[part] === className);
  if (writer) return writer.write(parts);
  throw new ValueError(`Expected a model of transformers. Received: ${className}, which has no counterpart there.`);
}

/** In a Hugging Face folder all weights have one dtype. In Keras the vision encoder may have another one. */
const dtypeOfSource = (source: Checkpoint | undefined, {backbone}: WrittenParts): string | undefined =>
  source?.format === 'huggingface'
    ? String(((backbone!.config.dtype as JsonObject).config as JsonObject).name)
    : undefined;

async function partsOf({config, vocabulary, source}: WrittenModel): Promise<WrittenParts> {
  return {
    backbone: (await config('backbone'))!,
    task: await config('task'),
    preprocessor: await config('preprocessor'),
    tokenizer: await config('tokenizer'),
    imageConverter: await config('imageConverter'),
    vocabulary: await vocabulary(),
    chatTemplate: await source?.chatTemplate?.(),
  };
}

async function writeFiles(sink: PresetSink, {vocabulary}: WrittenParts, {files, notes}: WrittenFolder): Promise<void> {
  for (const [path, content] of files) {
    if (typeof content === 'string') await writeAll(sink, path, new TextEncoder().encode(content));
    else await writeJson(sink, path, content, 2);
  }
  if (!vocabulary || !notes) return;
  await writeJson(sink, TOKENIZER_JSON, tokenizerJson(vocabulary, notes), 0);
  await writeAll(sink, TOKENIZER_MODEL, vocabulary);
}

/** Copies the files of a folder as they are. Only the dtype changes. */
async function copyFiles(sink: PresetSink, source: Checkpoint, dtype: string | undefined): Promise<void> {
  for await (const {path, bytes} of source.originals!()) {
    if (path !== CONFIG_FILE || dtype === undefined) {
      await writeAll(sink, path, bytes);
      continue;
    }
    const config = JSON.parse(new TextDecoder().decode(bytes)) as JsonObject;
    const key = 'dtype' in config ? 'dtype' : 'torch_dtype';
    for (const part of [config, config.text_config, config.vision_config]) {
      if (isObject(part) && (part === config || key in part)) part[key] = dtype;
    }
    await writeJson(sink, path, config, 2);
  }
}

/** Divides tensors among files, in order: a new file starts when the next tensor does not fit. */
function weightFiles(saved: readonly Written[], limit: number): WeightFile[] {
  const inside = new Map<string, WeightFile>();
  const shards: Written[][] = [[]];
  let size = 0;
  for (const written of saved) {
    const {name} = written.tensor;
    const slash = name.indexOf('/');
    if (slash >= 0) {
      const path = `${name.slice(0, slash)}/${WEIGHTS_FILE}`;
      const file = inside.get(path) ?? {path, tensors: []};
      file.tensors.push({name: name.slice(slash + 1), written});
      inside.set(path, file);
      continue;
    }
    if (size > 0 && size + written.bytes > limit) {
      shards.push([]);
      size = 0;
    }
    shards.at(-1)!.push(written);
    size += written.bytes;
  }
  const number = (i: number) => String(i).padStart(5, '0');
  const main = shards.map((tensors, i) => ({
    path: shards.length === 1 ? WEIGHTS_FILE : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`,
    tensors: tensors.map(written => ({name: written.tensor.name, written})),
  }));
  return [...main, ...inside.values()];
}

async function writeWeights(
  sink: PresetSink,
  saved: readonly Written[],
  {shardSize = SHARD_SIZE, onProgress, signal}: ShardOptions,
): Promise<number> {
  const total = saved.reduce((sum, {bytes}) => sum + bytes, 0);
  const files = weightFiles(saved, shardSize);
  const buffer = new TensorBuffer();
  let done = 0;
  for (const {path, tensors} of files) {
    const onWrite = (bytes: number) => {
      signal?.throwIfAborted();
      done += bytes;
      onProgress?.({file: path, saved: done, total});
    };
    const file = await sink.create(path);
    await writeSafetensors(
      file,
      tensors.map(({name, written}) => contentOf(name, written, buffer, onWrite)),
    );
    await file.close();
  }
  const shards = files.filter(({path}) => !path.includes('/'));
  if (shards.length > 1) await writeIndex(sink, shards);
  return total;
}

function contentOf(
  name: string,
  {tensor, dtype, variable}: Written,
  buffer: TensorBuffer,
  onWrite: (bytes: number) => void,
): TensorContent {
  const pieces = async function* () {
    for await (const piece of storedPieces(
      arrangedForFile(variable.open(), tensor, dtype === 'bfloat16', buffer),
      dtype,
    )) {
      yield piece;
      onWrite(piece.length);
    }
  };
  return {name, dtype: DTYPES[dtype], shape: tensor.shape, pieces};
}

async function writeIndex(sink: PresetSink, shards: readonly WeightFile[]): Promise<void> {
  const all = shards.flatMap(({path, tensors}) => tensors.map(({name, written}) => ({name, path, written})));
  all.sort((x, y) => (x.name < y.name ? -1 : 1));
  await writeJson(
    sink,
    INDEX_FILE,
    {
      metadata: {total_size: all.reduce((sum, {written}) => sum + written.bytes, 0)},
      weight_map: Object.fromEntries(all.map(({name, path}) => [name, path])),
    },
    2,
  );
}
