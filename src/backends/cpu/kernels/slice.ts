/**
 * tfjs' `Slice` for parts that are not contiguous: tfjs computes the position of every single value, this copies runs.
 */
import * as tf from '@tensorflow/tfjs';
import {type MathBackendCPU, valuesOf} from '../cpu_backend';

interface SliceAttrs {
  begin: number | number[];
  size: number | number[];
}

const {assertParamsValid, isSliceContinous, parseSliceParams} = tf.slice_util;

/** @param ofTfjs tfjs' own kernel, for everything else. */
export const sliceKernel =
  (ofTfjs: tf.KernelFunc): tf.KernelFunc =>
  params => {
    const x = params.inputs.x as tf.TensorInfo;
    if (x.dtype === 'string' || x.dtype === 'complex64') return ofTfjs(params);
    const attrs = params.attrs as unknown as SliceAttrs;
    const [begin, size] = parseSliceParams(x as tf.Tensor, attrs.begin, attrs.size) as [number[], number[]];
    assertParamsValid(x as tf.Tensor, begin, size);
    if (isSliceContinous(x.shape, begin, size)) return ofTfjs(params);
    const backend = params.backend as MathBackendCPU;
    const values = valuesOf(backend, x);
    const strides = x.shape.map((_, axis) => tf.util.sizeFromShape(x.shape.slice(axis + 1)));
    // The last axis that is not taken as a whole: from there on, values are contiguous.
    let last = size.length - 1;
    while (size[last] === x.shape[last]) last--;
    const run = size[last]! * strides[last]!;
    const y = tf.util.getArrayFromDType(x.dtype, tf.util.sizeFromShape(size)) as Float32Array;
    let at = 0;
    const copy = (axis: number, from: number) => {
      from += begin[axis]! * strides[axis]!;
      if (axis === last) {
        y.set(values.subarray(from, from + run) as Float32Array, at);
        at += run;
        return;
      }
      for (let i = 0; i < size[axis]!; i++) copy(axis + 1, from + i * strides[axis]!);
    };
    if (y.length > 0) copy(0, 0);
    return backend.makeTensorInfo(size, x.dtype, y);
  };
