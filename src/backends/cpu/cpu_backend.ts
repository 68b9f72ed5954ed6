/** What kernels for tfjs' CPU backend need of it; the class itself is not exported by `@tensorflow/tfjs`. */
import {type DataType, type KernelBackend, type TensorInfo, type TypedArray} from '@tensorflow/tfjs';

export interface MathBackendCPU extends KernelBackend {
  data: {get(dataId: object): {values: TypedArray}};
  makeTensorInfo(shape: number[], dtype: DataType, values: TypedArray): TensorInfo;
  incRef(dataId: object): void;
}

/** The array of a tensor. Not a copy: it is not to be changed, except where a kernel's contract says so. */
export const valuesOf = (backend: MathBackendCPU, tensor: TensorInfo): TypedArray =>
  backend.data.get(tensor.dataId).values;
