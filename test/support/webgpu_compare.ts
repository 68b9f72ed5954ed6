/** Kernels on `webgpu` against their references on the backend `cpu`. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {type Op} from '../../src/ops/op';
import {PackedWeight} from '../../src/weights/packed_weight';
import {normal} from './random';

/** A tensor as the host has it. */
export type Host = {values: tf.TypedArray; shape: number[]; dtype: tf.DataType};
export const hostOf = (tensor: tf.Tensor): Host => ({
  values: tensor.dataSync(),
  shape: tensor.shape,
  dtype: tensor.dtype,
});
export const tensorOf = ({values, shape, dtype}: Host) => tf.tensor(values.slice(), shape, dtype as 'float32');

/** Runs on the CPU. */
export async function onCpu<T>(run: () => T, backend: 'cpu' | 'simd' = 'cpu'): Promise<T> {
  const previous = tf.getBackend();
  await useBackend(backend);
  const result = tf.tidy(() => ({result: run()}) as never as tf.TensorContainer) as never as {result: T};
  await tf.setBackend(previous);
  return result.result;
}

/** Runs an operation by its reference on the CPU, and by its kernel on the GPU. Inputs are made on the CPU. */
export async function compare<I extends Record<string, tf.Tensor>, A extends object>(
  op: Pick<Op<I, A & Record<string, unknown>>, 'name' | 'reference'>,
  make: () => I,
  attrs: A,
  tolerance: {rtol?: number; atol?: number} = {rtol: 1e-5},
): Promise<void> {
  const {inputs, expected} = await onCpu(() => {
    const made = make();
    const inputs = Object.fromEntries(Object.entries(made).map(([name, tensor]) => [name, hostOf(tensor)]));
    return {inputs, expected: hostOf(op.reference(made, attrs as A & Record<string, unknown>))};
  });
  const tensors = Object.fromEntries(Object.entries(inputs).map(([name, host]) => [name, tensorOf(host)]));
  const record = Object.assign([], tensors) as object as tf.NamedTensorMap;
  const y = tf.engine().runKernel(op.name, record, attrs as tf.NamedAttrMap) as tf.Tensor;
  expect({op: op.name, shape: y.shape, dtype: y.dtype}).toEqual({
    op: op.name,
    shape: expected.shape,
    dtype: expected.dtype,
  });
  expect(await y.data()).toBeAllClose(expected.values, tolerance);
  tf.dispose([tensors, y]);
}

export const FORMATS = ['bfloat16', 'int8', 'int4'] as const;

/** Packed on the backend "simd". */
export async function packed(format: (typeof FORMATS)[number], rows: number, columns: number) {
  return onCpu(() => {
    const weight = new PackedWeight([rows, columns], {out: [0], in: [1]}, 'w', tf.initializers.zeros(), true, format);
    weight.write(normal([rows, columns], rows));
    const bits = hostOf(weight.bits);
    const values = hostOf(weight.read());
    weight.dispose();
    return {bits, values};
  }, 'simd');
}
