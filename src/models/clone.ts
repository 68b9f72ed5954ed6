/** Copies values and flags to another model of the same configuration. */
import * as tf from '@tensorflow/tfjs';
import {Layer} from '../layers/layer';
import {nestedLayers} from '../layers/nested_layers';
import {PackedWeight} from '../weights/packed_weight';

/**
 * Copies the state of `from` to `to`. The values are shared in memory; a later write to one model does not change the
 * other.
 */
export function copyState(from: tf.LayersModel, to: tf.LayersModel): void {
  const targets = [...nestedLayers(to)];
  [...nestedLayers(from)].forEach((layer, i) => {
    const target = targets[i]!;
    // Outer layers come first, since setting the flag of a layer also sets it for all its sub-layers.
    target.trainable = layer.trainable;
    if (!(layer instanceof Layer) || !(target instanceof Layer)) return;
    layer.ownWeights.forEach((weight, j) => {
      const other = target.ownWeights[j]!;
      tf.tidy(() => void other.write(weight instanceof PackedWeight ? weight.bits : weight.read()));
      other.trainable = weight.trainable;
      if (weight.energies) other.energies = weight.energies;
    });
  });
}
