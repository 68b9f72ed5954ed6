import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {matMulBfloat16} from './mat_mul';
import {unpackBfloat16} from './unpack';
import {type KernelLayout, type Packing, registerPacking} from '../weights/packing';

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
    const rows = sizeOf(layout.out.map(axis => shape[axis]!));
    const columns = sizeOf(layout.in.map(axis => shape[axis]!));
    const physical = bfloat16Rows.physicalShape(rows, columns);
    const halves = new Uint16Array(2 * sizeOf(physical));
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

registerPacking(null, bfloat16Rows);
