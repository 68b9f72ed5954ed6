/** Packs values that are entirely in host memory. */
import type * as tf from '@tensorflow/tfjs';
import {float32ToBfloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {type PackingTarget} from './packing';
import {MEMORY_PIECE} from './value_stream';

/**
 * Cuts the first axis of a tensor into pieces of at most `size` values, but at least `multiple` slabs. A slab is one
 * index of the first axis.
 *
 * @returns first slab and number of slabs of each piece.
 */
export function* slabPieces(
  shape: readonly number[],
  multiple: number,
  size: number,
): Generator<[first: number, count: number]> {
  const slabs = shape[0] ?? 0;
  const step = Math.max(1, Math.floor(size / Math.max(1, sizeOf(shape.slice(1)) * multiple))) * multiple;
  for (let first = 0; first < slabs; first += step) yield [first, Math.min(step, slabs - first)];
}

/**
 * Returns the values of a tensor as bfloat16 bits. float32 values are rounded to nearest even; int32 words hold two
 * bfloat16 values each, which are kept as they are.
 *
 * @param size number of values; if it is odd, only half of the last word is used.
 */
export function bfloat16Bits(values: Float32Array | Int32Array, size: number): Uint16Array {
  if (values instanceof Int32Array) return new Uint16Array(values.buffer, values.byteOffset, size);
  const bits = new Uint16Array(size);
  float32ToBfloat16(values, bits);
  return bits;
}

/** Fills a target with bfloat16 bits in logical order, and finishes it. */
export function packValues(target: PackingTarget, values: Uint16Array, shape: readonly number[]): tf.Tensor {
  const slab = sizeOf(shape.slice(1));
  try {
    for (const [first, count] of slabPieces(shape, target.multiple, MEMORY_PIECE)) {
      target.place(values.subarray(first * slab, (first + count) * slab), first, count);
    }
  } catch (error) {
    target.abandon();
    throw error;
  }
  return target.finish();
}
