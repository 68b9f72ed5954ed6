/** The base class of tasks: models with a backbone, which has all weights, and a preprocessor. */
import type * as tf from '@tensorflow/tfjs';
import {type QuantizationMode} from '../layers/quantize';
import {type Backbone, packConfig} from './backbone';
import {Model} from './model';

/** A model around a backbone, with the weights of the backbone. As `keras_hub.models.Task`. */
export abstract class Task extends Model {
  abstract readonly backbone: Backbone;
  /** Turns strings into inputs. Without one, null, the task takes token ids. */
  abstract preprocessor: object | null;

  override get weights(): tf.LayerVariable[] {
    // tfjs' constructor reads this before the backbone is set.
    return this.backbone?.weights ?? [];
  }
  override get trainableWeights(): tf.LayerVariable[] {
    return this.backbone?.trainableWeights ?? [];
  }
  override get nonTrainableWeights(): tf.LayerVariable[] {
    return this.backbone?.nonTrainableWeights ?? [];
  }
  override countParams(): number {
    return this.backbone.countParams();
  }

  /**
   * Packs the kernels of the backbone as "int8", "int4" or "bfloat16": see {@link Backbone.quantize}.
   *
   * @throws as {@link Backbone.quantize}.
   */
  async quantize(mode: QuantizationMode): Promise<void> {
    await this.backbone.quantize(mode);
  }

  /**
   * Merges LoRA into the weights of the backbone: see {@link Backbone.mergeLora}.
   *
   * @throws as {@link Backbone.mergeLora}.
   */
  async mergeLora(): Promise<void> {
    await this.backbone.mergeLora();
  }

  protected override updatedConfig(): tf.serialization.ConfigDict {
    return packConfig(super.updatedConfig());
  }

  /**
   * Releases this model's reference to the backbone. The weights are freed with the last reference. After `fromPreset`
   * the model has the only one; a backbone that you created must be disposed as well.
   */
  override dispose(): ReturnType<tf.LayersModel['dispose']> {
    // tfjs disposes a nested model twice, which would free a backbone that others still use.
    (this as unknown as {internalContainerRefs: unknown[]}).internalContainerRefs = [];
    return super.dispose();
  }
}
