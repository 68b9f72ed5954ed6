/** Streams of weight values, read in pieces, for filling and saving weights. */
import {float32ToBfloat16} from '../base/half';
import {type IntegerStream} from './integer_stream';

/** Streams are read in pieces of this many values: large enough for full disk speed, small compared with any model. */
export const PIECE = 1 << 22;

/** Piece size for values that are computed or moved in memory: smaller, since several copies exist at once. */
export const MEMORY_PIECE = PIECE / 8;

/** Lends memory for `count` bfloat16 values; undefined if there is none. */
export type Space = (count: number) => Uint16Array | undefined;

/** Reads the values of one stored tensor, in logical order, whatever number format the file has. */
export interface ValueStream {
  readonly shape: readonly number[];
  /** Fills `out` with the values from element `start` on. */
  readFloat32(start: number, out: Float32Array): Promise<void>;
  /**
   * `count` values from element `start` on as bfloat16 bits, rounded to nearest even if the file holds more bits. The
   * next call reuses the array, unless the stream reads ahead.
   *
   * @param space memory for that many values, where the caller wants them. A stream that asks for it fills and returns
   * it; others return memory of their own.
   */
  readBfloat16(start: number, count: number, space?: Space): Promise<Uint16Array>;
  /** Whether the file holds bfloat16: `readBfloat16` then loses nothing. */
  readonly isBfloat16?: boolean;
  /**
   * Whether an array from `readBfloat16` remains valid during the next call, on this stream or another one that reads
   * ahead. A piece can then be packed while the next one is read.
   */
  readonly readsAhead?: boolean;
  /** The same values in the order of the file, where that is another one. */
  readonly stored?: {
    /** The axes of `shape` in that order; the last one changes fastest. */
    readonly axes: readonly number[];
    readonly values: ValueStream;
  };
  /** The same values as integers with scales, in the order of this stream, if that is what the file holds. */
  readonly integers?: IntegerStream;
}

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
