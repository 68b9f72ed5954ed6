/** A weight that is stored packed, but is read and written as float32. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {float32ToBfloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {type PackedFormat} from './dtype';
import {checkIndexTensor, rowsOfTable} from './host_values';
import {initialValues} from './initial_values';
import {type Initializer} from './initializers';
import {bfloat16Bits, packValues, slabPieces} from './pack_values';
import {type KernelLayout, type Packing, packingFor} from './packing';
import {MEMORY_PIECE, PIECE, type ValueStream} from './value_stream';
import {hollow, type Weight} from './weight';

export {type KernelLayout} from './packing';

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

  /** The packed matrix. */
  get bits(): tf.Tensor2D {
    if (this.physical.isDisposed) throw new Error(`LayersVariable ${this.name} is already disposed.`);
    if (this.pending) this.initialize(this.pending);
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
    this.takeBits(packing.packTensor(values, this.shape, layout));
    return this;
  }

  /**
   * Like {@link write}, but works on every backend: reads the tensor asynchronously and packs it from host memory.
   *
   * @throws ValueError on a wrong shape or type, and if the current backend cannot pack into this format.
   */
  async fillFromTensor(values: tf.Tensor): Promise<void> {
    if (this.isPacked(values)) {
      this.setBits(values);
      return;
    }
    this.checkValues(values);
    const shape = this.shape;
    const halves = bfloat16Bits((await values.data()) as Float32Array | Int32Array, sizeOf(shape));
    this.takeBits(packValues(this.packing.begin(shape, this.layout), halves, shape));
  }

  /** Fills the weight from a stream, such as that of a file, and packs each piece as it arrives. */
  async fill(stream: ValueStream): Promise<void> {
    await this.take(stream, this.shape, this.layout, PIECE);
  }

  /**
   * Like {@link fill}, from values in memory: in logical order or as (rows, columns), at most `piece` values at a time.
   */
  async fillFromMemory(stream: ValueStream, order: 'logical' | 'rows', piece: number): Promise<void> {
    if (order === 'logical') await this.take(stream, this.shape, this.layout, piece);
    else await this.take(stream, [this.rows, this.columns], ROWS, piece);
  }

  private async take(stream: ValueStream, shape: number[], layout: KernelLayout, piece: number): Promise<void> {
    const target = this.packing.begin(shape, layout);
    const slab = sizeOf(shape.slice(1));
    try {
      for (const [first, count] of slabPieces(shape, target.multiple, piece)) {
        target.place(await stream.readBfloat16(first * slab, count * slab), first, count);
      }
    } catch (error) {
      target.abandon();
      throw error;
    }
    this.takeBits(target.finish());
  }

  private initialize(initializer: Initializer): void {
    const shape = this.shape;
    const fill = initialValues(initializer, shape);
    if (!fill) {
      tf.tidy(() => {
        this.write(initializer.apply(shape, 'float32'));
      });
      return;
    }
    const target = this.packing.begin(shape, this.layout);
    const slab = sizeOf(shape.slice(1));
    let floats = new Float32Array(0);
    let halves = new Uint16Array(0);
    for (const [first, count] of slabPieces(shape, target.multiple, MEMORY_PIECE)) {
      const size = count * slab;
      if (floats.length < size) [floats, halves] = [new Float32Array(size), new Uint16Array(size)];
      fill(floats.subarray(0, size));
      float32ToBfloat16(floats.subarray(0, size), halves.subarray(0, size));
      target.place(halves.subarray(0, size), first, count);
    }
    this.takeBits(target.finish());
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

  private setBits(bits: tf.Tensor): void {
    this.physical.assign(bits);
    this.pending = undefined;
  }

  /** Sets the bits from a tensor that nothing else uses, and disposes it. */
  private takeBits(bits: tf.Tensor): void {
    this.setBits(bits);
    bits.dispose();
  }
}

/** Every weight of every layer is one of these. */
export type AnyWeight = Weight | PackedWeight;

/** A weight as the operand of `denseEinsum` and `embedding`, which read packed weights without unpacking them. */
export const operandOf = (weight: AnyWeight): tf.Tensor | PackedWeight =>
  weight instanceof PackedWeight ? weight : weight.read();
