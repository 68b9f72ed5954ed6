/** Arrays of numbers in files, read in pieces. */
import {bfloat16ToFloat32, float16ToFloat32, float32ToBfloat16} from '../base/half';
import {type Space, type ValueStream} from '../weights/value_stream';

/** An array in a file: an HDF5 dataset, a safetensors tensor, or a range of a shard. */
export interface StoredArray {
  readonly shape: readonly number[];
  readonly dtype: string;
  /** Bytes per value. */
  readonly itemSize: number;
  readonly byteLength: number;
  /** Fills `target` with the bytes from `offset` on, little-endian. */
  readInto(offset: number, target: Uint8Array): Promise<void>;
}

/** Number formats that weights can be filled from. */
export const READABLE = new Set(['float16', 'bfloat16', 'float32', 'float64']);

/** Reads pieces of an array as float32 or bfloat16. */
export class StoredArrayStream implements ValueStream {
  readonly readsAhead = true;

  constructor(
    private readonly array: StoredArray,
    private readonly scratch: Scratch,
    private readonly onRead: (bytes: number) => void = () => {},
  ) {}

  get shape(): readonly number[] {
    return this.array.shape;
  }

  private async raw(start: number, target: Uint8Array): Promise<void> {
    await this.array.readInto(start * this.array.itemSize, target);
    this.onRead(target.length);
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    const {dtype, itemSize} = this.array;
    if (dtype === 'float32') return this.raw(start, new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
    const bytes = this.scratch.bytes(out.length * itemSize);
    await this.raw(start, bytes);
    if (dtype === 'float64') {
      out.set(new Float64Array(bytes.buffer, bytes.byteOffset, out.length));
      return;
    }
    const widen = dtype === 'bfloat16' ? bfloat16ToFloat32 : float16ToFloat32;
    widen(new Uint16Array(bytes.buffer, bytes.byteOffset, out.length), out);
  }

  get isBfloat16(): boolean {
    return this.array.dtype === 'bfloat16';
  }

  async readBfloat16(start: number, count: number, space?: Space): Promise<Uint16Array> {
    const halves = (this.isBfloat16 && space?.(count)) || this.scratch.halves(count);
    if (this.isBfloat16) {
      await this.raw(start, new Uint8Array(halves.buffer, halves.byteOffset, halves.byteLength));
    } else {
      const floats = this.scratch.floats(count);
      await this.readFloat32(start, floats);
      float32ToBfloat16(floats, halves);
    }
    return halves;
  }
}

/**
 * Buffers that all arrays of a load share. They grow to the largest piece and are reused, because discarded buffers
 * would use memory until the garbage collector frees them.
 */
export class Scratch {
  private readonly buffers: Record<string, ArrayBuffer> = {};
  private odd = false;
  private get(name: string, bytes: number): ArrayBuffer {
    const old = this.buffers[name];
    if (old && old.byteLength >= bytes) return old;
    return (this.buffers[name] = new ArrayBuffer(bytes));
  }
  bytes(length: number): Uint8Array {
    return new Uint8Array(this.get('bytes', length), 0, length);
  }
  /** Alternates between two buffers: see `readsAhead` of `ValueStream`. */
  halves(length: number): Uint16Array {
    this.odd = !this.odd;
    return new Uint16Array(this.get(this.odd ? 'odd halves' : 'even halves', 2 * length), 0, length);
  }
  floats(length: number): Float32Array {
    return new Float32Array(this.get('floats', 4 * length), 0, length);
  }
}
