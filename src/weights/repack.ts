/** A kernel in another format, made from the one at rest, piece by piece. */
import * as tf from '@tensorflow/tfjs';
import {float32ToBfloat16} from '../base/half';
import {type PackedFormat} from './dtype';
import {type KernelLayout, PackedWeight} from './packed_weight';
import {MEMORY_PIECE, type ValueStream} from './value_stream';
import {type Weight} from './weight';

/** Packed rows are cut between these, in whatever order they rest. */
const ROW_GROUP = 8;

/** Values of a tensor or of packed rows, in pieces. */
abstract class MemoryStream implements ValueStream {
  private halves = new Uint16Array(0);
  constructor(readonly shape: readonly number[]) {}

  /** `count` values from `start` on, in a tensor that the caller disposes. */
  protected abstract piece(start: number, count: number): tf.Tensor;

  /** Frees what it holds beside the weight. */
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
    super(weight.shape as number[]);
  }
  protected piece(start: number, count: number): tf.Tensor {
    return tf.tidy(() => tf.slice(tf.reshape(this.weight.read(), [-1]), start, count));
  }
}

/** A packed weight as rows (rows, columns): a group of rows rests in one place whatever the format. */
class RowStream extends MemoryStream {
  constructor(private readonly weight: PackedWeight) {
    super([weight.rows, weight.columns]);
  }
  protected piece(start: number, count: number): tf.Tensor {
    const {packing, columns, rows, bits} = this.weight;
    const first = Math.floor(start / columns / ROW_GROUP) * ROW_GROUP;
    const end = Math.min(rows, Math.ceil((start + count) / columns / ROW_GROUP) * ROW_GROUP);
    const [from] = packing.physicalShape(first, columns);
    const size = packing.physicalShape(end - first, columns);
    return tf.tidy(() => {
      const values = packing.unpack(tf.slice(bits, [from, 0], size), end - first, columns);
      return tf.slice(tf.reshape(values, [-1]), start - first * columns, count);
    });
  }
}

/** A packed weight in logical order where that is not the order of its rows: unpacked whole, until `dispose`. */
class UnpackedStream extends MemoryStream {
  private values: tf.Tensor | undefined;
  constructor(private readonly weight: PackedWeight) {
    super(weight.shape as number[]);
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
 * The values of a weight in logical order, to be read in pieces of at most {@link MEMORY_PIECE}. What it holds meanwhile
 * is freed by `dispose`.
 */
export function weightStream(weight: Weight | PackedWeight): ValueStream & {dispose(): void} {
  if (!(weight instanceof PackedWeight)) return new FloatStream(weight);
  const order = [...weight.layout.out, ...weight.layout.in];
  return order.every((axis, i) => axis === i) ? new RowStream(weight) : new UnpackedStream(weight);
}

/**
 * A weight of the same values, name and flags at rest in `format`, or declared as the first one is. The first one stays
 * as it is; who replaces it disposes it.
 */
export async function repacked(
  weight: Weight | PackedWeight,
  layout: KernelLayout,
  format: PackedFormat,
): Promise<PackedWeight> {
  const {shape, originalName, trainable} = weight;
  const initializer = weight.initializer ?? tf.initializers.zeros();
  const made = new PackedWeight(shape as number[], layout, originalName, initializer, trainable, format);
  if (!weight.filled) return made;
  try {
    if (weight instanceof PackedWeight) await made.fillFromMemory(new RowStream(weight), 'rows', MEMORY_PIECE);
    else await made.fillFromMemory(new FloatStream(weight), 'logical', MEMORY_PIECE);
  } catch (error) {
    made.dispose();
    throw error;
  }
  return made;
}
