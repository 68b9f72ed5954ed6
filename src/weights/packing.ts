/**
 * How matrices rest in fewer bits than float32. The plain way is here: rows of bfloat16, on any backend. A backend may
 * register another order for a format, one that its kernels like better.
 */
import * as tf from '@tensorflow/tfjs';
import {matMulBfloat16} from '../ops/mat_mul';
import {unpackBfloat16} from '../ops/unpack';
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

const product = (xs: readonly number[]) => xs.reduce((a, b) => a * b, 1);

/** How far apart neighbours along each logical axis rest, where rows are `width` values apart. */
export function restingStrides(shape: readonly number[], layout: KernelLayout, width: number): number[] {
  const strides = shape.map(() => 0);
  for (const [axes, unit] of [
    [layout.out, width],
    [layout.in, 1],
  ] as const) {
    let stride: number = unit;
    for (const axis of [...axes].reverse()) {
      strides[axis] = stride;
      stride *= shape[axis]!;
    }
  }
  return strides;
}

/** Rows are padded with zeros to a multiple of this many values, so that kernels need no remainder loop. */
const ROW_MULTIPLE = 32;

/**
 * Rows of bfloat16, two values a word, low half first: an int32 tensor (rows, padded columns / 2). Values from a
 * bfloat16 file are kept as they are, without rounding.
 */
export const bfloat16Rows: Packing = {
  format: 'bfloat16',
  order: 'rows',
  physicalShape: (rows, columns) => [rows, (Math.ceil(columns / ROW_MULTIPLE) * ROW_MULTIPLE) / 2],
  begin: (shape, layout) => {
    const rows = product(layout.out.map(axis => shape[axis]!));
    const columns = product(layout.in.map(axis => shape[axis]!));
    const physical = bfloat16Rows.physicalShape(rows, columns);
    const halves = new Uint16Array(2 * product(physical));
    const strides = restingStrides(shape, layout, 2 * physical[1]);
    return {
      multiple: 1,
      place: (values, first, count) =>
        scatter(values, [count, ...shape.slice(1)], strides, first * strides[0]!, halves),
      finish: () => tf.tensor(new Int32Array(halves.buffer), physical, 'int32'),
      abandon: () => {},
    };
  },
  unpack: (bits, rows, columns) => tf.tidy(() => tf.slice(unpackBfloat16(bits), [0, 0], [rows, columns])),
  matMul: (x, bits, _rows, columns) => matMulBfloat16(x, bits, columns),
  matMulTransposed: (dy, bits, rows, columns) => tf.tidy(() => tf.matMul(dy, bfloat16Rows.unpack(bits, rows, columns))),
  gatherRows: (bits, ids, columns) =>
    tf.tidy(() => tf.slice(unpackBfloat16(tf.gather(bits, ids)), [0, 0], [-1, columns])),
};

/** Puts values of a logical shape where they rest, `origin` on. */
function scatter(
  values: Uint16Array,
  logical: readonly number[],
  resting: readonly number[],
  origin: number,
  halves: Uint16Array,
): void {
  // Kernels have two or three axes; fewer are padded in front, so that one loop nest serves all.
  const shape = [...logical];
  const strides = [...resting];
  while (shape.length < 3) {
    shape.unshift(1);
    strides.unshift(0);
  }
  const inner = shape.length - 2;
  const [height, width] = [shape[inner]!, shape[inner + 1]!];
  const [down, right] = [strides[inner]!, strides[inner + 1]!];
  const outer = product(shape.slice(0, inner));
  for (let o = 0, from = 0; o < outer; o++, from += height * width) {
    let base = origin;
    for (let axis = inner - 1, rest = o; axis >= 0; axis--) {
      base += (rest % shape[axis]!) * strides[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
    if (right === 1) {
      for (let y = 0; y < height; y++) {
        halves.set(values.subarray(from + y * width, from + (y + 1) * width), base + y * down);
      }
    } else {
      transposeInto(values, from, height, width, halves, base, down, right);
    }
  }
}

/** Square tiles keep both the rows that are read and the rows that are written in cache. */
function transposeInto(
  values: Uint16Array,
  from: number,
  height: number,
  width: number,
  out: Uint16Array,
  base: number,
  down: number,
  right: number,
): void {
  const TILE = 32;
  for (let y0 = 0; y0 < height; y0 += TILE) {
    const y1 = Math.min(height, y0 + TILE);
    for (let x0 = 0; x0 < width; x0 += TILE) {
      const x1 = Math.min(width, x0 + TILE);
      for (let y = y0; y < y1; y++) {
        let to = base + y * down + x0 * right;
        for (let x = x0; x < x1; x++, to += right) out[to] = values[from + y * width + x]!;
      }
    }
  }
}

/** A float32 tensor on its way into a backend. */
export interface Float32Target {
  /** Where the values go, in logical order. Ask anew after each wait: memory may have moved. */
  values(): Float32Array;
  finish(): tf.Tensor;
  /** Gives up what was taken for it, instead of `finish`. */
  abandon(): void;
}

/** A float32 tensor that is filled on the host. */
export const hostFloat32 = (shape: number[]): Float32Target => {
  const values = new Float32Array(product(shape));
  return {values: () => values, finish: () => tf.tensor(values, shape, 'float32'), abandon: () => {}};
};

const float32Targets = new Map<string, (shape: number[]) => Float32Target>();

/** Lets float32 weights of a backend be filled where they will rest, without a copy on the host. */
export function registerFloat32Target(backendName: string, begin: (shape: number[]) => Float32Target): void {
  float32Targets.set(backendName, begin);
}

/** A float32 tensor to fill, on the current backend. */
export const beginFloat32 = (shape: number[]): Float32Target =>
  (float32Targets.get(tf.getBackend()) ?? hostFloat32)(shape);

const registered = new Map<string, Packing>();
const key = (backendName: string | null, format: PackedFormat) => `${backendName ?? '*'}/${format}`;

/** Makes new weights of this format rest in this way on a backend; null: on all that have no way of their own. */
export function registerPacking(backendName: string | null, packing: Packing): void {
  registered.set(key(backendName, packing.format), packing);
}
registerPacking(null, bfloat16Rows);

/** How a format rests on the current backend. */
export function packingFor(format: PackedFormat): Packing {
  const packing = registered.get(key(tf.getBackend(), format)) ?? registered.get(key(null, format));
  if (!packing) throw new Error(`internal: nothing says how ${format} rests.`);
  return packing;
}
