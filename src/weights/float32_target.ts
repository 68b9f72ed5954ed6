/** Float32 weights that are filled piece by piece, directly in the memory of a backend that supports it. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {type ValueStream} from './value_stream';

/** A float32 tensor that is being filled. */
export interface Float32Target {
  /** The array to write the values to, in logical order. Ask again after each `await`: memory may have moved. */
  values(): Float32Array;
  /**
   * Whether memory may move during an `await`, and the array with it. Then the values must be read into a separate
   * array.
   */
  readonly moves?: boolean;
  /**
   * Takes all values of a stream that holds bfloat16, and widens them faster than the host can. Frees the target's
   * memory if reading fails. `onLastRead` as for `packStream`.
   */
  fillFromHalves?(stream: ValueStream, onLastRead?: () => void): Promise<tf.Tensor>;
  finish(): tf.Tensor;
  /** Frees the target's memory. Called instead of `finish` if reading the values failed. */
  abandon(): void;
}

/** A float32 tensor that is filled through an array on the host. */
export const hostFloat32 = (shape: number[]): Float32Target => {
  const values = new Float32Array(sizeOf(shape));
  return {values: () => values, finish: () => tf.tensor(values, shape, 'float32'), abandon: () => {}};
};

const float32Targets = new Map<string, (shape: number[]) => Float32Target>();

/** Lets float32 weights be filled directly in a backend's memory, without a copy on the host. */
export function registerFloat32Target(backendName: string, begin: (shape: number[]) => Float32Target): void {
  float32Targets.set(backendName, begin);
}

/** Begins a float32 tensor on the current backend. */
export const beginFloat32 = (shape: number[]): Float32Target =>
  (float32Targets.get(tf.getBackend()) ?? hostFloat32)(shape);
