/** The base class of backbones and tasks: inputs by name, saving in tfjs' format, and checks before training. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {tensorToSave} from '../checkpoints/tfjs/write_weights';
import {type TensorOrTensors} from '../layers/layer';
import {inputTensors, type ModelInputs} from '../layers/named_inputs';
import {TrainableWeights} from '../training/trainable_weights';
import {type AnyWeight} from '../weights/packed_weight';
import {weightStream} from '../weights/repack';

type Args<M extends keyof tf.LayersModel> = tf.LayersModel[M] extends (...args: infer A) => unknown ? A : never;

type NamedTensors = ReturnType<tf.LayersModel['getNamedWeights']>;

/** A `tf.LayersModel` with inputs by name, and weights that may be packed. */
export abstract class Model extends tf.LayersModel {
  /**
   * Predicts from inputs by name, as tensors or nested arrays: `model.predict({token_ids, padding_mask})`. A model with
   * several outputs returns them by name as well; pass their type: `model.predict<Outputs>(inputs)`.
   *
   * @throws ValueError on missing, unknown or unusable inputs, and on shapes that do not match.
   */
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors;
  override predict<O extends Record<string, tf.Tensor>>(x: ModelInputs, args?: tf.ModelPredictConfig): O;
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors | Record<string, tf.Tensor> {
    const {tensors, created} = inputTensors(this, x);
    try {
      const outputs = super.predict(tensors, args);
      return Array.isArray(outputs) ? Object.fromEntries(outputs.map((y, i) => [this.outputNames[i]!, y])) : outputs;
    } finally {
      tf.dispose(created);
    }
  }

  // === tfjs' files ===

  /** The tensors that tfjs saves. It reads them before its first `await`, so concurrent saves do not mix them up. */
  private named: NamedTensors = [];

  /**
   * Saves the model in tfjs' format. Weights keep their storage format: packed ones are saved as the bits of int32
   * tensors. `tf.loadLayersModel` loads the model if this package is imported.
   */
  override async save(...args: Args<'save'>): Promise<tf.io.SaveResult> {
    const weights = (args[1]?.trainableOnly ? this.trainableWeights : this.weights) as AnyWeight[];
    const named: NamedTensors = [];
    try {
      for (const weight of weights) {
        named.push({name: weight.originalName, tensor: await tensorToSave(weight, weightStream(weight))});
      }
      this.named = named;
      return await super.save(...args);
    } finally {
      // The tensors of float32 weights belong to the weights.
      tf.dispose(named.map(({tensor}) => tensor).filter(tensor => !(tensor instanceof tf.Variable)));
    }
  }

  protected override getNamedWeights(): NamedTensors {
    return this.named;
  }

  // === Training ===

  private readonly trained = new TrainableWeights();

  /** Sets optimizer, loss and metrics, as in tfjs. */
  override compile(args: tf.ModelCompileArgs): void {
    super.compile(args);
    this.trained.reset();
  }

  /**
   * tfjs trains the weights that were trainable when `compile` was called. Here, as in Keras, later changes of
   * `trainable` and calls of `enableLora` take effect as well.
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

  /** @throws ValueError on weights that cannot be trained. tfjs' own error names a `varList` that no user passed. */
  private checkTrainable(): void {
    this.collectTrainable();
    const {collectedTrainableWeights: collected} = this as unknown as {collectedTrainableWeights?: tf.LayerVariable[]};
    const weights = collected ?? this.trainableWeights;
    const present = new Set(this.weights);
    if (weights.some(weight => !present.has(weight))) {
      throw new ValueError(
        'Expected the weights that `compile` found. Received: other weights, since LoRA was merged or the model was ' +
          'quantized after `compile`. Call `compile` again, with `trainable = false` on packed weights.',
      );
    }
    this.trained.check(weights);
  }

  /**
   * Trains on tensors, as in tfjs.
   *
   * @throws ValueError for packed weights: load float32 weights with the option `dtype` of `fromPreset`.
   */
  override async fit(...args: Args<'fit'>): Promise<tf.History> {
    this.checkTrainable();
    return super.fit(...args);
  }

  /**
   * Trains on a tf.data dataset, as in tfjs.
   *
   * @throws as {@link fit}.
   */
  override async fitDataset(...args: Args<'fitDataset'>): Promise<tf.History> {
    this.checkTrainable();
    return super.fitDataset(...args);
  }

  /**
   * Trains on one batch, for one step, as in tfjs.
   *
   * @throws as {@link fit}.
   */
  override async trainOnBatch(...args: Args<'trainOnBatch'>): Promise<number | number[]> {
    this.checkTrainable();
    return super.trainOnBatch(...args);
  }
}
