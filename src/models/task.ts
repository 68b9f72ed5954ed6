/** What tasks share: a backbone that has all the weights, with something that works on strings in front of it. */
import type * as tf from '@tensorflow/tfjs';
import {type QuantizationMode} from '../layers/quantize';
import {type Backbone, packConfig} from './backbone';
import {Model} from './model';

/** A model around a backbone, whose weights are the backbone's. As `keras_hub.models.Task`. */
export abstract class Task extends Model {
  abstract readonly backbone: Backbone;
  /** Strings to inputs; null to work on inputs. */
  abstract preprocessor: object | null;

  override get weights(): tf.LayerVariable[] {
    // tfjs' constructor asks before there is a backbone.
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
   * Packs the kernels of the backbone anew, as "int8", "int4" or "bfloat16": see {@link Backbone.quantize}.
   *
   * @throws ValueError as there.
   */
  async quantize(mode: QuantizationMode): Promise<void> {
    await this.backbone.quantize(mode);
  }

  /**
   * Adds LoRA to the weights of the backbone and ends it: see {@link Backbone.mergeLora}.
   *
   * @throws ValueError as there.
   */
  async mergeLora(): Promise<void> {
    await this.backbone.mergeLora();
  }

  protected override updatedConfig(): tf.serialization.ConfigDict {
    return packConfig(super.updatedConfig());
  }

  /**
   * Gives up this model's hold on the backbone. Its weights are freed when nobody else holds it: who made the backbone
   * disposes it too, one that `fromPreset` made belongs to this model alone.
   */
  override dispose(): ReturnType<tf.LayersModel['dispose']> {
    // tfjs disposes a nested model twice, which would free a backbone that the user still holds.
    (this as unknown as {internalContainerRefs: unknown[]}).internalContainerRefs = [];
    return super.dispose();
  }
}
