/** The parts of tfjs' CPU backend that kernels use. `@tensorflow/tfjs` does not export the class. */
import * as tf from '@tensorflow/tfjs';

/** A tensor's entry in the backend's table. */
export interface CpuEntry {
  values: tf.TypedArray;
  dtype: tf.DataType;
  refCount: number;
}

export interface MathBackendCPU extends tf.KernelBackend {
  data: {
    get(dataId: object): CpuEntry;
    set(dataId: object, entry: CpuEntry): void;
    has(dataId: object): boolean;
    delete(dataId: object): boolean;
  };
  makeTensorInfo(shape: number[], dtype: tf.DataType, values: tf.TypedArray): tf.TensorInfo;
  incRef(dataId: object): void;
  bufferSync<R extends tf.Rank, D extends tf.DataType>(tensor: tf.TensorInfo): tf.TensorBuffer<R, D>;
  disposeIntermediateTensorInfo(tensor: tf.TensorInfo): void;
}

/** The array of a tensor, not a copy. It must not be changed unless the contract of the kernel allows it. */
export const valuesOf = (backend: MathBackendCPU, tensor: tf.TensorInfo): tf.TypedArray =>
  backend.data.get(tensor.dataId).values;

/** Reads a tensor for `registerHostValues`: its array on tfjs' current backend, which must extend the CPU backend. */
export const hostValues = (tensor: tf.Tensor): tf.TypedArray => valuesOf(tf.backend() as MathBackendCPU, tensor);

/** The class of tfjs' CPU backend, for backends that extend it. */
export function cpuBackendClass(): new () => MathBackendCPU {
  const factory = tf.findBackendFactory('cpu');
  if (!factory) throw new Error('internal: tfjs has no CPU backend.');
  return (factory() as MathBackendCPU).constructor as new () => MathBackendCPU;
}
