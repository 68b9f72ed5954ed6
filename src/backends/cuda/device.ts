/** Runs operations of TensorFlow on handles, without a tensor of tfjs for each result. */
import type * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../../base/shapes';
import {type Packer} from '../simd/packing/packer';
import {
  ARG_MAX,
  BATCH_MAT_MUL,
  BFLOAT16,
  CONCAT,
  concatAttributes,
  FLOAT,
  GATHER,
  INT32,
  type INT8,
  KEEP,
  MAT_MUL,
  REDUCE,
  RESHAPE,
  ROLL,
  SLICE,
  SPLIT,
  T,
  TRANSPOSE,
  WIDEN,
  type ShortAttributes,
} from './attributes';
import {type Attribute, type GuardedBinding} from './native/binding';
import {type StockBackend} from './native/tfjs_node';

export {BFLOAT16, FLOAT, INT32, INT8, type ShortAttributes, UINT8} from './attributes';

/** How bfloat16 weights rest on the device. */
export type Rest = typeof FLOAT | typeof BFLOAT16;

/** A packed matrix, whose handle has another type and shape than the int32 tensor that stands for it in tfjs. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  /** (rows, columns) of one of the first two types, or int8 (rows, blocks, 32). */
  readonly type: Rest | typeof INT8;
  /** The scales of int8 blocks, float32 (rows, blocks, 1). */
  readonly scales?: number;
}

/** Constants that are kept as handles; all are made anew when there are more. */
const MOST_CONSTANTS = 1024;

export class Device {
  readonly binding: GuardedBinding;
  /** By the `dataId` of their tensors. */
  readonly matrices = new WeakMap<object, Matrix>();
  private readonly attributes = new WeakMap<ShortAttributes, readonly Attribute[]>();
  private readonly constants = new Map<string, number>();
  private readonly handles = new Map<object, Map<string, number>>();
  private readonly numbers = new WeakMap<object, number>();
  private nextNumber = 0;
  /**
   * A matrix of at least this many numbers stays bfloat16 on every device. That is the table of the vocabulary, which
   * takes more memory than all blocks of a small model. Apart from a token's last product, few of its rows are read.
   */
  large = 2 ** 26;
  /** Whether formulas run as graphs. A GPU computes while the next operation is called. */
  graphs: boolean;

  constructor(
    readonly backend: StockBackend,
    readonly rest: Rest,
    /** Packs int8 weights; undefined without SIMD in WebAssembly. */
    readonly packer?: Packer,
  ) {
    this.binding = backend.binding;
    this.graphs = !backend.isUsingGpuDevice;
    const {disposeData} = backend;
    backend.disposeData = (dataId, force) => {
      const gone = disposeData.call(backend, dataId, force);
      if (gone && this.handles.size > 0) this.detach(dataId);
      return gone;
    };
  }

  /** The type in which a bfloat16 matrix is kept. */
  restOf(rows: number, columns: number): Rest {
    return rows * columns < this.large ? this.rest : BFLOAT16;
  }

  /** Attributes from their short form, which is kept: an object that is made anew each time is a new one. */
  attributesOf(short: ShortAttributes): readonly Attribute[] {
    let known = this.attributes.get(short);
    if (!known) {
      const {TF_ATTR_TYPE, TF_ATTR_BOOL, TF_ATTR_STRING, TF_ATTR_INT, TF_ATTR_FLOAT} = this.binding;
      known = Object.entries(short).map(([name, value]) => {
        if (typeof value === 'boolean') return {name, type: TF_ATTR_BOOL, value};
        if (typeof value === 'string') return {name, type: TF_ATTR_STRING, value};
        if (typeof value === 'number') return {name, type: TF_ATTR_TYPE, value};
        if ('int' in value) return {name, type: TF_ATTR_INT, value: value.int};
        return {name, type: TF_ATTR_FLOAT, value: value.float};
      });
      this.attributes.set(short, known);
    }
    return known;
  }

  /** The handle of a constant, int32 (values.length). It is used at once, not kept. */
  ints(values: readonly number[]): number {
    return this.constant(`i${values.join()}`, () =>
      this.binding.createTensor([values.length], INT32, Int32Array.from(values)),
    );
  }

  /** The handle of a constant, int32 (). */
  int(value: number): number {
    return this.constant(`s${value}`, () => this.binding.createTensor([], INT32, Int32Array.of(value)));
  }

  /** The handle of a constant, float32 (). */
  float(value: number): number {
    return this.constant(`f${value}`, () => this.binding.createTensor([], FLOAT, Float32Array.of(value)));
  }

  /** The handle of a constant of this shape. */
  floats(values: readonly number[], shape: readonly number[]): number {
    return this.constant(`f${values.join()} of ${shape.join()}`, () =>
      this.binding.createTensor(shape, FLOAT, Float32Array.from(values)),
    );
  }

  /** The handle of a constant of this shape with one value everywhere. */
  filled(shape: readonly number[], value: number): number {
    return this.constant(`f${value} of ${shape.join()}`, () =>
      this.binding.createTensor(shape, FLOAT, new Float32Array(sizeOf(shape)).fill(value)),
    );
  }

  private constant(key: string, create: () => number): number {
    let id = this.constants.get(key);
    if (id === undefined) this.constants.set(key, (id = create()));
    return id;
  }

  /** A number for the values of a tensor: others have another one. */
  numberOf({dataId}: tf.TensorInfo): number {
    let number = this.numbers.get(dataId);
    if (number === undefined) this.numbers.set(dataId, (number = this.nextNumber++));
    return number;
  }

  /**
   * A handle that belongs to a tensor, which is made once and deleted with it: another view of it, or what only depends
   * on it.
   *
   * @param make runs a program; its result is kept.
   */
  attached(tensor: tf.TensorInfo, key: string, make: (program: Program) => number): number {
    let own = this.handles.get(tensor.dataId);
    if (!own) this.handles.set(tensor.dataId, (own = new Map()));
    let id = own.get(key);
    if (id === undefined) {
      id = this.program(program => program.release(make(program)), false);
      own.set(key, id);
    }
    return id;
  }

  /** A handle that {@link attached} has made; undefined if it has not. */
  kept({dataId}: tf.TensorInfo, key: string): number | undefined {
    return this.handles.get(dataId)?.get(key);
  }

  /** Called when a tensor is gone. */
  private detach(dataId: object): void {
    for (const id of this.handles.get(dataId)?.values() ?? []) this.binding.deleteTensor(id);
    this.handles.delete(dataId);
  }

  /** Called between kernels, when no handle of a constant is in use. */
  trim(): void {
    if (this.constants.size <= MOST_CONSTANTS) return;
    for (const id of this.constants.values()) this.binding.deleteTensor(id);
    this.constants.clear();
  }

  idOf(tensor: tf.TensorInfo): number {
    const entry = this.backend.tensorMap.get(tensor.dataId);
    return entry.values === null && entry.id >= 0 ? entry.id : this.backend.getInputTensorIds([tensor])[0]!;
  }

  /** A tensor for a handle that nothing else owns. */
  adopt(id: number, shape: number[], dtype: 'float32' | 'int32' = 'float32'): tf.TensorInfo {
    const dataId = {};
    const type = dtype === 'float32' ? FLOAT : INT32;
    this.backend.tensorMap.set(dataId, {shape, dtype: type, values: null, id, refCount: 1});
    return {dataId, shape, dtype};
  }

  /**
   * The same for a packed matrix: in tfjs it is an int32 tensor, which only kernels of this backend read.
   *
   * @param shape of the tensor in tfjs.
   */
  adoptMatrix(id: number, matrix: Matrix, shape: [number, number]): tf.TensorInfo {
    const info = this.adopt(id, shape, 'int32');
    this.matrices.set(info.dataId, matrix);
    if (matrix.scales !== undefined) this.handles.set(info.dataId, new Map([['scales', matrix.scales]]));
    return info;
  }

  /**
   * Two tensors as one, the second after the first along the first axis. Afterwards they share its memory, if their rows
   * are multiples of 64 bytes, as TensorFlow asks; else they keep theirs.
   *
   * @param type of both.
   */
  joined(a: tf.TensorInfo, b: tf.TensorInfo, type: number): number {
    return this.attached(a, `with ${this.numberOf(b)}`, p => {
      const whole = p.concat(this.idOf(a), this.idOf(b), 0, type);
      let first = 0;
      for (const tensor of [a, b]) {
        const entry = this.backend.tensorMap.get(tensor.dataId);
        const size = this.matrices.has(tensor.dataId) ? matrixShape(this.matrices.get(tensor.dataId)!) : tensor.shape;
        const part = p.slice(whole, [first, ...size.slice(1).map(() => 0)], size, type);
        first += size[0]!;
        this.binding.deleteTensor(entry.id);
        entry.id = p.release(part);
      }
      return whole;
    });
  }

  /** Runs a kernel: what its program leaves is deleted, also after an error. */
  program<T>(run: (program: Program) => T, trim = true): T {
    if (trim) this.trim();
    const program = new Program(this);
    try {
      return run(program);
    } finally {
      program.dispose();
    }
  }
}

const matrixShape = ({rows, columns}: Matrix): number[] => [rows, columns];

/** The shape of the int32 tensor that stands for a packed matrix: its size is that of the matrix in bytes, rounded up. */
export const wordsOf = (rest: Rest, rows: number, columns: number): [number, number] => [
  rows,
  rest === FLOAT ? columns : Math.ceil(columns / 2),
];

/** Operations on handles of float32 tensors, unless they say otherwise. Their results live until the program ends. */
export class Program {
  private readonly ids: number[] = [];
  private readonly binding: GuardedBinding;

  constructor(readonly device: Device) {
    this.binding = device.binding;
  }

  run(name: string, attributes: ShortAttributes, ...inputs: number[]): number {
    const {id} = this.binding.executeOp(name, this.device.attributesOf(attributes), inputs, 1)[0]!;
    this.ids.push(id);
    return id;
  }

  /** An operation with several results. */
  several(name: string, attributes: ShortAttributes, results: number, ...inputs: number[]): number[] {
    const outputs = this.binding.executeOp(name, this.device.attributesOf(attributes), inputs, results);
    return outputs.map(({id}) => this.own(id));
  }

  /** Gives a result to a tensor. */
  take(id: number, shape: number[], dtype?: 'float32' | 'int32'): tf.TensorInfo {
    return this.device.adopt(this.release(id), shape, dtype);
  }

  /** A result that is not deleted when the program ends. */
  release(id: number): number {
    this.ids.splice(this.ids.lastIndexOf(id), 1);
    return id;
  }

  /** Takes over a result of another program. */
  own(id: number): number {
    this.ids.push(id);
    return id;
  }

  /** Deletes a result before the program ends. */
  delete(id: number): void {
    this.binding.deleteTensor(this.release(id));
  }

  /** A result from one that nothing else reads: its memory, still in the caches of a CPU, serves what comes next. */
  then(x: number, next: (x: number) => number): number {
    const result = next(x);
    this.delete(x);
    return result;
  }

  dispose(): void {
    for (const id of this.ids) this.binding.deleteTensor(id);
    this.ids.length = 0;
  }

  of(tensor: tf.TensorInfo): number {
    return this.device.idOf(tensor);
  }

  add = (a: number, b: number) => this.run('AddV2', T, a, b);
  sub = (a: number, b: number) => this.run('Sub', T, a, b);
  mul = (a: number, b: number) => this.run('Mul', T, a, b);
  square = (x: number) => this.run('Square', T, x);
  exp = (x: number) => this.run('Exp', T, x);
  log = (x: number) => this.run('Log', T, x);
  div = (a: number, b: number) => this.run('RealDiv', T, a, b);
  maximum = (a: number, b: number) => this.run('Maximum', T, a, b);
  sqrt = (x: number) => this.run('Sqrt', T, x);
  rsqrt = (x: number) => this.run('Rsqrt', T, x);
  tanh = (x: number) => this.run('Tanh', T, x);
  sigmoid = (x: number) => this.run('Sigmoid', T, x);
  /** Over the last axis. */
  softmax = (x: number) => this.run('Softmax', T, x);

  scale = (x: number, factor: number) => this.mul(x, this.device.float(factor));
  plus = (x: number, value: number) => this.add(x, this.device.float(value));

  /** Of matrices. */
  matMul = (a: number, b: number, transposeA = false, transposeB = false) =>
    this.run('MatMul', MAT_MUL[+transposeA]![+transposeB]!, a, b);

  /** Of the last two axes; the others are broadcast. */
  batchMatMul = (a: number, b: number, transposeA = false, transposeB = false) =>
    this.run('BatchMatMulV2', BATCH_MAT_MUL[+transposeA]![+transposeB]!, a, b);

  /**
   * a (m, k) · bᵀ for b (n, k). On a CPU, the operation for batches takes as little as half of the time for several rows:
   * `MatMul` is slow on transposed matrices of many columns.
   */
  timesTransposed(a: number, b: number, m: number): number {
    return m === 1 || this.device.backend.isUsingGpuDevice
      ? this.matMul(a, b, false, true)
      : this.batchMatMul(a, b, false, true);
  }

  reshape = (x: number, shape: readonly number[], type: number = FLOAT) =>
    this.run('Reshape', RESHAPE.get(type)!, x, this.device.ints(shape));

  transpose = (x: number, order: readonly number[], type: number = FLOAT) =>
    this.run('Transpose', TRANSPOSE.get(type)!, x, this.device.ints(order));

  max = (x: number, axis: number) => this.run('Max', KEEP, x, this.device.ints([axis]));

  /** √Σx², with the axis. */
  length = (x: number, axis: number) => this.run('EuclideanNorm', KEEP, x, this.device.ints([axis]));

  sum = (x: number, axis: number, keepDims = true) =>
    this.run('Sum', keepDims ? KEEP : REDUCE, x, this.device.ints([axis]));

  slice = (x: number, begin: readonly number[], size: readonly number[], type: number = FLOAT) =>
    this.run('Slice', SLICE.get(type)!, x, this.device.ints(begin), this.device.ints(size));

  /** Numbers of another type as float32. */
  widen = (x: number, type: number = BFLOAT16) => this.run('Cast', WIDEN.get(type)!, x);

  /** Rows by int32 indices, (n). */
  gather = (rows: number, indices: number, type: number = FLOAT) =>
    this.run('GatherV2', GATHER.get(type)!, rows, indices, this.device.int(0));

  /** Numbers along an axis of 2 · half, moved by half: the halves change places. */
  exchanged = (x: number, half: number, axis: number) =>
    this.run('Roll', ROLL, x, this.device.int(half), this.device.int(axis));

  /** Two tensors, one after the other along an axis. */
  concat = (a: number, b: number, axis: number, type: number = FLOAT) =>
    this.run('ConcatV2', CONCAT.get(type)!, a, b, this.device.int(axis));

  /** Any number of tensors. */
  concatAll = (parts: readonly number[], axis: number) =>
    this.run('ConcatV2', concatAttributes(parts.length), ...parts, this.device.int(axis));

  /** int32: where the largest value is, over the last of two axes. */
  argMax = (x: number) => this.run('ArgMax', ARG_MAX, x, this.device.int(1));

  /** A tensor in parts along an axis. */
  split(x: number, sizes: readonly number[], axis: number): number[] {
    const {binding, device} = this;
    const count = {name: 'num_split', type: binding.TF_ATTR_INT, value: sizes.length};
    const attributes = [count, ...device.attributesOf(SPLIT)];
    const inputs = [x, device.ints(sizes), device.int(axis)];
    return binding.executeOp('SplitV', attributes, inputs, sizes.length).map(({id}) => this.own(id));
  }

  /** A new handle of values on the host. */
  values(values: Float32Array, shape: readonly number[]): number {
    const id = this.binding.createTensor(shape, FLOAT, values);
    this.ids.push(id);
    return id;
  }

  /** A new handle of int32 numbers, (values.length). */
  list(values: readonly number[]): number {
    const id = this.binding.createTensor([values.length], INT32, Int32Array.from(values));
    this.ids.push(id);
    return id;
  }
}
