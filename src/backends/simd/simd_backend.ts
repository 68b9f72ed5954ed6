/**
 * tfjs' CPU backend whose tensors move into WebAssembly memory when one of our kernels asks for their address, and stay
 * there. All of tfjs' CPU kernels go on working: they see an ordinary typed array, wherever it lies.
 */
import * as tf from '@tensorflow/tfjs';
import {type CpuEntry, cpuBackendClass} from '../cpu/cpu_backend';
import {Heap} from './heap';
import {type SimdEngine} from './simd_engine';

type Numbers = Float32Array | Int32Array | Uint8Array;
const ARRAYS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array} as const;
export type NumericType = keyof typeof ARRAYS;

/** What the table holds for a tensor in WebAssembly memory. */
class HeapEntry implements CpuEntry {
  private view?: Numbers;

  constructor(
    private readonly heap: Heap,
    readonly offset: number,
    private readonly length: number,
    readonly dtype: NumericType,
    public refCount: number,
  ) {}

  get bytes(): number {
    return this.length * ARRAYS[this.dtype].BYTES_PER_ELEMENT;
  }

  /** A view dies when memory that is not shared grows: it is made anew when the buffer is another. */
  get values(): Numbers {
    const {buffer} = this.heap;
    if (this.view?.buffer !== buffer) {
      this.view = new ARRAYS[this.dtype](buffer as ArrayBuffer, this.offset, this.length);
    }
    return this.view;
  }

  release(): void {
    this.heap.release(this.offset, this.bytes);
  }
}

/** A tensor of this backend with its place in memory. */
export interface Placed extends tf.TensorInfo {
  offset: number;
}

export class SimdBackend extends cpuBackendClass() {
  private readonly heap: Heap;

  constructor(readonly engine: SimdEngine) {
    super();
    this.heap = new Heap(engine);
    // The CPU backend's advice to install another package.
    (this as unknown as {firstUse: boolean}).firstUse = false;
  }

  // === For our kernels ===

  /** Address of a tensor, which is brought into WebAssembly memory if it is not there yet. Ask anew at each call. */
  locate({dataId}: {dataId: object}): number {
    const entry = this.data.get(dataId);
    if (entry instanceof HeapEntry) return entry.offset;
    const values = entry.values as Numbers;
    const moved = this.reserve(values.length, entry.dtype as NumericType, entry.refCount);
    moved.values.set(values as never);
    this.replace(dataId, moved);
    return moved.offset;
  }

  /** A tensor with a place in memory and no values yet: results of kernels, and weights that come from a file. */
  empty(shape: number[], dtype: NumericType = 'float32'): Placed {
    const entry = this.reserve(tf.util.sizeFromShape(shape), dtype, 1);
    const dataId = super.write(null as never, shape, dtype);
    this.replace(dataId, entry);
    return {dataId, shape, dtype, offset: entry.offset};
  }

  /** Bytes of memory that are no tensor, until `release` is called. */
  borrow(bytes: number): {offset: number; view: () => Uint8Array; release: () => void} {
    const offset = this.heap.allocate(bytes);
    return {
      offset,
      view: () => new Uint8Array(this.heap.buffer as ArrayBuffer, offset, bytes),
      release: () => this.heap.release(offset, bytes),
    };
  }

  /** Offset of memory that one kernel after another may use; what is in it does not last. */
  scratch(bytes: number): number {
    if (this.common.bytes < bytes) {
      if (this.common.bytes) this.heap.release(this.common.offset, this.common.bytes);
      this.common = {offset: this.heap.allocate(bytes), bytes};
    }
    return this.common.offset;
  }
  private common = {offset: 0, bytes: 0};

  /** The whole memory as numbers, for the few words that a command needs beside its arguments. */
  get words(): {floats: Float32Array; ints: Int32Array} {
    const buffer = this.heap.buffer as ArrayBuffer;
    if (this.wordViews?.floats.buffer !== buffer) {
      const length = Math.floor(buffer.byteLength / 4);
      this.wordViews = {floats: new Float32Array(buffer, 0, length), ints: new Int32Array(buffer, 0, length)};
    }
    return this.wordViews;
  }
  private wordViews?: {floats: Float32Array; ints: Int32Array};

  private reserve(length: number, dtype: NumericType, refCount: number): HeapEntry {
    const offset = this.heap.allocate(length * ARRAYS[dtype].BYTES_PER_ELEMENT);
    return new HeapEntry(this.heap, offset, length, dtype, refCount);
  }

  private replace(dataId: object, entry: HeapEntry): void {
    this.data.delete(dataId);
    this.data.set(dataId, entry);
  }

  // === For tfjs ===

  /** Some CPU kernels (Slice, Split, Unpack) hand on a part of their input: over a heap it must be copied. */
  override write(values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType): object {
    const inHeap = ArrayBuffer.isView(values) && values.buffer === this.heap?.buffer;
    return super.write(inHeap ? (values as Numbers).slice() : values, shape, dtype);
  }

  /** Leaving the backend copies: a caller must not see the place when it is used again. */
  override readSync(dataId: object): tf.backend_util.BackendValues {
    const values = super.readSync(dataId);
    return this.data.get(dataId) instanceof HeapEntry ? (values as Numbers).slice() : values;
  }

  /** Inside tfjs' kernels reading does not copy: a table of 262,144 rows is not read for one of them. */
  override bufferSync<R extends tf.Rank, D extends tf.DataType>(tensor: tf.TensorInfo): tf.TensorBuffer<R, D> {
    const entry = this.data.get(tensor.dataId);
    if (!(entry instanceof HeapEntry)) return super.bufferSync(tensor);
    return tf.buffer(tensor.shape as never, tensor.dtype as D, entry.values as never) as tf.TensorBuffer<R, D>;
  }

  override disposeData(dataId: object, force = false): boolean {
    const entry = this.data.has(dataId) ? this.data.get(dataId) : undefined;
    const gone = super.disposeData(dataId, force);
    if (gone && entry instanceof HeapEntry) entry.release();
    return gone;
  }

  override memory(): {unreliable: boolean} {
    const memory = {heapBytes: this.heap.arena.used, reservedBytes: this.heap.buffer.byteLength};
    return {unreliable: false, ...memory} as {unreliable: boolean};
  }

  override dispose(): void {
    void this.engine.dispose();
  }
}
