/** The native part of tfjs-node, which calls TensorFlow's C interface. */
import {constants} from 'node:os';
import {toOutOfMemory, type Wanted} from './memory';

/** A handle of a tensor. */
export interface Output {
  readonly id: number;
  readonly shape: number[];
  readonly dtype: number;
}

/** An attribute of an operation. `type` is one of the binding's `TF_ATTR_…`. */
export interface Attribute {
  readonly name: string;
  readonly type: number;
  readonly value: unknown;
}

export interface Binding {
  createTensor(shape: readonly number[], dtype: number, values: Float32Array | Int32Array | Uint8Array): number;
  deleteTensor(id: number): void;
  /** A copy of the values. */
  tensorDataSync(id: number): Float32Array | Int32Array | Uint8Array;
  executeOp(name: string, attributes: readonly Attribute[], inputs: readonly number[], outputs: number): Output[];
  /** A handle of the graph of a SavedModel, which stays. */
  loadSavedModel(folder: string, tags: string): number;
  /** Runs a graph. Names are joined by commas: `x:0,y:0`. */
  runSavedModel(graph: number, inputs: readonly number[], names: string, results: string): Output[];
  isUsingGpuDevice(): boolean;
  getNumOfTensors(): number;
  readonly TF_Version: string;
  readonly TF_ATTR_TYPE: number;
  readonly TF_ATTR_BOOL: number;
  readonly TF_ATTR_INT: number;
  readonly TF_ATTR_FLOAT: number;
  readonly TF_ATTR_STRING: number;
}

/** A binding that counts what it runs and what the host reads, and whose errors are ours. */
export interface GuardedBinding extends Binding {
  readonly counts: {operations: number; bytesRead: number};
}

/** An operation that TensorFlow refused, with its message. */
export class TensorFlowError extends Error {
  override name = 'TensorFlowError';
}

/** TensorFlow's text in one line, without the places in its sources. */
const textOf = (error: unknown) => String((error as Error).message ?? error).replace(/\s+/g, ' ');

function ours(what: string, error: unknown, wanted?: Wanted): Error {
  const text = textOf(error);
  return (
    toOutOfMemory(text, undefined, wanted) ?? new TensorFlowError(`TensorFlow refused ${what}: ${text}`, {cause: error})
  );
}

/** Settings that TensorFlow reads when it starts; those that the user has set stay. */
export function setEnvironment(): void {
  // Memory as it is needed, so that other programs on the GPU keep theirs.
  process.env.TF_FORCE_GPU_ALLOW_GROWTH ??= 'true';
  // Products of float32 numbers in float32: by default a GPU may round them to 10 bits.
  process.env.NVIDIA_TF32_OVERRIDE ??= '0';
  // Warnings and errors only.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '2';
}

/** @throws Error if the file, or a library that it needs, cannot be loaded. */
export function openBinding(file: string): Binding {
  setEnvironment();
  const module = {exports: {}};
  process.dlopen(module, file, constants.dlopen.RTLD_NOW);
  return module.exports as Binding;
}

const ARRAYS = [Float32Array, Int32Array, Uint8Array] as const;

/**
 * The same values in an array of the classes that this code sees. The binding makes those of Node's first realm, which a
 * test runner such as jest replaces for the programs that it runs.
 */
function inOwnRealm(values: ReturnType<Binding['tensorDataSync']>): typeof values {
  if (ARRAYS.some(Type => values instanceof Type)) return values;
  const Type = ARRAYS.find(({name}) => name === values.constructor.name);
  return Type ? new Type(values.buffer as ArrayBuffer, values.byteOffset, values.length) : values;
}

export function guarded(binding: Binding): GuardedBinding {
  const counts = {operations: 0, bytesRead: 0};
  const executeOp: Binding['executeOp'] = (name, attributes, inputs, outputs) => {
    counts.operations++;
    try {
      return binding.executeOp(name, attributes, inputs, outputs);
    } catch (error) {
      throw ours(`the operation "${name}"`, error);
    }
  };
  const runSavedModel: Binding['runSavedModel'] = (graph, inputs, names, results) => {
    counts.operations++;
    try {
      return binding.runSavedModel(graph, inputs, names, results);
    } catch (error) {
      throw ours('a graph', error);
    }
  };
  const createTensor: Binding['createTensor'] = (shape, dtype, values) => {
    try {
      return binding.createTensor(shape, dtype, values);
    } catch (error) {
      const type = values instanceof Uint8Array ? 'uint8' : 'float';
      throw ours(`a tensor of shape [${shape.join()}]`, error, {shape, type});
    }
  };
  const tensorDataSync: Binding['tensorDataSync'] = id => {
    try {
      const values = inOwnRealm(binding.tensorDataSync(id));
      counts.bytesRead += values.byteLength;
      return values;
    } catch (error) {
      throw ours('to read a tensor', error);
    }
  };
  // Members of the binding cannot be assigned.
  const own = Object.entries({counts, executeOp, runSavedModel, createTensor, tensorDataSync});
  return Object.create(
    binding,
    Object.fromEntries(own.map(([name, value]) => [name, {value, enumerable: true}])),
  ) as GuardedBinding;
}
