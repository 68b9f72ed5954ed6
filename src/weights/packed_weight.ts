/** A weight that is stored packed, but is read and written as float32. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {float32ToBfloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {BYTES_PER_WEIGHT, type PackedFormat} from './dtype';
import {checkIndexTensor, rowsOfTable} from './host_values';
import {checkWeightInUse, isDisposed} from './in_use';
import {initialValues} from './initial_values';
import {type Initializer} from './initializers';
import {INTEGER_BLOCK, type IntegerStream} from './integer_stream';
import {bfloat16Bits, packStream, packValues, slabPieces} from './pack_values';
import {type BitsTarget, type KernelLayout, type Packing, packingFor} from './packing';
import {PIECE, type ValueStream} from './value_stream';
import {hollow, type Weight} from './weight';

export {type KernelLayout} from './packing';

/** Values that an initializer computes at a time, and that are packed at a time unless a kernel requires more. */
const INITIAL_PIECE = 2 ** 16;
const INITIAL_SLABS = 2 ** 18;

let buffers: {floats: Float32Array; halves: Uint16Array} | undefined;

/**
 * Arrays for initial values, `halves` of this length. All weights that are initialized in one go share them: otherwise a
 * large model would create arrays faster than the garbage collector frees them.
 */
function initialBuffers(size: number): {floats: Float32Array; halves: Uint16Array} {
  if (!buffers) queueMicrotask(() => (buffers = undefined));
  if (!buffers || buffers.halves.length < size) {
    buffers = {floats: buffers?.floats ?? new Float32Array(INITIAL_PIECE), halves: new Uint16Array(size)};
  }
  return {floats: buffers.floats, halves: buffers.halves.subarray(0, size)};
}

/** The layout of the stored matrix (rows, columns) itself. */
const ROWS: KernelLayout = {out: [0], in: [1]};

/**
 * Stored as `bits`, an int32 tensor in the physical order of `packing`: its rows are the outputs of the kernel, its
 * columns the inputs. `shape`, `dtype`, `read` and `write` are logical and float32, so `getWeights`, `setWeights`,
 * `countParams` and `summary` of tfjs work unchanged.
 *
 * bfloat16 values from a file are kept without rounding. A packed matrix cannot be trained: no gradient can be added to
 * its bits.
 */
export class PackedWeight extends tf.LayerVariable {
  /** The logical shape. */
  declare readonly shape: number[];
  readonly rows: number;
  readonly columns: number;
  readonly packing: Packing;
  /** Other formats in which the weight accepts bits, for example from files. It then changes to that format. */
  alternatives: readonly PackedFormat[] = [];
  /**
   * The mean square of each column's input, up to a factor, if a model knows it: see `Packing.begin`. Used for values
   * that are packed afterwards.
   */
  energies?: Float32Array;
  private pending?: Initializer;

  constructor(
    shape: number[],
    readonly layout: KernelLayout,
    name: string,
    initializer: Initializer,
    trainable = true,
    readonly format: PackedFormat = 'bfloat16',
  ) {
    const rows = sizeOf(layout.out.map(axis => shape[axis]!));
    const columns = sizeOf(layout.in.map(axis => shape[axis]!));
    const packing = packingFor(format);
    const bits = hollow(packing.physicalShape(rows, columns), 'int32');
    super(bits, 'int32', name, trainable);
    bits.dispose();
    // tfjs declares both as readonly and takes them from the tensor. Users see the logical form.
    Object.assign(this, {shape, dtype: 'float32'});
    this.rows = rows;
    this.columns = columns;
    this.packing = packing;
    this.pending = initializer;
    this.physical.trainable = false;
  }

  /** Size in bytes, as stored. */
  get byteLength(): number {
    return 4 * sizeOf(this.packing.physicalShape(this.rows, this.columns));
  }

  /** False while the weight is only declared. */
  get filled(): boolean {
    return this.pending === undefined;
  }

  /**
   * The initializer that runs at the first read, unless the weight is filled before that; undefined once it has values.
   */
  get initializer(): Initializer | undefined {
    return this.pending;
  }

  /** tfjs keeps the tensor in a protected field. */
  private get physical(): tf.Variable {
    return (this as unknown as {val: tf.Variable}).val;
  }

  /** The flag that summaries and optimizers see. The bits are never differentiated, even if it is true. */
  override get trainable(): boolean {
    return super.trainable;
  }
  override set trainable(value: boolean) {
    super.trainable = value;
    this.physical.trainable = false;
  }

  /**
   * The packed matrix.
   *
   * @throws ValueError if the weight was disposed.
   */
  get bits(): tf.Tensor2D {
    this.initialize();
    return this.physical as tf.Tensor as tf.Tensor2D;
  }

  /** x (M, columns) · Wᵀ → (M, rows), with a gradient for x. */
  matMul(x: tf.Tensor2D): tf.Tensor2D {
    return this.packing.matMul(x, this.bits, this.rows, this.columns);
  }

  /**
   * The rows with these ids, float32 (ids, columns).
   *
   * @throws ValueError for ids that are not rows, on backends whose tensors the host can read.
   */
  gatherRows(ids: tf.Tensor1D): tf.Tensor2D {
    checkIndexTensor(ids, rowsOfTable(this.rows));
    return this.packing.gatherRows(this.bits, ids, this.columns);
  }

  /** A new float32 tensor in logical shape; the caller, or its `tf.tidy`, disposes it. */
  override read(): tf.Tensor {
    return tf.tidy(() => {
      const rows = this.packing.unpack(this.bits, this.rows, this.columns);
      const order = [...this.layout.out, ...this.layout.in];
      const split = tf.reshape(
        rows,
        order.map(axis => this.shape[axis]!),
      );
      return tf.transpose(
        split,
        order.map((_, axis) => order.indexOf(axis)),
      );
    });
  }

  /**
   * Takes float32 values in logical shape, which are rounded to the format; or int32 bits in physical shape, unchanged;
   * or bfloat16 values in logical order, two per int32 word, which is what tfjs files hold for every backend.
   *
   * @throws ValueError on a wrong shape or type; also on float32 and bfloat16 values if the backend cannot pack a
   * tensor synchronously: use {@link fillFromTensor} there.
   */
  override write(values: tf.Tensor): this {
    this.adoptFormat(values);
    if (this.isPacked(values)) {
      this.setBits(values);
      return this;
    }
    this.checkValues(values);
    const {packing, layout} = this;
    if (!packing.packTensor) {
      throw new ValueError(
        `The backend "${tf.getBackend()}" cannot pack a tensor as ${this.format} synchronously. ` +
          `Use \`await weight.fillFromTensor(values)\` for weight "${this.originalName}".`,
      );
    }
    this.takeBits(packing.packTensor(values, this.shape, layout, this.energies));
    return this;
  }

  /**
   * Like {@link write}, but works on every backend: reads the tensor asynchronously and packs it from host memory.
   *
   * @throws ValueError on a wrong shape or type, and if the current backend cannot pack into this format.
   */
  async fillFromTensor(values: tf.Tensor): Promise<void> {
    this.adoptFormat(values);
    if (this.isPacked(values)) {
      this.setBits(values);
      return;
    }
    this.checkValues(values);
    const shape = this.shape;
    const halves = bfloat16Bits((await values.data()) as Float32Array | Int32Array, sizeOf(shape));
    this.takeBits(packValues(this.packing.begin(shape, this.layout, this.energies), halves, shape));
  }

  /**
   * Fills the weight from a stream, such as that of a file, and packs each piece as it arrives. Integers that the format
   * can hold are kept, with scales that are rounded to bfloat16.
   *
   * @param onLastRead called before the last piece is packed, if the stream reads ahead: another one may then be read.
   */
  async fill(stream: ValueStream, onLastRead?: () => void): Promise<void> {
    this.adoptIntegers(stream);
    const rows = this.inRows(stream);
    if (rows?.integers && this.holds(rows.integers)) await this.takeIntegers(rows.integers);
    else if (rows) await this.take(rows, [this.rows, this.columns], ROWS, PIECE, onLastRead);
    else await this.take(stream, this.shape, this.layout, PIECE, onLastRead);
  }

  /**
   * Changes to the format of fewest bits that holds the integers of this stream exactly, if the stream has any.
   */
  adoptIntegers(stream: ValueStream): void {
    const integers = this.inRows(stream)?.integers;
    if (!integers) return;
    const [narrowest] = [this.format, ...this.alternatives]
      .filter(format => this.holds(integers, packingFor(format)))
      .sort((a, b) => BYTES_PER_WEIGHT[a] - BYTES_PER_WEIGHT[b]);
    if (narrowest) this.storeAs(narrowest);
  }

  /** The stream in the order of the packed matrix; undefined if it has another order. */
  private inRows(stream: ValueStream): ValueStream | undefined {
    const order = [...this.layout.out, ...this.layout.in];
    if (stream.stored?.axes.join() === order.join()) return stream.stored.values;
    return order.every((axis, i) => axis === i) ? stream : undefined;
  }

  private holds({least, largest}: IntegerStream, {integers, beginIntegers}: Packing = this.packing): boolean {
    const whole = this.columns % INTEGER_BLOCK === 0;
    return !!beginIntegers && !!integers && whole && least >= integers.least && largest <= integers.largest;
  }

  private async takeIntegers(stream: IntegerStream): Promise<void> {
    const {rows, columns, packing} = this;
    const target = packing.beginIntegers!(rows, columns);
    try {
      for (const [first, count] of slabPieces([rows, columns], target.multiple, PIECE)) {
        target.place(await stream.readIntegers(first * columns, count * columns), first, count);
      }
    } catch (error) {
      target.abandon();
      throw error;
    }
    this.takeBits(target.finish());
  }

  /**
   * Fills the weight with bits in physical order, which `read` puts into each piece. Only backends whose memory the host
   * cannot write need memory for all bits at once.
   *
   * @param read fills its target with the bytes from `start` on.
   * @param piece memory for one piece, which several weights can share.
   */
  async fillBits(
    read: (start: number, target: Uint8Array) => Promise<void>,
    piece = new Uint8Array(PIECE),
  ): Promise<void> {
    const {rows, columns, packing, byteLength} = this;
    const target = packing.beginBits?.(rows, columns) ?? hostBits(packing.physicalShape(rows, columns));
    try {
      for (let start = 0; start < byteLength; start += piece.length) {
        const part = piece.subarray(0, byteLength - start);
        await read(start, part);
        target.place(part, start);
      }
    } catch (error) {
      target.abandon();
      throw error;
    }
    this.takeBits(target.finish());
  }

  /**
   * Like {@link fill}, from values in memory: in logical order or as (rows, columns), at most `piece` values at a time.
   */
  async fillFromMemory(stream: ValueStream, order: 'logical' | 'rows', piece: number): Promise<void> {
    if (order === 'logical') await this.take(stream, this.shape, this.layout, piece);
    else await this.take(stream, [this.rows, this.columns], ROWS, piece);
  }

  private async take(
    stream: ValueStream,
    shape: number[],
    layout: KernelLayout,
    piece: number,
    onLastRead?: () => void,
  ): Promise<void> {
    this.takeBits(await packStream(this.packing.begin(shape, layout, this.energies), stream, shape, piece, onLastRead));
  }

  /**
   * Runs the initializer, unless the weight has values.
   *
   * @throws ValueError if it was disposed.
   */
  initialize(): void {
    checkWeightInUse(this);
    const initializer = this.pending;
    if (!initializer) return;
    const shape = this.shape;
    const fill = initialValues(initializer, shape);
    if (!fill) {
      tf.tidy(() => {
        this.write(initializer.apply(shape, 'float32'));
      });
      return;
    }
    const target = this.packing.begin(shape, this.layout, this.energies);
    const slab = sizeOf(shape.slice(1));
    for (const [first, count] of slabPieces(shape, target.multiple, INITIAL_SLABS)) {
      const {floats, halves} = initialBuffers(count * slab);
      for (let start = 0; start < halves.length; start += INITIAL_PIECE) {
        const piece = halves.subarray(start, start + INITIAL_PIECE);
        const values = floats.subarray(0, piece.length);
        fill(values);
        float32ToBfloat16(values, piece);
      }
      target.place(halves, first, count);
    }
    this.takeBits(target.finish());
  }

  /** Changes to the format of these bits, if it is one of the alternatives. */
  private adoptFormat({dtype, shape}: tf.Tensor): void {
    if (dtype !== 'int32' || tf.util.arraysEqual(shape, this.physical.shape)) return;
    const {rows, columns} = this;
    const format = this.alternatives.find(one =>
      tf.util.arraysEqual(shape, packingFor(one).physicalShape(rows, columns)),
    );
    if (format) this.storeAs(format);
  }

  /**
   * Changes the format to one of {@link alternatives}. The weight loses its values: it must be filled afterwards, before
   * anything reads it.
   */
  storeAs(format: PackedFormat): void {
    checkWeightInUse(this);
    const {physical, format: old} = this;
    if (format === old) return;
    const packing = packingFor(format);
    const bits = hollow(packing.physicalShape(this.rows, this.columns), 'int32');
    physical.dispose();
    const val = tf.variable(bits, false, physical.name, 'int32');
    bits.dispose();
    const alternatives = [...this.alternatives.filter(one => one !== format), old];
    Object.assign(this, {val, format, packing, alternatives, pending: this.pending ?? tf.initializers.zeros()});
  }

  private isPacked(values: tf.Tensor): boolean {
    return values.dtype === 'int32' && tf.util.arraysEqual(values.shape, this.physical.shape);
  }

  /** @throws ValueError unless these are float32 values in logical shape, or words of bfloat16 values. */
  private checkValues({shape, size, dtype, rank}: tf.Tensor): void {
    const weight = `Weight "${this.originalName}"`;
    if (this.format === 'bfloat16' && dtype === 'int32' && rank === 1) {
      const count = sizeOf(this.shape);
      const words = Math.ceil(count / 2);
      if (size === words) return;
      throw new ValueError(`${weight} expected ${count} bfloat16 values in ${words} words. Received: ${size} words.`);
    }
    if (!tf.util.arraysEqual(shape, this.shape)) {
      throw new ValueError(`${weight} expected a value of shape [${this.shape}]. Received: [${shape}].`);
    }
    if (dtype !== 'float32') throw new ValueError(`${weight} expected float32 values. Received: ${dtype}.`);
  }

  /** Frees the memory. A second call does nothing. */
  override dispose(): void {
    if (!isDisposed(this)) super.dispose();
  }

  private setBits(bits: tf.Tensor): void {
    checkWeightInUse(this);
    const packed = this.packing.fromWords?.(bits, this.rows, this.columns);
    this.physical.assign(packed ?? bits);
    packed?.dispose();
    this.pending = undefined;
  }

  /** Sets the bits from a tensor that nothing else uses, and disposes it. */
  private takeBits(bits: tf.Tensor): void {
    this.setBits(bits);
    bits.dispose();
  }
}

/** Bits that are collected before they become a tensor. */
function hostBits(shape: [number, number]): BitsTarget {
  const words = new Int32Array(sizeOf(shape));
  const bytes = new Uint8Array(words.buffer);
  return {
    place: (part, start) => bytes.set(part, start),
    finish: () => tf.tensor(words, shape, 'int32'),
    abandon: () => {},
  };
}

/** Every weight of every layer is one of these. */
export type AnyWeight = Weight | PackedWeight;

/** A weight as the operand of `denseEinsum` and `embedding`, which read packed weights without unpacking them. */
export const operandOf = (weight: AnyWeight): tf.Tensor | PackedWeight =>
  weight instanceof PackedWeight ? weight : weight.read();
