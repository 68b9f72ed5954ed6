/** Temporary tensors of kernels that run several programs. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type Runner} from '../webgpu_backend';

/** Tensors that are freed together. */
export class Scratch {
  private readonly tensors: TensorInfo[] = [];
  constructor(private readonly backend: Runner) {}

  add(tensor: TensorInfo): TensorInfo {
    this.tensors.push(tensor);
    return tensor;
  }
  empty(shape: number[]): TensorInfo {
    return this.add(this.backend.empty(shape));
  }
  /** The memory is free once the recorded commands have run. */
  dispose(): void {
    for (const {dataId} of this.tensors) this.backend.disposeData(dataId);
  }
}
