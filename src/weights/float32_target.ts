import {sizeOf} from '../base/shapes';
import * as tf from '@tensorflow/tfjs';

/** A float32 tensor on its way into a backend. */
export interface Float32Target {
  /** Where the values go, in logical order. Ask anew after each wait: memory may have moved. */
  values(): Float32Array;
  finish(): tf.Tensor;
  /** Gives up what was taken for it, instead of `finish`. */
  abandon(): void;
}

/** A float32 tensor that is filled on the host. */
export const hostFloat32 = (shape: number[]): Float32Target => {
  const values = new Float32Array(sizeOf(shape));
  return {values: () => values, finish: () => tf.tensor(values, shape, 'float32'), abandon: () => {}};
};

const float32Targets = new Map<string, (shape: number[]) => Float32Target>();

/** Lets float32 weights of a backend be filled where they will rest, without a copy on the host. */
export function registerFloat32Target(backendName: string, begin: (shape: number[]) => Float32Target): void {
  float32Targets.set(backendName, begin);
}

/** A float32 tensor to fill, on the current backend. */
export const beginFloat32 = (shape: number[]): Float32Target =>
  (float32Targets.get(tf.getBackend()) ?? hostFloat32)(shape);
