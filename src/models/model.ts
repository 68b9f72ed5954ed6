/** What backbones and tasks share: inputs by name, files of tfjs without leaks, and what can be trained. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {type TensorOrTensors} from '../layers/layer';
import {restingTensor} from '../checkpoints/tfjs/write_weights';
import {TrainableWeights} from '../training/trainable_weights';
import {weightStream} from '../weights/repack';
import {inputTensors, type ModelInputs} from '../layers/named_inputs';
import {type AnyWeight} from '../weights/packed_weight';

type Args<M extends keyof tf.LayersModel> = tf.LayersModel[M] extends (...args: infer A) => unknown ? A : never;

type NamedTensors = ReturnType<tf.LayersModel['getNamedWeights']>;

/** A `tf.LayersModel` whose inputs go by name and whose weights may rest packed. */
export abstract class Model extends tf.LayersModel {
  /**
   * Predicts for inputs given by name, as tensors or nested arrays: `model.predict({token_ids, padding_mask})`. A model
   * with several outputs gives them by name, too; say which in the type: `model.predict<Outputs>(inputs)`.
   *
   * @throws ValueError on missing, unknown or unusable inputs, and on shapes that do not fit each other.
   */
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors;
  override predict<O extends Record<string, tf.Tensor>>(x: ModelInputs, args?: tf.ModelPredictConfig): O;
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors | Record<string, tf.Tensor> {
    const {tensors, made} = inputTensors(this, x);
    try {
      const outputs = super.predict(tensors, args);
      return Array.isArray(outputs) ? Object.fromEntries(outputs.map((y, i) => [this.outputNames[i]!, y])) : outputs;
    } finally {
      tf.dispose(made);
    }
  }

  // === Files of tfjs ===

  /** What `save` hands to tfjs, which asks for it before it first waits: a second call does not mix them up. */
  private named: NamedTensors = [];

  /**
   * Saves in the format of tfjs, weights as they rest: float32 as such, packed ones as the bits of int32 tensors.
   * `tf.loadLayersModel` reads them again where this package is imported.
   */
  override async save(...args: Args<'save'>): Promise<tf.io.SaveResult> {
    const weights = (args[1]?.trainableOnly ? this.trainableWeights : this.weights) as AnyWeight[];
    const named: NamedTensors = [];
    try {
      for (const weight of weights) {
        named.push({name: weight.originalName, tensor: await restingTensor(weight, weightStream(weight))});
      }
      this.named = named;
      return await super.save(...args);
    } finally {
      // Those of weights that rest as float32 are the weights' own.
      tf.dispose(named.map(({tensor}) => tensor).filter(tensor => !(tensor instanceof tf.Variable)));
    }
  }

  protected override getNamedWeights(): NamedTensors {
    return this.named;
  }

  // === Training ===

  private readonly trained = new TrainableWeights();

  override compile(args: tf.ModelCompileArgs): void {
    super.compile(args);
    this.trained.reset();
  }

  /**
   * tfjs trains what was trainable when `compile` was called. As in Keras, what `trainable` and `enableLora` change
   * afterwards counts, too.
   */
  private collectTrainable(): void {
    const model = this as unknown as {collectedTrainableWeights?: tf.LayerVariable[]};
    const collected = model.collectedTrainableWeights;
    if (!collected) return;
    const present = new Set(this.weights);
    if (collected.every(weight => present.has(weight))) model.collectedTrainableWeights = this.trainableWeights;
  }

  override summary(...args: Args<'summary'>): void {
    this.collectTrainable();
    super.summary(...args);
  }

  /** @throws ValueError on weights that cannot be trained: the error of tfjs names a `varList` that no user has passed. */
  private checkTrainable(): void {
    this.collectTrainable();
    const {collectedTrainableWeights: collected} = this as unknown as {collectedTrainableWeights?: tf.LayerVariable[]};
    const weights = collected ?? this.trainableWeights;
    const present = new Set(this.weights);
    if (weights.some(weight => !present.has(weight))) {
      throw new ValueError(
        'Expected the weights that `compile` found. Received a model whose LoRA was merged, or that was quantized since. ' +
          'Call `compile` again, with `trainable = false` on packed weights.',
      );
    }
    this.trained.check(weights);
  }

  /** @throws ValueError for weights that rest packed: see `dtype` of `fromPreset`. */
  override async fit(...args: Args<'fit'>): Promise<tf.History> {
    this.checkTrainable();
    return super.fit(...args);
  }

  /** @throws ValueError for weights that rest packed: see `dtype` of `fromPreset`. */
  override async fitDataset(...args: Args<'fitDataset'>): Promise<tf.History> {
    this.checkTrainable();
    return super.fitDataset(...args);
  }

  /** @throws ValueError for weights that rest packed: see `dtype` of `fromPreset`. */
  override async trainOnBatch(...args: Args<'trainOnBatch'>): Promise<number | number[]> {
    this.checkTrainable();
    return super.trainOnBatch(...args);
  }
}
