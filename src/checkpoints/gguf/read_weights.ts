/** The tensors of GGUF files as variables. */
import {type ByteSource} from '../../base/byte_source';
import {ValueError} from '../../base/errors';
import {decoderOf, type GgufTensor, READABLE_TYPES} from '../../formats/gguf';
import {Scratch, StoredArrayStream} from '../stored_array';
import {type StoredVariable, type StoredWeights} from '../stored_weights';
import {checkTied} from '../tied_values';
import {type GgufModel} from './models';
import {type OpenGguf} from './open_files';
import {QuantizedStream} from './tensor_stream';

/** Number formats that are not quantized, under the names that are used here. */
const FLOATS: Readonly<Record<string, string>> = {F32: 'float32', F16: 'float16', BF16: 'bfloat16'};

/**
 * The variables of a model and of its vision encoder.
 *
 * @param checkpoint its name, for errors.
 * @throws ValueError if both have a tensor of one name.
 */
export function ggufWeights(checkpoint: string, files: readonly OpenGguf[], model: GgufModel): StoredWeights {
  const scratch = new Scratch();
  const variables = new Map<string, StoredVariable>();
  /** Names in the files, by the names of `tensorOf`. */
  const keys = new Map<string, string>();
  let tied: StoredVariable | undefined;
  for (const {gguf, names, name: file} of files) {
    const current = model.currentNames(gguf);
    for (const [name, tensor] of gguf.tensors) {
      const variable = storedVariable(tensor, names.get(tensor.source)!, scratch);
      if (name === model.tied.tensor) {
        tied = variable;
        continue;
      }
      if (variables.has(name))
        throw new ValueError(`Expected "${name}" in one file only. Received it in "${file}" again.`);
      variables.set(name, variable);
      keys.set(current.get(name) ?? name, name);
    }
  }
  const parts = new Set(files.flatMap(({names}) => [...names.keys()])).size;
  return {
    layout: parts > 1 ? 'sharded' : 'single',
    variables,
    keyOf: (_, weight) => {
      const {name} = model.tensorOf(weight);
      return keys.get(name) ?? name;
    },
    arrangementOf: weight => model.tensorOf(weight),
    checkValues: async signal => {
      const embedding = variables.get(model.tied.equals);
      if (!tied || !embedding) return;
      const [a, b] = [
        {name: model.tied.tensor, variable: tied},
        {name: model.tied.equals, variable: embedding},
      ];
      await checkTied(checkpoint, a, b, signal);
    },
    // The files stay open until the checkpoint is closed: it reads the vocabulary from them as well.
    close: async () => {},
  };
}

/**
 * A tensor as a variable.
 * @param file its name, for errors.
 */
export function storedVariable(tensor: GgufTensor, file: string, scratch: Scratch): StoredVariable {
  const {shape, type, byteLength, offset, source} = tensor;
  const places = [{source, start: offset, end: offset + byteLength}];
  const dtype = FLOATS[type.name] ?? type.name;
  const base = {shape, dtype, byteLength, file, places};
  if (Object.hasOwn(FLOATS, type.name)) {
    const array = {shape, dtype, itemSize: type.blockBytes, byteLength, readInto: within(source, offset)};
    return {...base, stream: onRead => new StoredArrayStream(array, scratch, onRead)};
  }
  const dequantize = decoderOf(type.name);
  if (dequantize)
    return {...base, quantized: true, stream: onRead => new QuantizedStream(tensor, dequantize, scratch, onRead)};
  const unreadable = `has the type ${type.name}, expected ${READABLE_TYPES.join(', ')}`;
  const stream = () => {
    throw new ValueError(`"${tensor.name}" in ${file} ${unreadable}.`);
  };
  return {...base, unreadable, stream};
}

const within = (source: ByteSource, start: number) => (offset: number, target: Uint8Array) =>
  source.readInto(start + offset, target);
