/** A matrix that rests packed and is float32 for everyone who asks. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {ValueError} from '../base/errors';
import {type Initializer} from './initializers';
import {float32ToBfloat16} from '../base/half';
import {type PackedFormat} from './dtype';
import {initialValues} from './initial_values';
import {type KernelLayout, type Packing, packingFor, type PackingTarget} from './packing';
import {hollow} from './weight';
import {MEMORY_PIECE, PIECE, type ValueStream} from './value_stream';

export {type KernelLayout} from './packing';

/** First slab and number of slabs of the pieces that a matrix is packed in: at most `size` values, if slabs allow it. */
function* pieces(shape: readonly number[], multiple: number, size: number): Generator<[first: number, count: number]> {
  const slabs = shape[0] ?? 0;
  const step = Math.max(1, Math.floor(size / Math.max(1, sizeOf(shape.slice(1)) * multiple))) * multiple;
  for (let first = 0; first < slabs; first += step) yield [first, Math.min(step, slabs - first)];
}

/** A matrix (rows, columns) as it rests. */
const ROWS: KernelLayout = {out: [0], in: [1]};

/**
 * At rest: `bits`, an int32 tensor in the physical order that `packing` names; its rows are the outputs of the kernel and
 * its columns the inputs. `shape`, `dtype`, `read` and `write` are logical and float32, so `getWeights`, `setWeights`,
 * `countParams` and `summary` of tfjs are right as they stand.
 *
 * bfloat16 values from a file are kept as they are, without rounding. The matrix cannot be trained: there is nothing
 * that a gradient could be added to.
 */
export class PackedWeight extends tf.LayerVariable {
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
    // tfjs declares both as readonly and takes them from the tensor; what users see is the logical form.
    Object.assign(this, {shape, dtype: 'float32'});
    this.rows = rows;
    this.columns = columns;
    this.packing = packing;
    this.pending = initializer;
    this.physical.trainable = false;
  }

  /** Bytes at rest. */
  get byteLength(): number {
    return 4 * sizeOf(this.packing.physicalShape(this.rows, this.columns));
  }

  get filled(): boolean {
    return this.pending === undefined;
  }

  /** What will give the weight its values if nothing fills it before; undefined when it has them. */
  get initializer(): Initializer | undefined {
    return this.pending;
  }

  /** tfjs keeps the tensor in a protected field. */
  private get physical(): tf.Variable {
    return (this as unknown as {val: tf.Variable}).val;
  }

  /** The flag is what summaries and optimizers see; the bits are never differentiated, whatever it says. */
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
    if (this.pending) this.initialise(this.pending);
    return this.physical as tf.Tensor as tf.Tensor2D;
  }

  /** x (M, columns) · Wᵀ → (M, rows), with a gradient for x. */
  matMul(x: tf.Tensor2D): tf.Tensor2D {
    return this.packing.matMul(x, this.bits, this.rows, this.columns);
  }

  /** Rows by number, float32 (ids, columns). */
  gatherRows(ids: tf.Tensor1D): tf.Tensor2D {
    return this.packing.gatherRows(this.bits, ids, this.columns);
  }

  /** A fresh float32 tensor in logical shape: the caller, or its tidy, disposes it. */
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
   * Takes float32 values in logical shape, rounding them to the format; or int32 bits in physical shape, as they are; or
   * bfloat16 values in logical order, two in an int32 word: files of tfjs have them so, whatever the backend.
   *
   * @throws ValueError on another shape.
   */
  override write(value: tf.Tensor): this {
    if (value.dtype === 'int32' && tf.util.arraysEqual(value.shape, this.physical.shape)) {
      this.physical.assign(value);
      this.pending = undefined;
      return this;
    }
    if (this.format === 'bfloat16' && value.dtype === 'int32' && value.rank === 1) {
      return this.writeHalves(value as tf.Tensor1D);
    }
    if (!tf.util.arraysEqual(value.shape, this.shape as number[])) {
      throw new ValueError(
        `Weight "${this.originalName}" expected a value of shape [${this.shape}]. Received: [${value.shape}].`,
      );
    }
    if (value.dtype !== 'float32') {
      throw new ValueError(`Weight "${this.originalName}" expected float32 values. Received: ${value.dtype}.`);
    }
    const halves = new Uint16Array(value.size);
    float32ToBfloat16(value.dataSync() as Float32Array, halves);
    const target = this.packing.begin(this.shape as number[], this.layout);
    target.place(halves, 0, (this.shape[0] as number | undefined) ?? 1);
    this.finish(target);
    return this;
  }

  private writeHalves(value: tf.Tensor1D): this {
    const shape = this.shape as number[];
    const size = sizeOf(shape);
    if (value.size !== Math.ceil(size / 2)) {
      throw new ValueError(
        `Weight "${this.originalName}" expected ${size} bfloat16 values in ${Math.ceil(size / 2)} words. ` +
          `Received: ${value.size} words.`,
      );
    }
    const words = value.dataSync() as Int32Array;
    const halves = new Uint16Array(words.buffer, words.byteOffset, size);
    const target = this.packing.begin(shape, this.layout);
    const slab = sizeOf(shape.slice(1));
    for (const [first, count] of pieces(shape, target.multiple, MEMORY_PIECE)) {
      target.place(halves.subarray(first * slab, (first + count) * slab), first, count);
    }
    this.finish(target);
    return this;
  }

  /** Takes the values from a file, piece by piece, each put where it belongs at rest. */
  async fill(stream: ValueStream): Promise<void> {
    await this.take(stream, this.shape as number[], this.layout, PIECE);
  }

  /** The same from values in memory, in logical order or as rows (rows, columns), in pieces of at most `piece` values. */
  async fillFromMemory(stream: ValueStream, order: 'logical' | 'rows', piece: number): Promise<void> {
    if (order === 'logical') await this.take(stream, this.shape as number[], this.layout, piece);
    else await this.take(stream, [this.rows, this.columns], ROWS, piece);
  }

  private async take(stream: ValueStream, shape: number[], layout: KernelLayout, piece: number): Promise<void> {
    const target = this.packing.begin(shape, layout);
    const slab = sizeOf(shape.slice(1));
    try {
      for (const [first, count] of pieces(shape, target.multiple, piece)) {
        target.place(await stream.readBfloat16(first * slab, count * slab), first, count);
      }
    } catch (error) {
      target.abandon();
      throw error;
    }
    this.finish(target);
  }

  private initialise(initializer: Initializer): void {
    const shape = this.shape as number[];
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
    for (const [first, count] of pieces(shape, target.multiple, MEMORY_PIECE)) {
      const size = count * slab;
      if (floats.length < size) [floats, halves] = [new Float32Array(size), new Uint16Array(size)];
      fill(floats.subarray(0, size));
      float32ToBfloat16(floats.subarray(0, size), halves.subarray(0, size));
      target.place(halves.subarray(0, size), first, count);
    }
    this.finish(target);
  }

  private finish(target: PackingTarget): void {
    tf.tidy(() => {
      this.physical.assign(target.finish());
    });
    this.pending = undefined;
  }
}
