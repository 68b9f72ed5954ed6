/** The base of all layers: a tfjs layer with sub-layers, whose weights use no memory until they are filled. */
import * as tf from '@tensorflow/tfjs';
import {camelKeys} from '../base/casing';
import {checkArgument, checkArguments} from '../base/checks';
import {ValueError} from '../base/errors';
import {type Dtype, type DtypeLike, parseDtype, serializeDtype, type WeightFormat} from '../weights/dtype';
import {type Initializer} from '../weights/initializers';
import {type AnyWeight, type KernelLayout, PackedWeight} from '../weights/packed_weight';
import {Weight} from '../weights/weight';
import {allowPlainInt4, type QuantizationMode, quantizeLayers} from './quantize';
import {descend} from './tree';

export interface LayerArgs {
  /** Name of the layer; derived from the class name by default. */
  name?: string;
  /** Whether the weights are trained. Defaults to true. */
  trainable?: boolean;
  /** How the weights are stored, "float32" by default: see {@link DtypeLike}. Arithmetic is float32. */
  dtype?: DtypeLike | null;
  /** Shape of the input without its batch axis, for the first layer of a `tf.sequential` model. */
  inputShape?: tf.Shape;
  /** Like `inputShape`, but with the batch axis. */
  batchInputShape?: tf.Shape;
}

const BASE_ARGUMENTS = ['name', 'trainable', 'dtype', 'inputShape', 'batchInputShape'] as const;

/** LoRA of a layer below another one, which the configuration of the outer one keeps. */
interface LoraBelow extends tf.serialization.ConfigDict {
  /** Number of the layer among all that are below the outer one, depth first. */
  index: number;
  rank: number;
  alpha: number;
}

/** The part of a `LoraLayer` that is needed here. */
interface Adapted extends Layer {
  readonly loraRank: number;
  readonly loraAlpha: number;
  enableLora(rank: number, options: {alpha: number}): void;
}

const isAdapted = (layer: Layer): layer is Adapted => (layer as Partial<Adapted>).loraRank != null;

export type Kwargs = Record<string, unknown>;
export type TensorOrTensors = tf.Tensor | tf.Tensor[];
export type ShapeOrShapes = tf.Shape | tf.Shape[];

/** The first of several inputs, or the only one. */
export const firstTensor = (x: TensorOrTensors): tf.Tensor => (Array.isArray(x) ? x[0]! : x);
export const firstShape = (shape: ShapeOrShapes): tf.Shape => (Array.isArray(shape[0]) ? shape[0] : shape) as tf.Shape;

/**
 * Checks the arguments of a layer and returns them, for the `super` call.
 *
 * @throws ValueError on arguments that are neither in `known` nor arguments of every layer, and on a name or
 * `trainable` of the wrong type.
 */
export function checkedArgs<A extends LayerArgs>(owner: string, args: A, known: readonly (keyof A & string)[]): A {
  checkArguments(owner, args, [...known, ...BASE_ARGUMENTS]);
  if (args.name != null) checkArgument(owner, 'name', args.name, 'text');
  if (args.trainable != null) checkArgument(owner, 'trainable', args.trainable, 'flag');
  return args;
}

/**
 * A layer with sub-layers. A sub-layer is added under the attribute name that Keras gives it, built with `build` and
 * run with `call`. Weight names, `trainable`, the order of weights and the paths in Keras files follow from this tree.
 */
export abstract class Layer extends tf.layers.Layer {
  /** Sub-layers by their Keras attribute names, in the order of creation. */
  readonly sublayers = new Map<string, Layer | Layer[]>();
  /** Own weights, without those of sub-layers, in the order of creation. tfjs' own lists are private and stay empty. */
  readonly ownWeights: AnyWeight[] = [];
  /** The own weights that are stored in the format of the dtype, with their layouts. */
  readonly kernels = new Map<AnyWeight, KernelLayout>();
  /** Set by the constructor, and by `quantize`. */
  dtypePolicy: Dtype;
  /**
   * The format of the kernels if the dtype is "int4". A model in which some layers lose more with four bits than others
   * sets it before `build`, to store those in more bits.
   */
  int4Format: 'int4' | 'int8' = 'int4';
  private parent?: {readonly path: string};

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

  constructor({dtype, ...args}: LayerArgs = {}) {
    super(args as ConstructorParameters<typeof tf.layers.Layer>[0]);
    // Separate from tfjs' own `dtype`, which is the type of the input.
    this.dtypePolicy = parseDtype(dtype);
  }

  protected addSublayer<T extends Layer | Layer[]>(attribute: string, layer: T): T {
    this.sublayers.set(attribute, layer);
    for (const child of [layer].flat() as Layer[]) child.parent = this;
    if (!super.trainable) for (const child of [layer].flat() as Layer[]) child.trainable = false;
    return layer;
  }

  /** Sub-layers in the order of creation. */
  get children(): Layer[] {
    // tfjs' constructor asks for weights before our fields exist.
    return this.sublayers ? [...this.sublayers.values()].flat() : [];
  }

  /**
   * Puts the layer below a model that is used as a layer, whose name then begins the names of all weights. Must be
   * called before `build`.
   */
  placeIn(model: {readonly path: string}): void {
    this.parent = model;
  }

  /** Names from the outermost layer down to this one: `decoder_block_0/attention/query`. */
  get path(): string {
    return this.parent ? `${this.parent.path}/${this.name}` : this.name;
  }

  /** True during `apply`, when tfjs prefixes weight names with the layer's name. A direct `build` adds no prefix. */
  private applying = false;
  override apply(
    inputs: Parameters<tf.layers.Layer['apply']>[0],
    kwargs?: Kwargs,
  ): ReturnType<tf.layers.Layer['apply']> {
    if (inputs instanceof tf.SymbolicTensor || (Array.isArray(inputs) && inputs[0] instanceof tf.SymbolicTensor)) {
      this.checkSymbolic(kwargs);
    }
    this.applying = true;
    let outputs: ReturnType<tf.layers.Layer['apply']>;
    try {
      outputs = super.apply(inputs, kwargs);
    } finally {
      this.applying = false;
    }
    this.restoreLora();
    return outputs;
  }

  /** LoRA from the configuration, until the layer is built. */
  private loraToRestore: readonly LoraBelow[] = [];

  private restoreLora(): void {
    const below = this.loraToRestore.length > 0 ? [...descend(this.children)] : [];
    for (const {index, rank, alpha} of this.loraToRestore) {
      const layer = below[index] as Adapted;
      layer.trainable = true;
      layer.enableLora(rank, {alpha});
    }
    this.loraToRestore = [];
  }

  /** @throws ValueError on options, because tfjs forgets them when the graph is run. */
  private checkSymbolic(kwargs: Kwargs = {}): void {
    const given = Object.keys(kwargs).filter(name => kwargs[name] != null);
    if (given.length === 0) return;
    throw new ValueError(
      `${this.getClassName()} "${this.name}" expected no options when it is applied to symbolic tensors, because a ` +
        `tfjs graph does not keep them. Received: ${given.join(', ')}. Pass masks as additional inputs, where the ` +
        'layer accepts them, or call the layer with options in the `call` of your own layer.',
    );
  }

  /** `path/name`, without the prefix that tfjs adds during `apply`. */
  private weightName(name: string): string {
    const outermost = (layer: Layer): Layer => (layer.parent instanceof Layer ? outermost(layer.parent) : layer);
    const full = `${this.path}/${name}`;
    const root = outermost(this);
    return root.applying ? full.slice(root.name.length + 1) : full;
  }

  // === Weights ===

  /** Adds a float32 weight. Its initializer runs at the first read, unless the weight is filled before that. */
  protected addFloatWeight(name: string, shape: number[], initializer: Initializer): Weight {
    return this.own(new Weight(shape, this.weightName(name), initializer));
  }

  /** Adds a kernel, stored in the format of the layer's dtype. */
  protected addKernel(name: string, shape: number[], layout: KernelLayout, initializer: Initializer): AnyWeight {
    const format = this.kernelFormat(this.dtypePolicy);
    const kernel =
      format === 'float32'
        ? this.addFloatWeight(name, shape, initializer)
        : this.own(new PackedWeight(shape, layout, this.weightName(name), initializer, true, format));
    allowPlainInt4(kernel, this.dtypePolicy);
    this.kernels.set(kernel, layout);
    return kernel;
  }

  /** How kernels are stored under a dtype policy. */
  kernelFormat({format}: Dtype): WeightFormat {
    return format === 'int4' ? this.int4Format : format;
  }

  /** Replaces a kernel in every field of the layer that holds it, and disposes the old one. */
  replaceKernel(old: AnyWeight, replacement: AnyWeight): void {
    this.ownWeights[this.ownWeights.indexOf(old)] = replacement;
    this.kernels.set(replacement, this.kernels.get(old)!);
    this.kernels.delete(old);
    const fields = this as unknown as Record<string, unknown>;
    for (const field of Object.keys(this)) if (fields[field] === old) fields[field] = replacement;
    old.dispose();
  }

  /**
   * Packs the kernels of this layer and of all layers below it as "int8", "int4" or "bfloat16". Biases and scales of
   * norms stay float32.
   *
   * @throws ValueError for an unknown mode; for layers that are not built or have no kernels; if all kernels are
   * already stored in this format; if some are stored as integers, because values that were rounded once are not
   * rounded again.
   */
  async quantize(mode: QuantizationMode): Promise<void> {
    await quantizeLayers(`Layer "${this.name}"`, [this], mode);
  }

  /** The own weights that Keras files contain. */
  get savedWeights(): readonly AnyWeight[] {
    return this.ownWeights;
  }

  private own<W extends AnyWeight>(weight: W): W {
    weight.trainable = super.trainable;
    this.ownWeights.push(weight);
    return weight;
  }

  override get trainable(): boolean {
    return super.trainable;
  }
  override set trainable(value: boolean) {
    super.trainable = value;
    for (const weight of this.ownWeights ?? []) weight.trainable = value;
    for (const child of this.children) child.trainable = value;
  }

  /** Own weights, then those of sub-layers, in the order of creation. tfjs would put trainable ones first. */
  override get weights(): tf.LayerVariable[] {
    return [...(this.ownWeights ?? []), ...this.children.flatMap(child => child.weights)];
  }
  override get trainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => weight.trainable);
  }
  override get nonTrainableWeights(): tf.LayerVariable[] {
    return this.weights.filter(weight => !weight.trainable);
  }
  // tfjs declares setters for these two. They do nothing, since both lists follow from `weights`.
  override set trainableWeights(_: tf.LayerVariable[]) {}
  override set nonTrainableWeights(_: tf.LayerVariable[]) {}

  override computeOutputShape(inputShape: ShapeOrShapes): ShapeOrShapes {
    return firstShape(inputShape);
  }

  /** @throws ValueError if the layer was disposed. Replaces an error of tfjs. */
  protected override assertNotDisposed(): void {
    if (this._refCount !== 0) return;
    throw new ValueError(
      `Expected a layer in use. Received: the layer "${this.name}", which is already disposed. Create it again.`,
    );
  }

  /**
   * Frees the weights of this layer and of all layers below it.
   *
   * @throws ValueError if it was disposed before, or not built yet.
   */
  override dispose(): ReturnType<tf.layers.Layer['dispose']> {
    if (!this.built) {
      throw new ValueError(
        `Cannot dispose Layer "${this.name}" because it has not been built yet. It has no weights to free.`,
      );
    }
    // tfjs counts only uses by `apply`, and refuses to dispose a layer that was built and called without it.
    if (this.built) this._refCount ??= 1;
    return super.dispose();
  }

  override getConfig(): tf.serialization.ConfigDict {
    const lora = [...descend(this.children)].flatMap((layer, index): LoraBelow[] =>
      isAdapted(layer) ? [{index, rank: layer.loraRank, alpha: layer.loraAlpha}] : [],
    );
    const config = {...super.getConfig(), trainable: super.trainable, dtype: this.dtypePolicy.name};
    return lora.length > 0 ? {...config, lora} : config;
  }

  /**
   * Creates a layer from its configuration, whose keys may be in snake case or camel case. Drops the table of custom
   * objects that tfjs adds to the configuration.
   *
   * @nocollapse
   */
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    {customObjects: _, lora, ...config}: tf.serialization.ConfigDict,
  ): T {
    const layer = new cls(camelKeys(config) as tf.serialization.ConfigDict);
    if (lora && layer instanceof Layer) layer.loraToRestore = lora as LoraBelow[];
    return layer;
  }
}

/** Registers a class of layers or models under its Keras name, so that `tf.loadLayersModel` can load it. */
export function registerLayer<T extends tf.serialization.Serializable>(
  cls: tf.serialization.SerializableConstructor<T>,
): void {
  tf.serialization.registerClass(cls, 'tfjs-gemma3');
}

/**
 * Registers a class with the name of one of tfjs' own layers. `tf.loadLayersModel` then creates this class where a
 * configuration holds a dtype policy as `serializeDtype` writes it, which {@link policyConfig} adds, and the tfjs layer
 * otherwise.
 */
export function registerBesideTfjs<T extends Layer>(cls: tf.serialization.SerializableConstructor<T>): void {
  const {classNameMap} = tf.serialization.SerializationMap.getMap();
  const [stock, create] = classNameMap[cls.className]!;
  const either: typeof create = (_, config) =>
    typeof config.dtype === 'object' && config.dtype !== null ? cls.fromConfig(cls, config) : create(stock, config);
  classNameMap[cls.className] = [stock, either];
}

/** The dtype of a layer whose class is registered by {@link registerBesideTfjs}, for its configuration. */
export const policyConfig = ({dtypePolicy}: Layer): tf.serialization.ConfigDict => ({
  dtype: serializeDtype(dtypePolicy),
});
