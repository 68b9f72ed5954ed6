/** The values of a kernel that Keras quantized, in pieces. */
import {ValueError} from '../../base/errors';
import {float32ToBfloat16} from '../../base/half';
import {sizeOf} from '../../base/shapes';
import {type Hdf5Dataset} from '../../formats/hdf5';
import {type ValueStream} from '../../weights/value_stream';
import {type Scratch, StoredArrayStream} from '../stored_array';

/** Where the integers and scales of a kernel are. */
export interface KernelLayout {
  readonly rows: number;
  readonly columns: number;
  /** Two integers per byte, where each row has its own bytes; the first integer is in the lower half. */
  readonly packed: boolean;
  /** A value in row r and column c has the scale number r · rowStep + c · columnStep. */
  readonly rowStep: number;
  readonly columnStep: number;
  /** The number of rows that share a scale. Defaults to 1. */
  readonly rowRepeat?: number;
  /** Uses the block numbers of rows or columns instead. */
  readonly grouped?: 'rows' | 'columns';
}

interface Datasets {
  readonly kernel: Hdf5Dataset;
  readonly scale: Hdf5Dataset;
  readonly blocks?: {readonly zero: Hdf5Dataset; readonly groups: Hdf5Dataset};
}

/** Scales, and what is subtracted from the integers before they are multiplied. */
interface Scales {
  readonly scale: Float32Array;
  readonly zero: Int8Array | undefined;
  /** The number of the first scale of each row, and what each column adds. */
  readonly ofRow: Int32Array;
  readonly ofColumn: Int32Array;
}

export class IntegerKernelStream implements ValueStream {
  private scales: Promise<Scales> | undefined;

  /** @param shape that of the values, which are read row by row. */
  constructor(
    private readonly parts: Datasets,
    private readonly layout: KernelLayout,
    readonly shape: readonly number[],
    private readonly scratch: Scratch,
    private readonly onRead: (bytes: number) => void = () => {},
  ) {}

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    if (out.length === 0) return;
    const {kernel} = this.parts;
    const {columns, packed} = this.layout;
    const {scale, zero, ofRow, ofColumn} = await (this.scales ??= this.readScales());
    const rowBytes = packed ? Math.ceil(columns / 2) : columns;
    const byteOf = (element: number) => {
      const column = element % columns;
      return Math.floor(element / columns) * rowBytes + (packed ? column >> 1 : column);
    };
    const first = byteOf(start);
    const bytes = this.scratch.bytes(byteOf(start + out.length - 1) - first + 1);
    await kernel.readInto(first, bytes);
    this.onRead(bytes.length);
    let row = Math.floor(start / columns);
    let column = start % columns;
    // Where the bytes of the row begin, some of which may not have been read.
    let base = row * rowBytes - first;
    for (let i = 0; i < out.length; i++) {
      const byte = bytes[base + (packed ? column >> 1 : column)]!;
      const integer = packed ? ((column & 1 ? byte : byte << 4) << 24) >> 28 : (byte << 24) >> 24;
      const at = ofRow[row]! + ofColumn[column]!;
      // As Keras computes: scales of whole rows and columns divide, those of blocks multiply.
      out[i] = zero ? (integer - zero[at]!) * scale[at]! : integer / scale[at]!;
      if (++column === columns) {
        column = 0;
        row++;
        base += rowBytes;
      }
    }
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    const floats = this.scratch.floats(count);
    const halves = this.scratch.halves(count);
    await this.readFloat32(start, floats);
    float32ToBfloat16(floats, halves);
    return halves;
  }

  private async readScales(): Promise<Scales> {
    const {scale, blocks} = this.parts;
    const {rows, columns, rowStep, columnStep, rowRepeat = 1, grouped} = this.layout;
    const values = await this.floats(scale);
    const groups = blocks ? await this.floats(blocks.groups) : new Float32Array(0);
    const zero = blocks && new Int8Array(sizeOf(blocks.zero.shape));
    if (blocks && zero) {
      await blocks.zero.readInto(0, new Uint8Array(zero.buffer));
      this.onRead(zero.length);
    }
    const numbers = (length: number, step: number, name: 'rows' | 'columns') =>
      Int32Array.from({length}, (_, i) => {
        if (grouped !== name) return Math.floor(i / (name === 'rows' ? rowRepeat : 1)) * step;
        return groups[i]! * (name === 'rows' ? step : 1);
      });
    const ofRow = numbers(rows, rowStep, 'rows');
    const ofColumn = numbers(columns, columnStep, 'columns');
    const limit = grouped === 'rows' ? values.length / columns : grouped === 'columns' ? rowStep : 1;
    const wrong = groups.find(group => !(Number.isInteger(group) && group >= 0 && group < limit));
    if (wrong !== undefined) {
      const {path} = blocks!.groups;
      throw new ValueError(`Expected numbers of blocks below ${limit} in "${path}". Received: ${wrong}.`);
    }
    return {scale: values, zero, ofRow, ofColumn};
  }

  private async floats(dataset: Hdf5Dataset): Promise<Float32Array> {
    const values = new Float32Array(sizeOf(dataset.shape));
    await new StoredArrayStream(dataset, this.scratch, this.onRead).readFloat32(0, values);
    return values;
  }
}
