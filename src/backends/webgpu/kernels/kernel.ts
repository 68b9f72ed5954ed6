/** Kernels as functions of their operands. */
import {type KernelFunc, type TensorInfo} from '@tensorflow/tfjs';
import {type WebGpuBackend} from '../webgpu_backend';

type Inputs<Name extends string, Optional extends string> = Record<Name, TensorInfo> &
  Partial<Record<Optional, TensorInfo>>;

/** tfjs declares inputs and attributes as records of anything. */
export const kernel =
  <Name extends string, Attrs extends object = object, Optional extends string = never>(
    run: (backend: WebGpuBackend, inputs: Inputs<Name, Optional>, attrs: Attrs) => TensorInfo | TensorInfo[],
  ): KernelFunc =>
  ({inputs, backend, attrs}) =>
    run(backend as WebGpuBackend, inputs as object as Inputs<Name, Optional>, attrs as object as Attrs);
