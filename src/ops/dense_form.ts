/** How dense kernels are stored, for kernels of a backend that compute several layers at once. */
import * as tf from '@tensorflow/tfjs';
import {sizeOf} from '../base/shapes';
import {type AnyWeight, PackedWeight} from '../weights/packed_weight';
import {type Packing} from '../weights/packing';
import {tapeIsOn} from './op';

/** How a dense kernel is stored. */
export interface DenseForm {
  /** Null for float32 in Keras' order, (rows / inner, columns, inner). */
  packing: Packing | null;
  /** Number of outputs per step of the contracted axes; 1 for a packed kernel. */
  inner: number;
}

/** @param contractedEnd the axis of the kernel that follows the contracted ones. */
export function formOf(kernel: AnyWeight, contractedEnd: number): DenseForm {
  if (kernel instanceof PackedWeight) return {packing: kernel.packing, inner: 1};
  return {packing: null, inner: sizeOf(kernel.shape.slice(contractedEnd))};
}

/** A weight as it is stored. */
export const storedTensor = (weight: AnyWeight): tf.Tensor =>
  weight instanceof PackedWeight ? weight.bits : weight.read();

/**
 * True if the current backend has a kernel of this name for dense kernels in these forms. False while tfjs records for
 * a gradient: kernels of several layers have none.
 */
export function hasFusedKernel(name: string, forms: readonly DenseForm[]): boolean {
  if (tapeIsOn() || !tf.getKernel(name, tf.getBackend())) return false;
  return forms.every(({packing}) => packing === null || packing.fusedBlocks);
}
