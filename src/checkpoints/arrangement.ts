/** The values of a weight in another order: other programs transpose kernels, or keep all heads on one axis. */
import {float32ToBfloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {type OpenValues, PIECE, type Space, type ValueStream} from '../weights/value_stream';

/** How the files of another program arrange the values of a weight. */
export interface Arrangement {
  /** The tensor's shape in the file; the last axis changes fastest. */
  readonly shape: readonly number[];
  /** The same values with axes divided, such as [heads · width, inputs] into [heads, width, inputs]. */
  readonly split?: readonly number[];
  /** The order in which the weight has the axes of `split`. Left out if it is the same order. */
  readonly axes?: readonly number[];
  /** Added to the stored values: -1 if the file stores `1 + scale`. Defaults to 0. */
  readonly offset?: number;
}

/** The arrangement that leads from a weight of this shape back to the file. */
export function inverse({shape, split = shape, axes, offset = 0}: Arrangement): Arrangement {
  if (!axes) return {shape, offset: -offset};
  const back = axes.map((_, axis) => axes.indexOf(axis));
  const permuted = axes.map(axis => split[axis]!);
  return {shape: permuted, axes: back, offset: -offset};
}

/** Memory for one whole tensor. It grows to the size of the largest one and is reused. */
export class TensorBuffer {
  private buffer = new ArrayBuffer(0);
  private owner: object | undefined;

  /** Whether the buffer still holds what `owner` wrote. */
  holds(owner: object): boolean {
    return this.owner === owner;
  }

  /** Room for `bytes` bytes. What another owner wrote is lost. */
  claim(bytes: number): ArrayBuffer {
    this.owner = undefined;
    if (this.buffer.byteLength < bytes) this.buffer = new ArrayBuffer(bytes);
    return this.buffer;
  }

  /** `owner` has written all of its values. */
  keep(owner: object): void {
    this.owner = owner;
  }

  get memory(): ArrayBuffer {
    return this.buffer;
  }
}

/**
 * The values of a stored tensor in the order of the weight. A transposed tensor is read once from start to end into
 * memory, as bfloat16 if it is stored so, and otherwise as float32; its pieces are then taken from there.
 */
export class ArrangedStream implements ValueStream {
  private readonly dims: readonly number[] = [];
  private readonly strides: readonly number[] = [];
  private readonly offset: number;
  /** The axes of the weight in the order of the file. */
  private readonly fileOrder: readonly number[];

  /**
   * @param shape the shape of the weight.
   * @param inFile the values in the order of the file.
   * @param halves whether the file holds bfloat16.
   */
  constructor(
    readonly shape: readonly number[],
    private readonly inFile: ValueStream,
    {shape: whole, split = whole, axes, offset = 0}: Arrangement,
    private readonly halves: boolean,
    private readonly buffer = new TensorBuffer(),
  ) {
    this.offset = offset;
    if (axes) [this.dims, this.strides] = permuted(split, axes);
    this.fileOrder = split.map((_, axis) => (axes ? axes.indexOf(axis) : axis));
  }

  /** Values that were changed are no longer those of the file. */
  get stored(): ValueStream['stored'] {
    return this.offset === 0 ? {axes: this.fileOrder, values: this.inFile} : undefined;
  }

  get readsAhead(): boolean {
    return this.unchanged && (this.inFile.readsAhead ?? false);
  }

  private get transposed(): boolean {
    return this.dims.length > 1;
  }

  private get unchanged(): boolean {
    return this.offset === 0 && !this.transposed;
  }

  async readFloat32(start: number, out: Float32Array): Promise<void> {
    const {offset} = this;
    if (!this.transposed) await this.inFile.readFloat32(start, out);
    else {
      const held = await this.held();
      if (held instanceof Float32Array) gather(held, this.dims, this.strides, start, out);
      else {
        // The bits of a bfloat16 are the upper half of those of a float32.
        const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
        gather(held, this.dims, this.strides, start, bits);
        for (let i = 0; i < bits.length; i++) bits[i] = bits[i]! << 16;
      }
    }
    if (offset !== 0) for (let i = 0; i < out.length; i++) out[i] = out[i]! + offset;
  }

  get isBfloat16(): boolean {
    return this.offset === 0 && this.halves;
  }

  async readBfloat16(start: number, count: number, space?: Space): Promise<Uint16Array> {
    if (this.unchanged) return this.inFile.readBfloat16(start, count, space);
    const halves = new Uint16Array(count);
    const held = this.offset === 0 ? await this.held() : undefined;
    if (held instanceof Uint16Array) gather(held, this.dims, this.strides, start, halves);
    else {
      const floats = new Float32Array(count);
      await this.readFloat32(start, floats);
      float32ToBfloat16(floats, halves);
    }
    return halves;
  }

  /** All values in the order of the file. */
  private async held(): Promise<Float32Array | Uint16Array> {
    const {buffer, halves, inFile} = this;
    const size = sizeOf(this.shape);
    const view = (memory: ArrayBuffer) =>
      halves ? new Uint16Array(memory, 0, size) : new Float32Array(memory, 0, size);
    if (buffer.holds(this)) return view(buffer.memory);
    const values = view(buffer.claim(size * (halves ? 2 : 4)));
    for (let start = 0; start < size; start += PIECE) {
      const part = values.subarray(start, start + PIECE);
      if (part instanceof Float32Array) await inFile.readFloat32(start, part);
      else part.set(await inFile.readBfloat16(start, part.length));
    }
    buffer.keep(this);
    return values;
  }
}

/**
 * The values of a weight in the order of a file, for writing it.
 *
 * @param values those of the weight, in its own order.
 * @param arrangement how the file arranges them.
 * @param halves whether they are written as bfloat16.
 * @param buffer for a tensor that is transposed, which is held as a whole.
 */
export function arrangedForFile(
  values: OpenValues,
  arrangement: Arrangement,
  halves: boolean,
  buffer: TensorBuffer,
): OpenValues {
  const back = inverse(arrangement);
  const axes = back.axes ?? back.shape.map((_, axis) => axis);
  // Values from a file that arranges them in the same way do not move.
  const same = !back.offset && values.stored?.axes.join() === axes.join() ? values.stored.values : undefined;
  const inFile = same ?? new ArrangedStream(arrangement.shape, values, back, halves && !back.offset, buffer);
  return {
    shape: arrangement.shape,
    readFloat32: (start, out) => inFile.readFloat32(start, out),
    readBfloat16: (start, count) => inFile.readBfloat16(start, count),
    ...(values.dispose && {dispose: () => values.dispose!()}),
  };
}

/**
 * Sizes and strides of the permuted axes. Axes that stay adjacent are joined into one; if only one axis is left,
 * nothing moves.
 */
function permuted(shape: readonly number[], axes: readonly number[]): [dims: number[], strides: number[]] {
  const dims: number[] = [];
  const strides: number[] = [];
  axes.forEach((axis, i) => {
    const stride = sizeOf(shape.slice(axis + 1));
    if (i > 0 && axes[i - 1] === axis - 1) {
      dims.push(dims.pop()! * shape[axis]!);
      strides.pop();
    } else {
      dims.push(shape[axis]!);
    }
    strides.push(stride);
  });
  return [dims, strides];
}

/** Rows that are copied together, so that each cache line of the source is used whole. */
const TILE = 16;

/** Fills `out` with the values from element `start` on of an array with these sizes and strides. */
function gather(
  source: Float32Array | Uint16Array,
  dims: readonly number[],
  strides: readonly number[],
  start: number,
  out: Float32Array | Uint16Array | Uint32Array,
): void {
  const last = dims.length - 1;
  const [inner, step] = [dims[last]!, strides[last]!];
  const [rows, rowStep] = [dims[last - 1]!, strides[last - 1]!];
  for (let i = 0; i < out.length;) {
    const row = Math.floor((start + i) / inner);
    const from = (start + i) % inner;
    let at = 0;
    for (let axis = last - 1, rest = row; axis >= 0; axis--) {
      at += (rest % dims[axis]!) * strides[axis]!;
      rest = Math.floor(rest / dims[axis]!);
    }
    const tiled = from === 0 && (row % rows) + TILE <= rows && i + TILE * inner <= out.length;
    if (tiled) {
      for (let column = 0; column < inner; column++) {
        const first = at + column * step;
        for (let r = 0; r < TILE; r++) out[i + r * inner + column] = source[first + r * rowStep]!;
      }
      i += TILE * inner;
    } else {
      const count = Math.min(inner - from, out.length - i);
      for (let k = 0; k < count; k++) out[i + k] = source[at + (from + k) * step]!;
      i += count;
    }
  }
}
