/** A matrix that rests as bfloat16 and is float32 for everyone who asks. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../errors';
import {type Initializer} from '../layers/initializers';
import {unpackBfloat16} from '../ops/unpack';
import {float32ToBfloat16} from '../saving/half';
import {hollow, PIECE, type ValueStream} from './weight';

/** Which axes of a kernel's logical shape are its outputs (rows at rest) and which its inputs (columns at rest). */
export interface KernelLayout {
  readonly out: readonly number[];
  readonly in: readonly number[];
}

/** Rows are padded with zeros to a multiple of this many values, so that kernels need no remainder loop. */
const ROW_MULTIPLE = 32;

const product = (xs: readonly number[]) => xs.reduce((a, b) => a * b, 1);

/**
 * At rest: `bits`, an int32 tensor (rows, padded columns / 2) holding two bfloat16 values a word, low half first; rows
 * are the outputs of the kernel and columns its inputs. `shape`, `dtype`, `read` and `write` are logical and float32, so
 * `getWeights`, `setWeights`, `countParams` and `summary` of tfjs are right as they stand.
 *
 * bfloat16 values from a file are kept as they are, without rounding. The matrix cannot be trained: there is nothing
 * that a gradient could be added to.
 */
export class PackedWeight extends tf.LayerVariable {
  readonly format = 'bfloat16';
  readonly rows: number;
  readonly columns: number;
  private pending?: Initializer;

  constructor(
    shape: number[],
    readonly layout: KernelLayout,
    name: string,
    initializer: Initializer,
    trainable = true,
  ) {
    const rows = product(layout.out.map(axis => shape[axis]!));
    const columns = product(layout.in.map(axis => shape[axis]!));
    const padded = Math.ceil(columns / ROW_MULTIPLE) * ROW_MULTIPLE;
    const bits = hollow([rows, padded / 2], 'int32');
    super(bits, 'int32', name, trainable);
    bits.dispose();
    // tfjs declares both as readonly and takes them from the tensor; what users see is the logical form.
    Object.assign(this, {shape, dtype: 'float32'});
    this.rows = rows;
    this.columns = columns;
    this.pending = initializer;
    this.physical.trainable = false;
  }

  get filled(): boolean {
    return this.pending === undefined;
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

  /** The packed rows. */
  get bits(): tf.Tensor2D {
    const initializer = this.pending;
    if (initializer) {
      tf.tidy(() => {
        this.write(initializer.apply(this.shape as number[], 'float32'));
      });
    }
    return this.physical as tf.Tensor as tf.Tensor2D;
  }

  /** A fresh float32 tensor in logical shape: the caller, or its tidy, disposes it. */
  override read(): tf.Tensor {
    return tf.tidy(() => {
      const rows = tf.slice(unpackBfloat16(this.bits), [0, 0], [this.rows, this.columns]);
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
   * Takes float32 values in logical shape, rounding them to bfloat16; or int32 bits in physical shape, as they are.
   *
   * @throws ValueError on another shape or type.
   */
  override write(value: tf.Tensor): this {
    const words = this.physical.shape[1]!;
    if (value.dtype === 'int32' && tf.util.arraysEqual(value.shape, [this.rows, words])) {
      this.physical.assign(value);
      this.pending = undefined;
      return this;
    }
    if (!tf.util.arraysEqual(value.shape, this.shape as number[])) {
      throw new ValueError(
        `Weight "${this.originalName}" expected a value of shape [${this.shape}]. Received: [${value.shape}].`,
      );
    }
    if (value.dtype !== 'float32') {
      throw new ValueError(`Weight "${this.originalName}" expected float32 values. Received: ${value.dtype}.`);
    }
    const rows = tf.tidy(() => tf.transpose(value, [...this.layout.out, ...this.layout.in]));
    const halves = new Uint16Array(this.rows * words * 2);
    const packed = new Uint16Array(value.size);
    float32ToBfloat16(rows.dataSync() as Float32Array, packed);
    rows.dispose();
    for (let row = 0; row < this.rows; row++) {
      halves.set(packed.subarray(row * this.columns, (row + 1) * this.columns), row * words * 2);
    }
    this.writeBits(halves);
    return this;
  }

  /** Takes the values from a file, piece by piece, each put where it belongs at rest. */
  async fill(stream: ValueStream): Promise<void> {
    const shape = this.shape as number[];
    const halves = new Uint16Array(this.rows * this.physical.shape[1]! * 2);
    const slab = shape[0] ? product(shape.slice(1)) : 0; // values under one index of the first axis
    const slabs = Math.max(1, Math.floor(PIECE / Math.max(1, slab)));
    for (let first = 0; first < (shape[0] ?? 0); first += slabs) {
      const count = Math.min(slabs, shape[0]! - first);
      this.place(await stream.readBfloat16(first * slab, count * slab), first, count, halves);
    }
    this.writeBits(halves);
  }

  private writeBits(halves: Uint16Array): void {
    tf.tidy(() => {
      this.physical.assign(tf.tensor(new Int32Array(halves.buffer), this.physical.shape, 'int32'));
    });
    this.pending = undefined;
  }

  /** How far apart neighbours along each logical axis rest, in values. */
  private get strides(): number[] {
    const shape = this.shape as number[];
    const strides = shape.map(() => 0);
    for (const [axes, unit] of [
      [this.layout.out, this.physical.shape[1]! * 2],
      [this.layout.in, 1],
    ] as const) {
      let stride: number = unit;
      for (const axis of [...axes].reverse()) {
        strides[axis] = stride;
        stride *= shape[axis]!;
      }
    }
    return strides;
  }

  /** Puts `count` slabs of the first axis, beginning with slab `first`, where they rest. */
  private place(values: Uint16Array, first: number, count: number, halves: Uint16Array): void {
    // Kernels have two or three axes; fewer are padded in front, so that one loop nest serves all.
    const shape = [...(this.shape as number[])];
    const strides = this.strides;
    shape[0] = count;
    const origin = first * strides[0]!;
    while (shape.length < 3) {
      shape.unshift(1);
      strides.unshift(0);
    }
    const inner = shape.length - 2;
    const [height, width] = [shape[inner]!, shape[inner + 1]!];
    const [down, right] = [strides[inner]!, strides[inner + 1]!];
    const outer = product(shape.slice(0, inner));
    for (let o = 0, from = 0; o < outer; o++, from += height * width) {
      let base = origin;
      for (let axis = inner - 1, rest = o; axis >= 0; axis--) {
        base += (rest % shape[axis]!) * strides[axis]!;
        rest = Math.floor(rest / shape[axis]!);
      }
      if (right === 1) {
        for (let y = 0; y < height; y++) {
          halves.set(values.subarray(from + y * width, from + (y + 1) * width), base + y * down);
        }
      } else {
        transposeInto(values, from, height, width, halves, base, down, right);
      }
    }
  }
}

/** Square tiles keep both the rows that are read and the rows that are written in cache. */
function transposeInto(
  values: Uint16Array,
  from: number,
  height: number,
  width: number,
  out: Uint16Array,
  base: number,
  down: number,
  right: number,
): void {
  const TILE = 32;
  for (let y0 = 0; y0 < height; y0 += TILE) {
    const y1 = Math.min(height, y0 + TILE);
    for (let x0 = 0; x0 < width; x0 += TILE) {
      const x1 = Math.min(width, x0 + TILE);
      for (let y = y0; y < y1; y++) {
        let to = base + y * down + x0 * right;
        for (let x = x0; x < x1; x++, to += right) out[to] = values[from + y * width + x]!;
      }
    }
  }
}
