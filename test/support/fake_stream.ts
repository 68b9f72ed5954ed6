/** A fake stream of weight values. */
import {float32ToBfloat16} from '../../src/base/half';
import {type ValueStream} from '../../src/weights/value_stream';

/** A stream over numbers in memory that records what was read from it. */
export class FakeStream implements ValueStream {
  readonly reads: [start: number, count: number][] = [];
  private readonly halves: Uint16Array;
  /** Every read returns this buffer, as the contract allows. */
  private buffer = new Uint16Array(0);

  constructor(
    readonly shape: readonly number[],
    private readonly values: Float32Array,
  ) {
    this.halves = new Uint16Array(values.length);
    float32ToBfloat16(values, this.halves);
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    this.reads.push([start, out.length]);
    out.set(this.values.subarray(start, start + out.length));
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    this.reads.push([start, count]);
    if (this.buffer.length < count) this.buffer = new Uint16Array(count);
    const piece = this.buffer.subarray(0, count);
    piece.set(this.halves.subarray(start, start + count));
    return piece;
  }
}
