/** The base class of tasks: models with a backbone, which has all weights, and a preprocessor. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {
  loadWeightsFile,
  type LoadWeightsOptions,
  saveWeightsFile,
  type SaveWeightsOptions,
} from '../checkpoints/keras/on_demand';
import {kerasLayers} from '../checkpoints/model_paths';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type FileSource, type FileTarget} from '../files/open_file';
import {type PresetEntry, presets} from '../hub/registry';
import {type QuantizationMode} from '../layers/quantize';
import {type Dtype} from '../weights/dtype';
import {type Backbone, type FromPresetOptions, packConfig} from './backbone';
import {Model} from './model';
import {loadFromBase, type PresetOptions} from './preset_classes';

/** A task of any class. The arguments of the training methods depend on the class. */
export type AnyTask = Omit<
  Task,
  'compile' | 'fit' | 'fitDataset' | 'trainOnBatch' | 'testOnBatch' | 'evaluate' | 'evaluateDataset'
>;

/** A model around a backbone, with the weights of the backbone. As `keras_hub.models.Task`. */
export abstract class Task extends Model {
  /** @nocollapse */
  static override className = 'Task';
  abstract readonly backbone: Backbone;
  /** Turns strings into inputs. If null, the task takes token ids. */
  abstract preprocessor: object | null;

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * Loads a task from a preset. Of a base class such as `CausalLM`, the result has the class that fits the preset;
   * `Task` itself gives the class that the preset was saved with.
   *
   * @param options also arguments of that class, which override those of the preset.
   * @throws ValueError if the preset is for another class, or does not tell which one; otherwise as the `fromPreset` of
   * the class.
   */
  static async fromPreset(preset: CheckpointLike, options: FromPresetOptions & PresetOptions = {}): Promise<AnyTask> {
    return loadFromBase<AnyTask>(this, preset, options, {
      part: 'task',
      advice: 'Call `fromPreset` of the one that you need, such as CausalLM.',
    });
  }

  get dtypePolicy(): Dtype {
    return this.backbone.dtypePolicy;
  }

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
    this.checkInUse();
    await this.backbone.quantize(mode);
  }

  /**
   * Merges LoRA into the weights of the backbone: see {@link Backbone.mergeLora}.
   *
   * @throws as {@link Backbone.mergeLora}.
   */
  async mergeLora(): Promise<void> {
    this.checkInUse();
    await this.backbone.mergeLora();
  }

  // === Weights of the task alone ===

  /** Whether the task has weights that are not in its backbone. A language model and a text embedder have none. */
  hasTaskWeights(): boolean {
    return [...kerasLayers(this, 'created', '', this.backbone)].some(([, layer]) => layer.savedWeights.length > 0);
  }

  /** @throws ValueError if the task has no weights of its own. */
  private checkTaskWeights(method: string, otherwise: string): void {
    if (this.hasTaskWeights()) return;
    throw new ValueError(
      `Expected a task with weights that are not in its backbone. Received: "${this.name}", a ${this.getClassName()}, ` +
        `which has none, so ${method} has nothing to do. Use \`${otherwise}\`.`,
    );
  }

  /**
   * Saves only the weights that are not in the backbone, as `.weights.h5`: see `saveWeights`.
   *
   * @throws as `saveWeights`, and if there are no such weights, as for a language model.
   */
  async saveTaskWeights(target: FileTarget, options: SaveWeightsOptions = {}): Promise<void> {
    this.checkTaskWeights('saveTaskWeights', 'saveWeights');
    await saveWeightsFile('saveTaskWeights', this, target, options, this.backbone);
  }

  /**
   * Loads only the weights that are not in the backbone: see `loadWeights`.
   *
   * @throws as `loadWeights`, and if there are no such weights, as for a language model.
   */
  async loadTaskWeights(source: FileSource, options: LoadWeightsOptions = {}): Promise<void> {
    this.checkTaskWeights('loadTaskWeights', 'loadWeights');
    await loadWeightsFile('loadTaskWeights', this, source, options, this.backbone);
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
