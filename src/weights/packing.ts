/**
 * How matrices rest in fewer bits than float32. The plain way is here: rows of bfloat16, on any backend. A backend may
 * register another order for a format, one that its kernels like better.
 */
import * as tf from '@tensorflow/tfjs';
import {type PackedFormat} from './dtype';

/** Which axes of a kernel's logical shape are its outputs (rows at rest) and which its inputs (columns at rest). */
export interface KernelLayout {
  readonly out: readonly number[];
  readonly in: readonly number[];
}

/** A matrix on its way into a backend: values come in pieces, in the order of the logical shape. */
export interface PackingTarget {
  /** Pieces but the last are multiples of this many slabs. */
  readonly multiple: number;
  /** Takes `count` slabs of the first axis, beginning with slab `first`, as bfloat16 bits. The array is not kept. */
  place(values: Uint16Array, first: number, count: number): void;
  /** The packed matrix, an int32 tensor of {@link Packing.physicalShape}. */
  finish(): tf.Tensor;
  /** Gives up what was taken for it, instead of `finish`. */
  abandon(): void;
}

/** A physical order of a format. What is at rest is one int32 tensor, whatever the order. */
export interface Packing {
  readonly format: PackedFormat;
  /** Name of the physical order. */
  readonly order: string;
  physicalShape(rows: number, columns: number): [number, number];
  begin(shape: readonly number[], layout: KernelLayout): PackingTarget;
  /** float32 (rows, columns) */
  unpack(bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** x (M, columns) · Wᵀ → (M, rows), with a gradient for x. */
  matMul(x: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** dy (M, rows) · W → (M, columns): its gradient. */
  matMulTransposed(dy: tf.Tensor2D, bits: tf.Tensor2D, rows: number, columns: number): tf.Tensor2D;
  /** float32 (ids, columns): rows by number. */
  gatherRows(bits: tf.Tensor2D, ids: tf.Tensor1D, columns: number): tf.Tensor2D;
}

const registered = new Map<string, Packing>();

const key = (backendName: string | null, format: PackedFormat) => `${backendName ?? '*'}/${format}`;

/** Makes new weights of this format rest in this way on a backend; null: on all that have no way of their own. */
export function registerPacking(backendName: string | null, packing: Packing): void {
  registered.set(key(backendName, packing.format), packing);
}

/** How a format rests on the current backend. */
export function packingFor(format: PackedFormat): Packing {
  const packing = registered.get(key(tf.getBackend(), format)) ?? registered.get(key(null, format));
  if (!packing) throw new Error(`internal: nothing says how ${format} rests.`);
  return packing;
}
