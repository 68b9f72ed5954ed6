/** The values of weights that a checkpoint stores as integers, for writers. */
import * as tf from '@tensorflow/tfjs';
import {type AnyWeight, PackedWeight} from '../weights/packed_weight';
import {rowStream, weightStream} from '../weights/repack';
import {type OpenValues, type ValueStream} from '../weights/value_stream';
import {type PackedBits, type StoredWeights, valueReader} from './stored_weights';

/** Opens the values of weights as `valueReader`, those of packed bits too. The backend must have their packing. */
export function integerReader(stored: StoredWeights): (weight: AnyWeight, path: string) => OpenValues {
  const open = valueReader(stored);
  return (weight, path) => {
    const {packed} = stored.variables.get(stored.keyOf(path, weight))!;
    return packed && weight instanceof PackedWeight ? new UnpackedValues(weight, packed) : open(weight, path);
  };
}

/** Reads the bits when the first value is requested, and holds them until `dispose`. */
class UnpackedValues implements ValueStream {
  private held: {weight: PackedWeight; logical: OpenValues; rows: ValueStream} | undefined;

  /** @param like has the shape and the order of the values; its own format may differ from that of the bits. */
  constructor(
    private readonly like: PackedWeight,
    private readonly bits: PackedBits,
  ) {}

  get shape(): readonly number[] {
    return this.like.shape;
  }

  /** The rows of the packed matrix, which need less memory. */
  get stored(): {axes: readonly number[]; values: ValueStream} {
    const {layout, rows, columns} = this.like;
    return {
      axes: [...layout.out, ...layout.in],
      values: {
        shape: [rows, columns],
        readFloat32: async (start, out) => (await this.filled()).rows.readFloat32(start, out),
        readBfloat16: async (start, count) => (await this.filled()).rows.readBfloat16(start, count),
      },
    };
  }

  private async filled(): Promise<{logical: OpenValues; rows: ValueStream}> {
    if (this.held) return this.held;
    const {shape, layout} = this.like;
    const zeros = tf.initializers.zeros();
    const weight = new PackedWeight([...shape], layout, 'converted', zeros, false, this.bits.format);
    this.held = {weight, logical: weightStream(weight), rows: rowStream(weight)};
    await weight.fillBits(this.bits.readInto);
    return this.held;
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    await (await this.filled()).logical.readFloat32(start, out);
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    return (await this.filled()).logical.readBfloat16(start, count);
  }

  dispose(): void {
    this.held?.logical.dispose?.();
    this.held?.weight.dispose();
    this.held = undefined;
  }
}
