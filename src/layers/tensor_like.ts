/** Tensors from whatever users pass as numbers. */
import * as tf from '@tensorflow/tfjs';
import {type NestedArray, readNumbers, type ShapedArray} from '../base/nested_array';

export type {NestedArray, NumberArray, ShapedArray} from '../base/nested_array';

/** A tensor, or numbers in nested arrays or in one array with a shape: see {@link NestedArray} and {@link ShapedArray}. */
export type TensorOrArray = tf.Tensor | NestedArray | ShapedArray;

/**
 * The given tensor, or a new one with the given numbers, which is added to `created`: its caller disposes those.
 *
 * @param name what the numbers are, for errors: the name of an argument.
 * @throws ValueError on rows of different lengths or depths, and on values that are not numbers of this type.
 */
export function toTensor(
  name: string,
  value: unknown,
  dtype: 'int32' | 'float32',
  created: tf.Tensor[] = [],
): tf.Tensor {
  if (value instanceof tf.Tensor) return value;
  const {values, shape} = readNumbers(name, value, dtype);
  const tensor = tf.tensor(values, [...shape], dtype);
  created.push(tensor);
  return tensor;
}
