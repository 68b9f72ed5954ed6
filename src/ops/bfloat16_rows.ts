/** The default packing of bfloat16 weights, on every backend: a matrix of rows, two values per word. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {type KernelLayout, type Packing, registerPacking} from '../weights/packing';
import {matMulBfloat16} from './mat_mul';
import {unpackBfloat16} from './unpack';

/** Rows are padded with zeros to a multiple of this many values, so that kernels need no remainder loop. */
const ROW_MULTIPLE = 32;

/**
 * Rows of bfloat16, two values per word, low half first: an int32 tensor (rows, padded columns / 2). Values from a
 * bfloat16 file are kept without rounding.
 */
export const bfloat16Rows: Packing = {
  format: 'bfloat16',
  order: 'rows',
  rowGroup: 1,
  fusedBlocks: false,
  physicalShape: (rows, columns) => [rows, (Math.ceil(columns / ROW_MULTIPLE) * ROW_MULTIPLE) / 2],
  begin: (shape, layout) => {
    const rows = sizeOf(layout.out.map(axis => shape[axis]!));
    const columns = sizeOf(layout.in.map(axis => shape[axis]!));
    const physical = bfloat16Rows.physicalShape(rows, columns);
    const {halves, place} = hostRows(shape, layout, 2 * physical[1]);
    return {
      multiple: 1,
      place,
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
registerPacking(null, bfloat16Rows);

/** Allocates a matrix with `width` values per row on the host. `place` takes bfloat16 values in logical order. */
export function hostRows(
  shape: readonly number[],
  layout: KernelLayout,
  width: number,
): {halves: Uint16Array<ArrayBuffer>; place(values: Uint16Array, first: number, count: number): void} {
  const halves = new Uint16Array(sizeOf(layout.out.map(axis => shape[axis]!)) * width);
  const strides = rowStrides(shape, layout, width);
  return {
    halves,
    place: (values, first, count) => scatter(values, [count, ...shape.slice(1)], strides, first * strides[0]!, halves),
  };
}

/** Distance between adjacent values along each logical axis, in a matrix of rows of `width` values. */
function rowStrides(shape: readonly number[], layout: KernelLayout, width: number): number[] {
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

/** Writes values, given in logical order, to their stored positions in `halves`, counted from `origin`. */
function scatter(
  values: Uint16Array,
  logical: readonly number[],
  stored: readonly number[],
  origin: number,
  halves: Uint16Array,
): void {
  // Kernels have two or three axes. Shapes with fewer get leading axes of size 1, so that one loop nest handles all.
  const shape = [...logical];
  const strides = [...stored];
  while (shape.length < 3) {
    shape.unshift(1);
    strides.unshift(0);
  }
  const inner = shape.length - 2;
  const [height, width] = [shape[inner]!, shape[inner + 1]!];
  const [down, right] = [strides[inner]!, strides[inner + 1]!];
  const outer = sizeOf(shape.slice(0, inner));
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

/** Copies with a transpose, in square tiles, so that the rows read and the rows written both stay in cache. */
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
