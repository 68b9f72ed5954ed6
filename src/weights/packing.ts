/**
 * Packings: how matrices are stored in fewer bits than float32. Each backend may register its own physical order of a
 * format; `ops/bfloat16_rows.ts` is the default that runs on every backend.
 */
import * as tf from '@tensorflow/tfjs';
import {type PackedFormat} from './dtype';
import {type IntegerTarget} from './integer_stream';
import {type Space} from './value_stream';

/**
 * Which axes of a kernel's logical shape are its outputs (rows of the stored matrix) and which its inputs (columns).
 */
export interface KernelLayout {
  readonly out: readonly number[];
  readonly in: readonly number[];
}

/** A matrix that is being packed: values arrive in pieces, in the order of the logical shape. */
export interface PackingTarget {
  /** Every piece except the last must be a multiple of this many slabs of the first axis. */
  readonly multiple: number;
  /**
   * Memory of the backend for values that `place` will take: it need not copy those. Two calls return different memory,
   * so one piece can be read while another is placed. Left out where the backend has none.
   */
  readonly space?: Space;
  /** Takes `count` slabs of the first axis, beginning with slab `first`, as bfloat16 bits. The array is not kept. */
  place(values: Uint16Array, first: number, count: number): void;
  /** The packed matrix, an int32 tensor of {@link Packing.physicalShape}. */
  finish(): tf.Tensor;
  /** Frees the target's memory. Called instead of `finish` if reading the values failed. */
  abandon(): void;
}

/** A matrix that is packed already, and arrives in pieces. */
export interface BitsTarget {
  /** Takes bytes of the matrix, from byte `start` on. The array is not kept. */
  place(bytes: Uint8Array, start: number): void;
  /** As {@link PackingTarget.finish}. */
  finish(): tf.Tensor;
  /** As {@link PackingTarget.abandon}. */
  abandon(): void;
}

/** A format in one physical order. In every order, a packed matrix is a single int32 tensor. */
export interface Packing {
  readonly format: PackedFormat;
  /** Name of the physical order, as files record it. */
  readonly order: string;
  /** Rows are packed in groups of this many: a packed matrix can be cut between groups. */
  readonly rowGroup: number;
  /** Whether the kernel of `ops/fused_block.ts` reads this order, on the backend that registered it. */
  readonly fusedBlocks: boolean;
  physicalShape(rows: number, columns: number): [number, number];
  /** Set if the current backend cannot pack into this format at all. */
  readonly refused?: true;
  /**
   * @param energies how much errors count in each column: the mean square of the column's input, up to a factor. int4
   * uses it to choose scales and minima; other formats do not need it. If left out, all columns count equally.
   * @throws ValueError if the current backend cannot pack into this format.
   */
  begin(shape: readonly number[], layout: KernelLayout, energies?: Float32Array): PackingTarget;
  /** Begins a matrix that is packed already. Undefined where the host cannot write memory of the backend. */
  beginBits?(rows: number, columns: number): BitsTarget | undefined;
  /**
   * Packs integers and their scales unchanged, except that scales are rounded to bfloat16, by at most 2⁻⁸ of their
   * size. Left out by formats that cannot hold integers.
   *
   * @throws ValueError if the current backend cannot pack into this format.
   */
  beginIntegers?(rows: number, columns: number): IntegerTarget & Pick<PackingTarget, 'finish' | 'abandon'>;
  /** The integers that this format can hold; left out with `beginIntegers`. */
  readonly integers?: {readonly least: number; readonly largest: number};
  /**
   * Packs a whole tensor synchronously: float32 in logical shape, or int32 words of two bfloat16 values each, in
   * logical order. Backends that cannot do this leave it out; there, `PackedWeight.fillFromTensor` reads the tensor
   * asynchronously.
   */
  packTensor?(values: tf.Tensor, shape: readonly number[], layout: KernelLayout, energies?: Float32Array): tf.Tensor;
  /**
   * A packed matrix from its words as a plain tensor, which is what files hold; undefined for one that is packed. Left
   * out where both are the same.
   */
  fromWords?(words: tf.Tensor, rows: number, columns: number): tf.Tensor | undefined;
  /** float32 (rows, columns) */
  unpack(bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** x (M, columns) · Wᵀ → (M, rows), with a gradient for x. */
  matMul(x: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** The gradient of `matMul` for x: dy (M, rows) · W → (M, columns). */
  matMulTransposed(dy: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** The rows with these ids, float32 (ids, columns). */
  gatherRows(bits: tf.Tensor2D, ids: tf.Tensor1D, columns: number): tf.Tensor2D;
}

const packings = new Map<string, Packing>();

const key = (backendName: string | null, format: PackedFormat) => `${backendName ?? '*'}/${format}`;

/**
 * Sets how a backend packs new weights of this packing's format. Null stands for all backends that have registered no
 * packing for that format.
 */
export function registerPacking(backendName: string | null, packing: Packing): void {
  packings.set(key(backendName, packing.format), packing);
}

/** How the current backend packs new weights of a format. */
export function packingFor(format: PackedFormat): Packing {
  const packing = packings.get(key(tf.getBackend(), format)) ?? packings.get(key(null, format));
  if (!packing) throw new Error(`internal: no packing is registered for ${format}.`);
  return packing;
}
