/** Helpers for building tfjs kernels. */
import * as tf from '@tensorflow/tfjs';
import {type SimdBackend} from '../memory/simd_backend';

/** Required and optional inputs of a kernel, by name. */
export type KernelInputs<Required extends string, Optional extends string = never> = Record<Required, tf.TensorInfo> &
  Partial<Record<Optional, tf.TensorInfo>>;

/** A tfjs kernel of this backend with typed inputs and attributes. */
export const kernel =
  <Required extends string, Attrs = object, Optional extends string = never>(
    run: (
      backend: SimdBackend,
      inputs: KernelInputs<Required, Optional>,
      attrs: Attrs,
    ) => tf.TensorInfo | tf.TensorInfo[],
  ): tf.KernelFunc =>
  ({inputs, backend, attrs}) =>
    run(backend as SimdBackend, inputs as KernelInputs<Required, Optional>, attrs as unknown as Attrs);

/**
 * A kernel that replaces one of the CPU backend. If `run` returns undefined, the CPU kernel of that name runs instead.
 */
export const kernelWithFallback =
  <Required extends string, Attrs = object>(
    name: string,
    run: (
      backend: SimdBackend,
      inputs: KernelInputs<Required>,
      attrs: Attrs,
    ) => tf.TensorInfo | tf.TensorInfo[] | undefined,
  ): tf.KernelFunc =>
  params => {
    const inputs = params.inputs as KernelInputs<Required>;
    const result = run(params.backend as SimdBackend, inputs, params.attrs as unknown as Attrs);
    return result ?? tf.getKernel(name, 'cpu')!.kernelFunc(params);
  };

/** The size of a tensor as a matrix, with one row per vector along its last axis. */
export function rowsOf({shape}: tf.TensorInfo): {rows: number; columns: number} {
  const columns = shape.at(-1)!;
  return {rows: tf.util.sizeFromShape(shape) / columns, columns};
}
