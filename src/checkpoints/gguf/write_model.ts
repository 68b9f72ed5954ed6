/** Writes models as GGUF files, as llama.cpp's converter and quantizer do. */
import {type PresetSink} from '../../base/byte_sink';
import {listed, ValueError} from '../../base/errors';
import {isObject, type JsonObject} from '../../base/json';
import {GgufWriter, tensorType, tensorTypeId} from '../../formats/gguf';
import {TensorBuffer} from '../arrangement';
import {type WriteOptions, type WrittenModel} from '../checkpoint';
import {type ForeignTensor} from '../foreign_names';
import {kerasPaths} from '../model_paths';
import {encodedPieces} from './encode_tensor';
import {type GgufModel, ggufModels, type WrittenFile, type WrittenParts} from './models';
import {checkFile, fileTypeOf, ggufDtype, MODEL_FILE, visionFileOf} from './write_options';

/** The type of matrices whose rows are not whole blocks, as in llama.cpp. */
const WITHOUT_BLOCKS = 'F16';

/**
 * Writes the model's file and, if it has a vision encoder, the encoder's file.
 *
 * @returns the bytes of all tensors.
 * @throws ValueError if llama.cpp cannot compute the model, it has no tokenizer, or a type cannot hold a value.
 */
export async function writeGgufModel(
  sink: PresetSink,
  model: WrittenModel,
  {dtype, file: {name: fileName, alone} = {name: MODEL_FILE, alone: false}, onProgress, signal}: WriteOptions,
): Promise<number> {
  checkFile(fileName);
  const className = model.backbone.getClassName();
  const format = (await ggufModels()).find(({writes}) => writes === className);
  if (!format) throw new Error(`internal: ${className} has no names in GGUF files.`);
  const parts = await partsOf(model);
  let saved = 0;
  const files = format.filesOf(parts).map(file => {
    const name = file.vision ? visionFileOf(fileName) : fileName;
    const onWrite = (bytes: number) => {
      signal?.throwIfAborted();
      saved += bytes;
      onProgress?.({file: name, saved, total});
    };
    return {name, writer: planned(file, matrixType(file, parts, dtype), format, model, onWrite)};
  });
  if (alone && files.length > 1) {
    throw new ValueError(
      `Expected a folder or a path as the target: "${parts.name}" has a vision encoder, which is written into a second file. ` +
        'Received: a single file.',
    );
  }
  const total = files.reduce((sum, {writer}) => sum + writer.tensorBytes, 0);
  for (const {name, writer} of files) {
    signal?.throwIfAborted();
    const target = await sink.create(name);
    await writer.writeTo(target);
    await target.close();
  }
  return total;
}

async function partsOf({backbone, config, vocabulary, source}: WrittenModel): Promise<WrittenParts> {
  const name = nameOf(source?.name ?? backbone.name);
  const proto = await vocabulary();
  if (proto === null) {
    throw new ValueError(
      `Expected a model with a tokenizer, whose vocabulary is part of a GGUF file. Received: "${name}" without one.`,
    );
  }
  return {
    name,
    backbone: (await config('backbone'))!,
    task: await config('task'),
    tokenizer: await config('tokenizer'),
    imageConverter: await config('imageConverter'),
    vocabulary: proto,
    template: (await source?.chatTemplate?.()) ?? null,
    parameters: backbone.countParams(),
  };
}

/** The last part of a path or address, without an ending. */
const nameOf = (path: string): string =>
  path
    .replace(/[/\\]+$/, '')
    .replace(/^.*[/\\]/, '')
    .replace(/\.gguf$/i, '');

const policyOf = ({dtype}: JsonObject): string =>
  isObject(dtype) && isObject(dtype.config) ? String(dtype.config.name) : String(dtype ?? 'float32');

/** The type of most matrices in a file: the requested one, or that of the weights. */
function matrixType({vision}: WrittenFile, {backbone}: WrittenParts, dtype: string | undefined): string {
  if (dtype !== undefined) return ggufDtype(dtype)[vision ? 'vision' : 'type'];
  const {config} = vision ? (backbone.config.vision_encoder as {config: JsonObject}) : backbone;
  return ggufDtype(policyOf(config))[vision ? 'vision' : 'type'];
}

/** A file with everything that is written to it. */
function planned(
  file: WrittenFile,
  type: string,
  {tensorOf}: GgufModel,
  {backbone, open}: WrittenModel,
  onWrite: (bytes: number) => void,
): GgufWriter {
  const writer = new GgufWriter();
  file.addMetadata(writer, fileTypeOf(type));
  const buffer = new TensorBuffer();
  const uneven: string[] = [];
  for (const [path, weight] of kerasPaths(backbone)) {
    const tensor = tensorOf(weight);
    const {name, shape} = tensor;
    if (!file.holds(name)) continue;
    const own = typeOf(file, tensor, type);
    if (own !== type && own === WITHOUT_BLOCKS) uneven.push(`"${name}" [${shape}]`);
    const data = async function* () {
      for await (const piece of encodedPieces(() => open(weight, path), tensor, own, buffer)) {
        yield piece;
        onWrite(piece.length);
      }
    };
    writer.tensor({name, shape, type: own, data});
  }
  if (uneven.length > 0) {
    console.warn(
      `Rows of ${listed(uneven)} are not whole blocks of ${type}: they are written as ${WITHOUT_BLOCKS}, as by llama.cpp.`,
    );
  }
  return writer;
}

/** The type of a tensor. Norms and biases are always F32: llama.cpp supports no other type for them. */
function typeOf(file: WrittenFile, {name, shape}: ForeignTensor, wanted: string): string {
  if (shape.length < 2 || file.keepsFloats(name)) return 'F32';
  const whole = shape.at(-1)! % tensorType(tensorTypeId(wanted))!.blockSize === 0;
  return whole ? wanted : WITHOUT_BLOCKS;
}
