/** The base class of backbones and tasks: inputs by name, saving in tfjs' format, and checks before training. */
import * as tf from '@tensorflow/tfjs';
import {describeValue, ValueError} from '../base/errors';
import {isObject} from '../base/json';
import {
  loadWeightsFile,
  type LoadWeightsOptions,
  saveWeightsFile,
  type SaveWeightsOptions,
} from '../checkpoints/keras/on_demand';
import '../checkpoints/tfjs/save_model';
import {type FileSource, type FileTarget, isFileSource} from '../files/open_file';
import {type TensorOrTensors} from '../layers/layer';
import {inputTensors, type ModelInputs} from '../layers/named_inputs';
import {type TensorOrArray, toTensor} from '../layers/tensor_like';
import {withoutFrames} from '../training/callbacks/without_frames';
import {TrainableWeights} from '../training/trainable_weights';
import {type Dtype} from '../weights/dtype';
import {type AnyWeight} from '../weights/packed_weight';

type Args<M extends keyof tf.LayersModel> = tf.LayersModel[M] extends (...args: infer A) => unknown ? A : never;

/** Training targets, one row per sample: for one output, or for several in their order or by name. */
export type ModelTargets = TensorOrArray | readonly tf.Tensor[] | {readonly [outputName: string]: TensorOrArray};

/** Arguments of {@link Model.compile}: those of tfjs. */
export interface ModelCompileArgs extends Omit<tf.ModelCompileArgs, 'optimizer'> {
  /** An optimizer, or its name in tfjs. Defaults to "rmsprop". */
  optimizer?: tf.ModelCompileArgs['optimizer'];
}

/** Options of {@link Model.fit}: those of tfjs, whose `validationData` may be arrays of numbers as well. */
export interface ModelFitArgs extends Omit<tf.ModelFitArgs, 'validationData'> {
  /** Evaluated at the end of each epoch. */
  validationData?: readonly [ModelInputs, ModelTargets] | tf.ModelFitArgs['validationData'];
}

/** Training data as tfjs takes it. */
export interface DataTensors {
  inputs: tf.Tensor[];
  targets: tf.Tensor | tf.Tensor[] | {[outputName: string]: tf.Tensor};
  /** Those that were created from arrays: the caller disposes them. */
  created: tf.Tensor[];
}

/** Options for tfjs, whose callbacks would wait for animation frames. */
function withCallbacks<O extends Pick<tf.ModelFitArgs, 'callbacks'>>(options: O): O {
  const {callbacks} = options;
  if (!callbacks) return options;
  const list = [callbacks].flat() as (tf.CustomCallbackArgs | tf.CustomCallback | tf.Callback)[];
  const ready = list.map(one =>
    one instanceof tf.Callback || one instanceof tf.CustomCallback ? one : withoutFrames(one),
  );
  return {...options, callbacks: ready as O['callbacks']};
}

/** A `tf.LayersModel` with inputs by name, and weights that may be packed. */
export abstract class Model extends tf.LayersModel {
  /**
   * Predicts from inputs by name, as tensors or arrays of numbers: `model.predict({token_ids, padding_mask})`. What a
   * preprocessor returns for a single text is a batch of one. A model with several outputs returns them by name as well;
   * pass their type: `model.predict<Outputs>(inputs)`.
   *
   * @throws ValueError on missing, unknown or unusable inputs, and on shapes that do not match.
   */
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors;
  override predict<O extends Record<string, tf.Tensor>>(x: ModelInputs, args?: tf.ModelPredictConfig): O;
  override predict(x: ModelInputs, args?: tf.ModelPredictConfig): TensorOrTensors | Record<string, tf.Tensor> {
    this.checkInUse();
    const {tensors, created} = inputTensors(this, x);
    try {
      this.initializeWeights();
      const outputs = super.predict(tensors, args);
      return Array.isArray(outputs) ? Object.fromEntries(outputs.map((y, i) => [this.outputNames[i]!, y])) : outputs;
    } finally {
      tf.dispose(created);
    }
  }

  /**
   * Gives values to all weights that have none. Weights that are created among the results of layers would leave gaps in
   * the memory of a backend.
   */
  private initializeWeights(): void {
    for (const weight of this.weights as (tf.LayerVariable & Partial<Pick<AnyWeight, 'initialize'>>)[]) {
      weight.initialize?.();
    }
  }

  // === Disposal ===

  /**
   * Called by everything that reads weights.
   *
   * @throws ValueError if the model was disposed.
   */
  checkInUse(): void {
    if ((this as unknown as {_refCount: number})._refCount > 0) return;
    throw new ValueError(
      `Expected a model in use. Received: "${this.name}", which was disposed. Create or load it again, and call \`dispose\` ` +
        'only when nothing uses it any more.',
    );
  }

  protected override assertNotDisposed(): void {
    this.checkInUse();
  }

  /**
   * Frees the weights, unless another model uses them as well. A call on a model that was disposed does nothing. Calls
   * that are still running throw.
   */
  override dispose(): ReturnType<tf.LayersModel['dispose']> {
    if ((this as unknown as {_refCount: number})._refCount <= 0) {
      return {refCountAfterDispose: 0, numDisposedVariables: 0};
    }
    return super.dispose();
  }

  // === tfjs' files ===

  /**
   * Saves the model in tfjs' format. Weights keep their storage format: packed ones are saved as the bits of int32
   * tensors. `tf.loadLayersModel` loads the model if this package is imported.
   */
  override async save(...args: Args<'save'>): Promise<tf.io.SaveResult> {
    this.checkInUse();
    return super.save(...args);
  }

  // === Dtypes, in Keras' terms ===

  /** How kernels are stored. */
  abstract readonly dtypePolicy: Dtype;
  /** The number format of arithmetic: always "float32". */
  get computeDtype(): 'float32' {
    return this.dtypePolicy.computeDtype;
  }
  /** The number format of kernels that are not quantized. Biases and scales of norms are always float32. */
  get variableDtype(): Dtype['variableDtype'] {
    return this.dtypePolicy.variableDtype;
  }
  /** "int8" or "int4" if kernels are stored as integers, otherwise null. */
  get quantizationMode(): Dtype['quantizationMode'] {
    return this.dtypePolicy.quantizationMode;
  }

  // === Keras' files ===

  /**
   * Saves all weights as `.weights.h5`, which `load_weights` of the same model in Keras reads: from a backbone, a task
   * or an embedder. Weights keep their dtype unless `options` name another one, which they must for int8 and int4
   * weights. LoRA is merged in the file, but not in the model. The optimizer is not saved. An existing file is replaced
   * only when the new one is complete.
   *
   * @param target a path (Node), a browser's file handle, or a sink of bytes.
   * @throws ValueError on another file extension, unknown or unusable options, and a target that cannot be written to;
   * the signal's reason when aborted; errors of the file system. In these cases an existing file is unchanged.
   */
  async saveWeights(target: FileTarget, options: SaveWeightsOptions = {}): Promise<void> {
    await saveWeightsFile('saveWeights', this, target, options);
  }

  /* eslint-disable @typescript-eslint/no-misused-promises -- tfjs' own form sets weights synchronously */
  /**
   * Loads a `.weights.h5` that `saveWeights` or Keras saved from the same kind of model. Weights keep the format in
   * which they are stored: values are rounded to it. Where LoRA is enabled, B becomes 0, so that the layers compute
   * what the file says. State of an optimizer in the file is ignored.
   *
   * @param source a path (Node), an http(s) URL, bytes, a `Blob`, a browser's file handle, or a source of bytes.
   * @throws ValueError on another file extension, unknown or unusable options, and layers that do not fit, naming them,
   * their variables and both shapes; Error for a damaged file. In these cases the model is unchanged. If reading fails
   * later, or is aborted, some weights have the values of the file.
   */
  override loadWeights(source: FileSource, options?: LoadWeightsOptions): Promise<void>;
  /**
   * Sets weights from tensors by name, as in tfjs.
   *
   * @param strict whether names and weights must match exactly. Defaults to true.
   */
  override loadWeights(weights: tf.NamedTensorMap, strict?: boolean): void;
  override loadWeights(
    source: FileSource | tf.NamedTensorMap,
    options: LoadWeightsOptions | boolean = {},
  ): Promise<void> | void {
    if (isFileSource(source)) return loadWeightsFile('loadWeights', this, source, options as LoadWeightsOptions);
    if (!isObject(source) || !Object.values(source).every(value => value instanceof tf.Tensor)) {
      throw new ValueError(
        'loadWeights expected a file (a path or address, bytes, a Blob, a FileSystemFileHandle or a ByteSource), or ' +
          `tensors by name. Received: ${describeValue(source)}.`,
      );
    }
    super.loadWeights(source, typeof options === 'boolean' ? options : undefined);
  }

  /* eslint-enable @typescript-eslint/no-misused-promises */

  // === Training ===

  private readonly trained = new TrainableWeights();

  /** Sets optimizer, loss and metrics, as in tfjs. The optimizer defaults to "rmsprop", as in Keras. */
  override compile(args: ModelCompileArgs): void {
    super.compile({optimizer: 'rmsprop', ...args});
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
    this.checkInUse();
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
   * Training data as tensors.
   *
   * @throws ValueError on missing, unknown or unusable inputs, and on targets that are not numbers.
   */
  protected dataTensors(x: ModelInputs, y: ModelTargets): DataTensors {
    const {tensors: inputs, created} = inputTensors(this, x);
    try {
      return {inputs, targets: this.targetTensors(y, created), created};
    } catch (error) {
      tf.dispose(created);
      throw error;
    }
  }

  private targetTensors(y: unknown, created: tf.Tensor[]): DataTensors['targets'] {
    const target = (name: string, value: unknown) => toTensor(name, value, 'float32', created);
    const names = this.outputNames;
    if (Array.isArray(y) && (names.length > 1 || y.some(one => one instanceof tf.Tensor))) {
      return y.map((one: unknown, i) => target(names[i] ?? `y[${i}]`, one));
    }
    const byName = isObject(y) && !(y instanceof tf.Tensor) && Object.keys(y).every(name => names.includes(name));
    if (!byName) return target('y', y);
    return Object.fromEntries(Object.entries(y).map(([name, value]) => [name, target(name, value)]));
  }

  /** Calls a function with data as tensors, and disposes those that were created from arrays. */
  private withTensors<R>(x: ModelInputs, y: ModelTargets, run: (data: DataTensors) => R): R {
    const data = this.dataTensors(x, y);
    const end = () => tf.dispose(data.created);
    try {
      const result = run(data);
      if (!(result instanceof Promise)) {
        end();
        return result;
      }
      return result.finally(end) as R;
    } catch (error) {
      end();
      throw error;
    }
  }

  /**
   * Trains on inputs and targets, tensors or arrays of numbers, as in tfjs.
   *
   * @throws ValueError for packed weights (load float32 weights with the option `dtype` of `fromPreset`), and on unusable
   * data; errors of tfjs on unusable options.
   */
  override async fit(x: ModelInputs, y: ModelTargets, args: ModelFitArgs = {}): Promise<tf.History> {
    this.checkTrainable();
    const {validationData, ...rest} = args;
    return this.withTensors(x, y, async ({inputs, targets}) => {
      const options: tf.ModelFitArgs = withCallbacks(rest);
      if (validationData === undefined) return super.fit(inputs, targets, options);
      const [valX, valY, ...more] = validationData as [ModelInputs, ModelTargets, ...unknown[]];
      if (more.length > 0) {
        throw new ValueError(
          'Expected `validationData` as [inputs, targets]. Sample weights are not supported by tfjs.',
        );
      }
      return this.withTensors(valX, valY, async validation => {
        options.validationData = [validation.inputs, validation.targets as tf.Tensor];
        return super.fit(inputs, targets, options);
      });
    });
  }

  /**
   * Trains on a tf.data dataset, as in tfjs.
   *
   * @throws as {@link fit}.
   */
  override async fitDataset(...args: Args<'fitDataset'>): Promise<tf.History> {
    this.checkTrainable();
    const [dataset, options] = args;
    return super.fitDataset(dataset, withCallbacks(options));
  }

  /**
   * Trains on one batch, for one step.
   *
   * @returns the loss before the step, or [loss, …metrics].
   * @throws as {@link fit}.
   */
  override async trainOnBatch(x: ModelInputs, y: ModelTargets): Promise<number | number[]> {
    this.checkTrainable();
    return this.withTensors(x, y, async ({inputs, targets}) => super.trainOnBatch(inputs, targets));
  }

  /**
   * Computes the loss and the metrics, in that order, as in tfjs. The caller disposes these scalars.
   *
   * @throws as {@link fit}.
   */
  override evaluate(x: ModelInputs, y: ModelTargets, args: tf.ModelEvaluateArgs = {}): tf.Scalar | tf.Scalar[] {
    return this.withTensors(x, y, ({inputs, targets}) => super.evaluate(inputs, targets as tf.Tensor[], args));
  }

  /**
   * Computes the loss and the metrics of one batch, without changing anything.
   *
   * @returns the loss, or [loss, …metrics].
   * @throws as {@link fit}, and an Error before `compile`.
   */
  async testOnBatch(x: ModelInputs, y: ModelTargets): Promise<number | number[]> {
    const results = this.withTensors(x, y, ({inputs, targets}) =>
      [super.evaluate(inputs, targets as tf.Tensor[], {batchSize: inputs[0]!.shape[0]!})].flat(),
    );
    try {
      const numbers = await Promise.all(results.map(async result => (await result.data())[0]!));
      return numbers.length === 1 ? numbers[0]! : numbers;
    } finally {
      tf.dispose(results);
    }
  }
}
