/** Information about the inputs of kernels, for packing them. */
import {type AnyWeight, PackedWeight} from './packed_weight';

/** A model that can estimate the size of its kernels' inputs. */
export interface KnowsEnergies {
  /** The weights from which it estimates them, in any order, and how many of their first values are needed. */
  energySources(): Promise<ReadonlyMap<AnyWeight, number>>;
  /** Sets the energies of kernels, which `PackedWeight` explains, from these values. */
  setEnergies(values: ReadonlyMap<AnyWeight, Float32Array>): Promise<void>;
}

export const knowsEnergies = (model: object): model is KnowsEnergies => 'energySources' in model;

/** Whether kernels of these weights are packed by energies. */
export const needEnergies = (weights: readonly AnyWeight[]): boolean =>
  weights.some(weight => weight instanceof PackedWeight && weight.format === 'int4');
