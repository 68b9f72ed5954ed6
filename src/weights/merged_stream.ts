/** Streams the values of a kernel with its LoRA added, for Keras files and for filling a merged kernel. */
import {float32ToBfloat16} from '../base/half';
import {type ValueStream} from './value_stream';

/** The LoRA matrices of a kernel (…, last) in host memory: A (…, rank) and B (rank, last). */
export interface Adapter {
  readonly rank: number;
  readonly alpha: number;
  readonly a: Float32Array;
  readonly b: Float32Array;
}

/** `values + (alpha / rank) · A · B` in logical order. A · B is computed for one piece at a time. */
export class MergedStream implements ValueStream {
  private floats = new Float32Array(0);
  private halves = new Uint16Array(0);
  private matrices: Adapter | undefined;

  /** @param adapter called once, when the first piece is read. */
  constructor(
    private readonly values: ValueStream & {dispose?(): void},
    private readonly adapter: () => Promise<Adapter>,
  ) {}

  get shape(): readonly number[] {
    return this.values.shape;
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    await this.values.readFloat32(start, out);
    this.matrices ??= await this.adapter();
    addProduct(this.matrices, start, out);
  }

  async readBfloat16(start: number, count: number): Promise<Uint16Array> {
    if (this.halves.length < count) [this.floats, this.halves] = [new Float32Array(count), new Uint16Array(count)];
    const floats = this.floats.subarray(0, count);
    await this.readFloat32(start, floats);
    const halves = this.halves.subarray(0, count);
    float32ToBfloat16(floats, halves);
    return halves;
  }

  dispose(): void {
    this.values.dispose?.();
  }
}

/** Adds the product to `out`, which holds the kernel's values from element `start` on. */
function addProduct({rank, alpha, a, b}: Adapter, start: number, out: Float32Array): void {
  const last = b.length / rank;
  const scale = alpha / rank;
  const sums = new Float64Array(last);
  for (let done = 0; done < out.length;) {
    const row = Math.floor((start + done) / last);
    const first = start + done - row * last;
    const end = Math.min(last, first + out.length - done);
    sums.fill(0);
    for (let r = 0; r < rank; r++) {
      const factor = scale * a[row * rank + r]!;
      for (let i = first; i < end; i++) sums[i]! += factor * b[r * last + i]!;
    }
    for (let i = first; i < end; i++) out[done + i - first]! += sums[i]!;
    done += end - first;
  }
}
