import {float32ToBfloat16} from '../base/half';

/** A stream that may hold memory until it is disposed. */
export type OpenValues = ValueStream & {dispose?(): void};

/** Values in memory. */
export class ArrayStream implements ValueStream {
  constructor(
    readonly shape: readonly number[],
    private readonly values: Float32Array,
  ) {}

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    out.set(this.values.subarray(start, start + out.length));
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    const halves = new Uint16Array(count);
    float32ToBfloat16(this.values.subarray(start, start + count), halves);
    return halves;
  }
}

/** Reads the values of one stored tensor, in logical order, whatever number format the file has. */
export interface ValueStream {
  readonly shape: readonly number[];
  /** Fills `out` with the values from element `start` on. */
  readFloat32(start: number, out: Float32Array): Promise<void>;
  /**
   * `count` values from element `start` on as bfloat16 bits, rounded to nearest even where the file holds more. The
   * array is used again by the next call.
   */
  readBfloat16(start: number, count: number): Promise<Uint16Array>;
}

/** Streams are read in pieces of this many values: large enough for full disk speed, small beside any model. */
export const PIECE = 1 << 22;

/** Values that are made or moved in memory are fewer at once: of each there are a few copies. */
export const MEMORY_PIECE = PIECE / 8;
