/** Packs values that are entirely in host memory. */
import type * as tf from '@tensorflow/tfjs';
import {float32ToBfloat16} from '../base/half';
import {sizeOf} from '../base/shapes';
import {type PackingTarget} from './packing';
import {MEMORY_PIECE, type ValueStream} from './value_stream';

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

/**
 * Fills a target from a stream, at most `size` values at a time, and finishes it. A stream that reads ahead fetches the
 * next piece while one is packed.
 *
 * @param onLastRead called before the last piece is packed, if the stream reads ahead.
 */
export async function packStream(
  target: PackingTarget,
  stream: ValueStream,
  shape: readonly number[],
  size: number,
  onLastRead?: () => void,
): Promise<tf.Tensor> {
  const slab = sizeOf(shape.slice(1));
  const pieces = [...slabPieces(shape, target.multiple, size)];
  const read = ([first, count]: [first: number, count: number]) =>
    stream.readBfloat16(first * slab, count * slab, target.space);
  let ahead: Promise<Uint16Array> | undefined;
  try {
    for (const [i, piece] of pieces.entries()) {
      const values = await (ahead ?? read(piece));
      ahead = undefined;
      if (stream.readsAhead) {
        const next = pieces[i + 1];
        if (next) ahead = read(next);
        else onLastRead?.();
      }
      target.place(values, ...piece);
    }
  } catch (error) {
    // The file must stay open until this read ends. The first error is the one that counts.
    await ahead?.catch(() => {});
    target.abandon();
    throw error;
  }
  return target.finish();
}
