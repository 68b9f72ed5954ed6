/** Streams the values of a weight, and repacks a weight into another format, piece by piece. */
import * as tf from '@tensorflow/tfjs';
import {float32ToBfloat16} from '../base/half';
import {type PackedFormat} from './dtype';
import {type KernelLayout, PackedWeight} from './packed_weight';
import {MEMORY_PIECE, type ValueStream} from './value_stream';
import {type Weight} from './weight';

/** Values of a tensor or of packed rows, in pieces. */
abstract class MemoryStream implements ValueStream {
  private halves = new Uint16Array(0);
  constructor(readonly shape: readonly number[]) {}

  /** `count` values from `start` on, in a tensor that the caller disposes. */
  protected abstract piece(start: number, count: number): tf.Tensor;

  /** Frees the memory of the stream, but not the weight. */
  dispose(): void {}

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    const piece = this.piece(start, out.length);
    try {
      out.set((await piece.data()) as Float32Array);
    } finally {
      piece.dispose();
    }
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    if (this.halves.length < count) this.halves = new Uint16Array(count);
    const halves = this.halves.subarray(0, count);
    const piece = this.piece(start, count);
    try {
      float32ToBfloat16((await piece.data()) as Float32Array, halves);
    } finally {
      piece.dispose();
    }
    return halves;
  }
}

/** A float32 weight in logical order. */
class FloatStream extends MemoryStream {
  constructor(private readonly weight: Weight) {
    super(weight.shape);
  }
  protected piece(start: number, count: number): tf.Tensor {
    return tf.tidy(() => tf.slice(tf.reshape(this.weight.read(), [-1]), start, count));
  }
}

/** A packed weight as rows (rows, columns): only the groups of rows that a piece needs are unpacked. */
class RowStream extends MemoryStream {
  constructor(private readonly weight: PackedWeight) {
    super([weight.rows, weight.columns]);
  }
  protected piece(start: number, count: number): tf.Tensor {
    const {packing, columns, rows, bits} = this.weight;
    const {rowGroup} = packing;
    const first = Math.floor(start / columns / rowGroup) * rowGroup;
    const end = Math.min(rows, Math.ceil((start + count) / columns / rowGroup) * rowGroup);
    const [from] = packing.physicalShape(first, columns);
    const size = packing.physicalShape(end - first, columns);
    return tf.tidy(() => {
      const values = packing.unpack(tf.slice(bits, [from, 0], size), end - first, columns);
      return tf.slice(tf.reshape(values, [-1]), start - first * columns, count);
    });
  }
}

/**
 * A packed weight whose logical order is not the order of its rows: unpacks all of it, and keeps that until `dispose`.
 */
class UnpackedStream extends MemoryStream {
  private values: tf.Tensor | undefined;
  constructor(private readonly weight: PackedWeight) {
    super(weight.shape);
  }
  protected piece(start: number, count: number): tf.Tensor {
    this.values ??= this.weight.read();
    const {values} = this;
    return tf.tidy(() => tf.slice(tf.reshape(values, [-1]), start, count));
  }
  override dispose(): void {
    this.values?.dispose();
    this.values = undefined;
  }
}

/**
 * The values of a weight in logical order, to be read in pieces of at most {@link MEMORY_PIECE}. `dispose` frees the
 * memory that the stream uses, but not the weight.
 */
export function weightStream(weight: Weight | PackedWeight): ValueStream & {dispose(): void} {
  if (!(weight instanceof PackedWeight)) return new FloatStream(weight);
  const order = [...weight.layout.out, ...weight.layout.in];
  return order.every((axis, i) => axis === i) ? new RowStream(weight) : new UnpackedStream(weight);
}

/** The values of a packed weight as rows (rows, columns), to be read in pieces of at most {@link MEMORY_PIECE}. */
export const rowStream = (weight: PackedWeight): ValueStream => new RowStream(weight);

/**
 * Returns a weight with the same values, name and `trainable` flag, stored in `format`. It is only declared if the
 * given weight is only declared. The given weight is not changed; the caller disposes it after replacing it.
 */
export async function repacked(
  weight: Weight | PackedWeight,
  layout: KernelLayout,
  format: PackedFormat,
): Promise<PackedWeight> {
  const {shape, originalName, trainable} = weight;
  const initializer = weight.initializer ?? tf.initializers.zeros();
  const packed = new PackedWeight(shape, layout, originalName, initializer, trainable, format);
  if (weight.energies) packed.energies = weight.energies;
  if (!weight.filled) return packed;
  try {
    if (weight instanceof PackedWeight) await packed.fillFromMemory(new RowStream(weight), 'rows', MEMORY_PIECE);
    else await packed.fillFromMemory(new FloatStream(weight), 'logical', MEMORY_PIECE);
  } catch (error) {
    packed.dispose();
    throw error;
  }
  return packed;
}
