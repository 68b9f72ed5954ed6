/**
 * tfjs' CPU backend, extended so that tensors move into WebAssembly memory when one of our kernels first needs them,
 * and stay there. All of tfjs' CPU kernels keep working: they see an ordinary typed array wherever a tensor is. Our
 * kernels need all operands and results in one bank, which `call` ensures.
 */
import * as tf from '@tensorflow/tfjs';
import {cpuBackendClass, type CpuEntry} from '../../cpu/cpu_backend';
import {type SimdEngine} from '../engine/simd_engine';
import {Call, type CallOptions, type NumericType, type Operands, type TensorPlaces} from './call';
import {Heap, type Place} from './heap';
import {Staging} from './staging';

type Numbers = Float32Array | Int32Array | Uint8Array;
const ARRAYS = {float32: Float32Array, int32: Int32Array, bool: Uint8Array} as const satisfies Record<
  NumericType,
  unknown
>;

/** The entry of a tensor in WebAssembly memory in the backend's table. */
class HeapEntry implements CpuEntry {
  private view?: Numbers;

  constructor(
    private readonly heap: Heap,
    public place: Place,
    private readonly length: number,
    readonly dtype: NumericType,
    public refCount: number,
  ) {}

  get bytes(): number {
    return bytesOf(this.length, this.dtype);
  }

  /** Growing an unshared memory detaches its views, so the view is recreated when the buffer has changed. */
  get values(): Numbers {
    const buffer = this.heap.buffer(this.place.bank);
    if (this.view?.buffer !== buffer) this.view = new ARRAYS[this.dtype](buffer, this.place.offset, this.length);
    return this.view;
  }

  moveTo(place: Place): void {
    const old = this.values;
    this.release();
    this.place = place;
    this.view = undefined;
    this.values.set(old as never);
  }

  release(): void {
    this.heap.release(this.place, this.bytes);
  }
}

const bytesOf = (length: number, dtype: NumericType) => length * ARRAYS[dtype].BYTES_PER_ELEMENT;

/** A tensor of this backend and its place in memory. */
export interface Placed extends tf.TensorInfo, Place {}

export class SimdBackend extends cpuBackendClass() implements TensorPlaces {
  private readonly heap: Heap;

  constructor(readonly engine: SimdEngine) {
    super();
    this.heap = new Heap(engine);
    // Suppresses the CPU backend's advice to install another package.
    (this as unknown as {firstUse: boolean}).firstUse = false;
  }

  // === Used by our kernels ===

  /** Gathers the operands of a command in one bank and allocates its result. See `call.ts`. */
  call<Name extends string>(operands: Operands<Name>, options: CallOptions<Name>): Call<Name> {
    return new Call(this, this.heap, operands, options);
  }

  /** Number of memories. */
  get banks(): number {
    return this.heap.banks;
  }

  /**
   * Place of a tensor, or undefined if none of our kernels has used it yet. Tensors may move, so do not store the
   * place.
   */
  placeOf({dataId}: {dataId: object}): Place | undefined {
    const entry = this.data.get(dataId);
    return entry instanceof HeapEntry ? entry.place : undefined;
  }

  /** Size of a tensor in memory. */
  bytesOf({dataId}: {dataId: object}): number {
    const {values, dtype} = this.data.get(dataId);
    return bytesOf(values.length, dtype as NumericType);
  }

  /** The memory of a tensor from `empty`. The view is valid until something is allocated. */
  viewOf(tensor: {dataId: object}): Uint8Array {
    const {bank, offset} = this.placeOf(tensor)!;
    return new Uint8Array(this.heap.buffer(bank), offset, this.bytesOf(tensor));
  }

  /** Moves a tensor to a place that was allocated for it, and frees its old place. */
  moveTo({dataId}: {dataId: object}, place: Place): void {
    const entry = this.data.get(dataId);
    if (entry instanceof HeapEntry) return entry.moveTo(place);
    const values = entry.values as Numbers;
    const moved = new HeapEntry(this.heap, place, values.length, entry.dtype as NumericType, entry.refCount);
    moved.values.set(values as never);
    this.replace(dataId, moved);
  }

  /** Creates an uninitialized tensor in a place that was allocated for it. */
  createAt(place: Place, shape: number[], dtype: NumericType): tf.TensorInfo {
    const dataId = super.write(null as never, shape, dtype);
    this.replace(dataId, new HeapEntry(this.heap, place, tf.util.sizeFromShape(shape), dtype, 1));
    return {dataId, shape, dtype};
  }

  /** Creates an uninitialized long-lived tensor, for weights that are read from a file. */
  empty(shape: number[], dtype: NumericType = 'float32'): Placed {
    const place = this.heap.allocateLasting(bytesOf(tf.util.sizeFromShape(shape), dtype));
    return {...this.createAt(place, shape, dtype), ...place};
  }

  /**
   * Allocates memory of a bank that belongs to no tensor, until `release` is called.
   *
   * @throws OutOfMemoryError if the bank is full.
   */
  borrow(bytes: number, bank: number): {offset: number; view: () => Uint8Array; release: () => void} {
    const offset = this.heap.allocateIn(bank, bytes);
    if (offset === null) throw this.heap.outOfMemory(bytes);
    return {
      offset,
      view: () => new Uint8Array(this.heap.buffer(bank), offset, bytes),
      release: () => this.heap.release({bank, offset}, bytes),
    };
  }

  /** The memory of a bank for values that are being read. Its user must `open` and `close` it. */
  staging(bank: number): Staging {
    return (this.stagings[bank] ??= new Staging(this, bank));
  }
  private readonly stagings: Staging[] = [];

  /** The whole memory of a bank as numbers, for writing data that a command reads in addition to its operands. */
  words(bank: number): {floats: Float32Array; ints: Int32Array} {
    const buffer = this.heap.buffer(bank);
    let views = this.wordViews[bank];
    if (views?.floats.buffer !== buffer) {
      const length = Math.floor(buffer.byteLength / 4);
      views = {floats: new Float32Array(buffer, 0, length), ints: new Int32Array(buffer, 0, length)};
      this.wordViews[bank] = views;
    }
    return views;
  }
  private readonly wordViews: {floats: Float32Array; ints: Int32Array}[] = [];

  private replace(dataId: object, entry: HeapEntry): void {
    this.data.delete(dataId);
    this.data.set(dataId, entry);
  }

  // === Used by tfjs ===

  /** Some CPU kernels (Slice, Split, Unpack) pass a part of their input. If it is in the heap, it must be copied. */
  override write(values: tf.backend_util.BackendValues, shape: number[], dtype: tf.DataType): object {
    const inHeap = ArrayBuffer.isView(values) && this.heap?.owns(values.buffer);
    return super.write(inHeap ? (values as Numbers).slice() : values, shape, dtype);
  }

  /** Copies, because the caller must not see a later tensor at the same place. */
  override readSync(dataId: object): tf.backend_util.BackendValues {
    const values = super.readSync(dataId);
    return this.data.get(dataId) instanceof HeapEntry ? (values as Numbers).slice() : values;
  }

  /** Does not copy, unlike tfjs: a CPU kernel may need only one of a table's 262,144 rows. */
  override bufferSync<R extends tf.Rank, D extends tf.DataType>(tensor: tf.TensorInfo): tf.TensorBuffer<R, D> {
    const entry = this.data.get(tensor.dataId);
    if (!(entry instanceof HeapEntry)) return super.bufferSync(tensor);
    return tf.buffer(tensor.shape as never, tensor.dtype as D, entry.values as never) as tf.TensorBuffer<R, D>;
  }

  override disposeData(dataId: object, force = false): boolean {
    const entry = this.data.has(dataId) ? this.data.get(dataId) : undefined;
    const disposed = super.disposeData(dataId, force);
    if (disposed && entry instanceof HeapEntry) entry.release();
    return disposed;
  }

  override memory(): {unreliable: boolean} {
    const {used: heapBytes, reserved: reservedBytes, banks} = this.heap;
    const memory = {heapBytes, reservedBytes, banks};
    return {unreliable: false, ...memory} as {unreliable: boolean};
  }

  override dispose(): void {
    void this.engine.dispose();
  }
}
