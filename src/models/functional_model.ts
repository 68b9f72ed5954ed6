/** The base class of models that are graphs of this package's layers, and may be layers of other models. */
import * as tf from '@tensorflow/tfjs';
import {Model} from './model';
import {packConfig} from './packed_config';

/**
 * A graph of layers, as Keras' functional models. The order of its weights does not depend on which of them are
 * trainable.
 */
export abstract class FunctionalModel extends Model {
  // === Weights, in the order of creation (tfjs would put trainable ones first) ===

  override get weights(): tf.LayerVariable[] {
    // tfjs' constructor reads this before the layers are set.
    return (this.layers ?? []).flatMap(layer => layer.weights);
  }
  override get trainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => weight.trainable);
  }
  override get nonTrainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => !weight.trainable);
  }
  override get trainable(): boolean {
    return super.trainable;
  }
  override set trainable(value: boolean) {
    super.trainable = value;
    for (const layer of this.layers) layer.trainable = value;
  }

  /** Number of parameters, trainable or not. */
  override countParams(): number {
    return this.weights.reduce((sum, weight) => sum + tf.util.sizeFromShape(weight.shape as number[]), 0);
  }

  // === Configuration ===

  protected override updatedConfig(): tf.serialization.ConfigDict {
    return packConfig(super.updatedConfig());
  }
}
