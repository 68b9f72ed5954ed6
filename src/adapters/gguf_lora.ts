/** LoRA adapters of llama.cpp, in GGUF files: matrices by the names of the tensors that they are added to. */
import type * as tf from '@tensorflow/tfjs';
import {intoFile} from '../base/byte_sink';
import {checkKeys, listed, show, ValueError} from '../base/errors';
import {sizeOf} from '../base/shapes';
import {Metadata} from '../checkpoints/gguf/metadata';
import {type GgufModel, ggufModels} from '../checkpoints/gguf/models';
import {storedVariable} from '../checkpoints/gguf/read_weights';
import {Scratch} from '../checkpoints/stored_array';
import {type StoredVariable} from '../checkpoints/stored_weights';
import {type RequestOptions} from '../files/http_client';
import {fileName, type FileSource, type FileTarget, openFileSource, openFileTarget} from '../files/open_file';
import {type GgufFile, GgufWriter, readGguf} from '../formats/gguf';
import {type LoraLayer} from '../layers/lora';
import {adaptableLayers, type LayerAdapter, loraLayers, NO_LORA} from './model_lora';
import {fromPeft, matrixSize, toPeft, withOneRank} from './peft_matrices';

/** Options of `exportGgufAdapter`. */
export interface ExportGgufOptions {
  /** Name of the adapter, for `general.name`. Defaults to the name of the file. */
  name?: string;
}

const ENDING = '.gguf';

async function modelOf(backbone: tf.LayersModel): Promise<GgufModel> {
  const className = backbone.getClassName();
  const model = (await ggufModels()).find(({writes}) => writes === className);
  if (!model) throw new Error(`internal: ${className} has no names in GGUF files.`);
  return model;
}

const bytesOf = ({buffer, byteOffset, byteLength}: Float32Array) =>
  new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);

/** Implements `Gemma3Backbone.exportGgufAdapter`; see there for errors. */
export async function exportGgufAdapter(
  backbone: tf.LayersModel,
  target: FileTarget,
  options: ExportGgufOptions,
): Promise<void> {
  checkKeys('exportGgufAdapter', options, ['name']);
  const layers = [...loraLayers(backbone).values()];
  if (layers.length === 0) throw new ValueError(NO_LORA);
  const path = fileName(target);
  if (path !== undefined && !path.toLowerCase().endsWith(ENDING)) {
    throw new ValueError(`Expected a file name that ends in ${ENDING}. Received: ${show(path)}.`);
  }
  const {name = path?.replace(/^.*[/\\]/, '').slice(0, -ENDING.length) ?? 'adapter'} = options;
  const file = await adapterFile(await modelOf(backbone), layers, name);
  const sink = await openFileTarget(target);
  await intoFile(sink, () => file.writeTo(sink));
}

async function adapterFile(model: GgufModel, layers: readonly LoraLayer[], name: string): Promise<GgufWriter> {
  const tensors = layers.map(layer => ({layer, tensor: model.tensorOf(layer.adapted).name}));
  const other = tensors.find(({tensor}) => !model.adapts(tensor));
  if (other) {
    throw new ValueError(
      `Expected LoRA on layers that llama.cpp can adapt. Received: "${other.layer.path}". Merge it with \`mergeLora\` and save ` +
        'the model, or train without this layer.',
    );
  }
  // The file has one alpha. For matrices with another scale, or another rank in the file, B absorbs the difference.
  let alpha: number | undefined;
  const contents: {name: string; shape: number[]; values: Float32Array}[] = [];
  for (const {layer, tensor} of tensors) {
    const adapter = await layer.readAdapter();
    const {rank, a, b} = toPeft(layer, adapter);
    const own = (adapter.alpha / adapter.rank) * rank;
    alpha ??= own;
    const factor = own / alpha;
    const [inputs, outputs] = matrixSize(layer);
    const scaled = factor === 1 ? b : b.map(value => value * factor);
    contents.push({name: `${tensor}.lora_a`, shape: [rank, inputs], values: a});
    contents.push({name: `${tensor}.lora_b`, shape: [outputs, rank], values: scaled});
  }
  const file = new GgufWriter()
    .text('general.architecture', model.architectures[0]!)
    .text('general.type', 'adapter')
    .text('adapter.type', 'lora')
    .text('general.name', name)
    .float32('adapter.lora.alpha', alpha!)
    .uint32('general.file_type', 0)
    .uint32('general.quantization_version', 2);
  for (const {name, shape, values} of contents) {
    file.tensor({name, shape, type: 'F32', data: () => [bytesOf(values)]});
  }
  return file;
}

/**
 * Reads the matrices in a file for the layers of a model. Does not change the model.
 *
 * @throws ValueError, naming its tensors, if it is not an adapter or does not fit the model.
 */
export async function readGgufAdapter(
  backbone: tf.LayersModel,
  source: FileSource,
  options: RequestOptions,
): Promise<{name: string; adapters: LayerAdapter[]}> {
  const bytes = await openFileSource(source, options);
  try {
    const model = await modelOf(backbone);
    const file = await readGguf(bytes);
    const alpha = alphaOf(file, model, bytes.name);
    return {name: bytes.name, adapters: await readPairs(pairsOf(backbone, file, model, bytes.name), alpha)};
  } finally {
    await bytes.close();
  }
}

/** The factor of all products, times their ranks. */
function alphaOf({metadata}: GgufFile, {architectures}: GgufModel, name: string): number {
  const values = new Metadata(name, metadata);
  const only = (key: string, expected: readonly string[]) => {
    if (!expected.includes(values.text(key))) throw values.invalid(key, expected.map(text => `"${text}"`).join(' or '));
  };
  if (!values.has('adapter.type')) {
    throw new ValueError(`Expected a LoRA adapter. Received: "${name}", a GGUF file without "adapter.type".`);
  }
  only('adapter.type', ['lora']);
  only('general.architecture', architectures);
  if (values.has('adapter.alora.invocation_tokens')) {
    throw values.invalid('adapter.alora.invocation_tokens', 'no tokens that turn the adapter on');
  }
  // llama.cpp treats 0 as a factor of 1, whatever the rank is.
  return values.number('adapter.lora.alpha', 0);
}

interface Pair {
  layer: LoraLayer;
  a?: StoredVariable;
  b?: StoredVariable;
}

/** The two matrices of each layer. */
function pairsOf(backbone: tf.LayersModel, file: GgufFile, model: GgufModel, name: string): Pair[] {
  const layers = new Map<string, LoraLayer>();
  for (const layer of adaptableLayers(backbone).values()) {
    const {name: tensor} = model.tensorOf(layer.adapted);
    if (model.adapts(tensor)) layers.set(tensor, layer);
  }
  const scratch = new Scratch();
  const pairs = new Map<string, Pair>();
  const problems: string[] = [];
  for (const [full, tensor] of file.tensors) {
    const match = /^(.+)\.lora_([ab])$/.exec(full);
    const layer = match ? layers.get(match[1]!) : undefined;
    if (!match || !layer) {
      problems.push(`"${full}" belongs to no layer that can have LoRA`);
      continue;
    }
    const variable = storedVariable(tensor, name, scratch);
    const {shape} = variable;
    const [inputs, outputs] = matrixSize(layer);
    const [axis, size] = match[2] === 'a' ? ([1, inputs] as const) : ([0, outputs] as const);
    if (shape.length !== 2 || shape[axis] !== size) {
      problems.push(`"${full}" has shape [${shape}], expected ${axis === 1 ? `[rank, ${size}]` : `[${size}, rank]`}`);
    } else if (variable.unreadable !== undefined) problems.push(`"${full}" ${variable.unreadable}`);
    const pair: Pair = pairs.get(match[1]!) ?? {layer};
    pairs.set(match[1]!, pair);
    pair[match[2] as 'a' | 'b'] = variable;
  }
  for (const [tensor, {a, b}] of pairs) {
    if (!a || !b) problems.push(`"${tensor}" has ${a ? 'no lora_b' : 'no lora_a'}`);
    else if (a.shape[0] !== b.shape[1]) problems.push(`"${tensor}" has matrices [${a.shape}] and [${b.shape}]`);
  }
  if (pairs.size === 0 && problems.length === 0) problems.push('it has no matrices');
  if (problems.length === 0) return [...pairs.values()];
  throw new ValueError(`The adapter "${name}" does not fit the model: ${listed(problems)}.`);
}

async function readPairs(pairs: readonly Pair[], alpha: number): Promise<LayerAdapter[]> {
  const read = [];
  for (const {layer, a, b} of pairs) {
    const rank = a!.shape[0]!;
    const scale = alpha === 0 ? 1 : alpha / rank;
    read.push({layer, scale, ...fromPeft(layer, {rank, a: await valuesOf(a!), b: await valuesOf(b!)})});
  }
  return withOneRank(read);
}

async function valuesOf({shape, stream}: StoredVariable): Promise<Float32Array> {
  const values = new Float32Array(sizeOf(shape));
  await stream().readFloat32(0, values);
  return values;
}
