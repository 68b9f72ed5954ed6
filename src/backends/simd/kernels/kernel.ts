/** A kernel of tfjs from what it computes. Each asks for a `call` first: it says where everything is, all in one bank. */
import * as tf from '@tensorflow/tfjs';
import {type SimdBackend} from '../memory/simd_backend';

export type Tensors = Record<string, tf.TensorInfo>;

export const kernel =
  <Attrs = Record<string, number>>(
    run: (backend: SimdBackend, inputs: Tensors, attrs: Attrs) => tf.TensorInfo | tf.TensorInfo[],
  ): tf.KernelFunc =>
  ({inputs, backend, attrs}) =>
    run(backend as SimdBackend, inputs as unknown as Tensors, attrs as unknown as Attrs);

/** A tensor as rows of its last axis. */
export function rowsOf({shape}: tf.TensorInfo): {rows: number; columns: number} {
  const columns = shape.at(-1)!;
  return {rows: tf.util.sizeFromShape(shape) / columns, columns};
}
