/** Gemma 3's vision encoder: SigLIP's transformer, pooling, and a projection to the width of the text model. */
import * as tf from '@tensorflow/tfjs';
import {loraConfig, type LoraEntry, restoreLora} from '../../adapters/model_lora';
import {camelKeys} from '../../base/casing';
import {checkArgument, checkArguments, checkObject} from '../../base/checks';
import {ValueError} from '../../base/errors';
import {
  type ArgumentTable,
  completeArguments,
  namesOf,
  type OwnArgs,
  pick,
  withAttributes,
} from '../../layers/arguments';
import {
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';
import {finish} from '../../generation/turns';
import {LayerNormalization} from '../../layers/layer_normalization';
import {type QuantizationMode, quantizeLayers} from '../../layers/quantize';
import {tapeIsOn} from '../../ops/op';
import {type Dtype, type DtypeLike, type DtypeName, parseDtype} from '../../weights/dtype';
import {uniqueModelName} from '../backbone';
import {FunctionalModel} from '../functional_model';
import {unpackConfig} from '../packed_config';
import {checkHeads, Gemma3VisionEmbedding, Gemma3VisionEncoderLayer, type VisionCallArgs} from './parts/vision_layers';
import {Gemma3VisionAveragePooling, Gemma3VisionOutput} from './parts/vision_output';

/** (B, images, S, S, 3) → B · images, if known. */
const imageCount = ([batch, images]: tf.Shape) => (batch == null || images == null ? null : batch * images);

export interface Gemma3VisionEncoderBlockArgs extends LayerArgs {
  /** Height and width of the squares of pixels that become one patch. */
  patchSize: number;
  /** Height and width of an image. */
  imageSize: number;
  /** Width of the hidden state. */
  hiddenDim: number;
  /** Number of transformer layers. */
  numLayers: number;
  /** Number of attention heads; divides `hiddenDim`. */
  numHeads: number;
  /** Width of the feed-forward networks. */
  intermediateDim: number;
  /** Epsilon of all norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
}

const BLOCK_ARGUMENTS = {
  patchSize: ['size'],
  imageSize: ['size'],
  hiddenDim: ['size'],
  numLayers: ['size'],
  numHeads: ['size'],
  intermediateDim: ['size'],
  layerNormEpsilon: ['positive', 1e-6],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionEncoderBlockArgs>>;

/**
 * The whole transformer, from pixels to normalized patches.
 *
 * (B, images, S, S, 3) → (B · images, patches, hiddenDim).
 */
export class Gemma3VisionEncoderBlock extends withAttributes<
  typeof Layer,
  Required<OwnArgs<Gemma3VisionEncoderBlockArgs>>
>(Layer, namesOf(BLOCK_ARGUMENTS)) {
  /** @nocollapse */
  static className = 'Gemma3VisionEncoderBlock';
  readonly encoderLayerNorm: LayerNormalization;
  readonly visionEmbeddings: Gemma3VisionEmbedding;
  readonly resblocks: Gemma3VisionEncoderLayer[];
  readonly config: Required<OwnArgs<Gemma3VisionEncoderBlockArgs>>;

  constructor(args: Gemma3VisionEncoderBlockArgs) {
    const owner = 'Gemma3VisionEncoderBlock';
    super(checkedArgs(owner, args, namesOf(BLOCK_ARGUMENTS)));
    this.config = completeArguments(owner, args, BLOCK_ARGUMENTS);
    const {patchSize, imageSize, hiddenDim, numLayers, numHeads, intermediateDim, layerNormEpsilon} = this.config;
    checkHeads(owner, hiddenDim, numHeads);
    const dtype = this.dtypePolicy.name;
    this.encoderLayerNorm = this.addSublayer(
      'encoder_layer_norm',
      new LayerNormalization({epsilon: layerNormEpsilon, dtype, name: 'encoder_layer_norm'}),
    );
    this.visionEmbeddings = this.addSublayer(
      'vision_embeddings',
      new Gemma3VisionEmbedding({hiddenDim, patchSize, imageSize, dtype, name: 'encoder_embeddings'}),
    );
    // KerasHub's layers always use 1e-6, but its documentation says that all norms use `layerNormEpsilon`.
    const blockArgs = {numHeads, intermediateDim, layerNormEpsilon, dtype};
    this.resblocks = this.addSublayer(
      'resblocks',
      Array.from(
        {length: numLayers},
        (_, i) => new Gemma3VisionEncoderLayer({...blockArgs, name: `encoder_block_${i}`}),
      ),
    );
  }

  override build(_inputShape?: ShapeOrShapes): void {
    this.visionEmbeddings.build();
    for (const layer of [...this.resblocks, this.encoderLayerNorm]) layer.build([null, null, this.config.hiddenDim]);
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: VisionCallArgs = {}): tf.Tensor {
    return tf.tidy(() => finish(this.steps(inputs, kwargs)));
  }

  /** `call` in steps, one for each layer. The caller owns the result. */
  *steps(inputs: TensorOrTensors, kwargs: VisionCallArgs = {}): Generator<void, tf.Tensor> {
    const images = firstTensor(inputs);
    const {imageSize: size, hiddenDim} = this.config;
    if (images.rank !== 5 || !tf.util.arraysEqual(images.shape.slice(2), [size, size, 3])) {
      throw new ValueError(
        `Gemma3VisionEncoderBlock "${this.name}" expected images (batch, images, ${size}, ${size}, 3). ` +
          `Received: [${images.shape}]. Resize them with the image converter of the preset.`,
      );
    }
    const count = imageCount(images.shape)!;
    if (count === 0) return tf.zeros([0, this.visionEmbeddings.numPatches, hiddenDim]);
    let x = tf.tidy(() => this.visionEmbeddings.call(tf.reshape(images, [count, size, size, 3])));
    // Otherwise the outputs of 27 layers, 19 MB each per image, would stay until the end of a tidy. With a tape,
    // gradients need all of them.
    const done = (y: tf.Tensor) => void (tapeIsOn() || y.dispose());
    try {
      for (const layer of this.resblocks) {
        yield;
        const input = x;
        const y = tf.tidy(() => layer.call(input, kwargs));
        done(x);
        x = y;
      }
      yield;
      return tf.tidy(() => this.encoderLayerNorm.call(x));
    } finally {
      done(x);
    }
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [imageCount(firstShape(inputShape)), this.visionEmbeddings.numPatches, this.config.hiddenDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionEncoderBlock);

/** Arguments of {@link Gemma3VisionEncoder}. */
export interface Gemma3VisionEncoderArgs {
  /** Height and width of an image. */
  imageSize: number;
  /** Height and width of the squares of pixels that become one patch. */
  patchSize: number;
  /** Number of attention heads; divides `hiddenDim`. */
  numHeads: number;
  /** Width of the hidden state. */
  hiddenDim: number;
  /** Number of transformer layers. */
  numLayers: number;
  /** Width of the feed-forward networks. */
  intermediateDim: number;
  /** Width of the result: the `hiddenDim` of the text model. */
  outputDim: number;
  /** Height and width of the squares of patches that become one token. Defaults to 14. */
  poolSize?: number;
  /** Epsilon of all norms. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** How the weights are stored: see {@link DtypeLike}. "bfloat16" means "float32" here, as in KerasHub. */
  dtype?: DtypeLike | null;
  /** Name of the model. Defaults to "gemma3_vision_encoder", with a number appended from the second one on. */
  name?: string;
  /** Whether the weights are trained. Defaults to true. */
  trainable?: boolean;
}

/** In the order of `config.json`. */
export const ENCODER_ARGUMENTS = {
  imageSize: ['size'],
  patchSize: ['size'],
  numHeads: ['size'],
  hiddenDim: ['size'],
  numLayers: ['size'],
  intermediateDim: ['size'],
  outputDim: ['size'],
  poolSize: ['size', 14],
  layerNormEpsilon: ['positive', 1e-6],
} satisfies ArgumentTable<Omit<Gemma3VisionEncoderArgs, 'dtype' | 'name' | 'trainable'>>;

/** All arguments with their defaults. */
type EncoderConfig = Required<Omit<Gemma3VisionEncoderArgs, 'dtype' | 'name' | 'trainable'>>;

const OWNER = 'Gemma3VisionEncoder';

/** The three layers of the encoder, built but not connected. */
function makeLayers(config: EncoderConfig, dtype: DtypeName, model: string) {
  const {imageSize, patchSize, poolSize, outputDim, layerNormEpsilon} = config;
  const kernelInitializer = tf.initializers.randomNormal({mean: 0, stddev: 0.01});
  const layers = [
    new Gemma3VisionEncoderBlock({...pick(config, namesOf(BLOCK_ARGUMENTS)), dtype, name: 'image_encoder'}),
    new Gemma3VisionAveragePooling({imageSize, patchSize, poolSize, dtype, name: 'pooling'}),
    new Gemma3VisionOutput({
      outputDim,
      layerNormEpsilon,
      kernelInitializer,
      dtype,
      name: 'vision_output_encoder',
    }),
  ] as const;
  let shape: tf.Shape = [null, null, imageSize, imageSize, 3];
  for (const layer of layers) {
    layer.placeIn({path: model});
    layer.build(shape);
    shape = layer.computeOutputShape(shape);
  }
  return layers;
}

/**
 * Gemma 3's vision encoder, as `keras_hub.models.Gemma3VisionEncoder`: a model, built when it is constructed, and a
 * layer of the backbone.
 *
 * Input `images`: float32 (B, images, imageSize, imageSize, 3), pixels in [-1, 1] → (B · images,
 * numVisionTokensPerImage, outputDim). Inputs without images, (B, 0, …), are allowed. As in KerasHub, weights are
 * float32 if `dtype` is "bfloat16". To store them as bfloat16, pass the policy as an object:
 * `{config: {name: 'bfloat16'}}`.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments, and on images of another size.
 */
export class Gemma3VisionEncoder extends withAttributes<typeof FunctionalModel, EncoderConfig>(
  FunctionalModel,
  namesOf(ENCODER_ARGUMENTS),
) {
  /** @nocollapse */
  static override className = OWNER;
  /** Number of embeddings per image. */
  readonly numVisionTokensPerImage: number;
  readonly config: EncoderConfig;
  /** Set by the constructor, and by `quantize`. */
  dtypePolicy: Dtype;
  private readonly stages: ReturnType<typeof makeLayers>;

  constructor(args: Gemma3VisionEncoderArgs) {
    checkArguments(OWNER, args, [...namesOf(ENCODER_ARGUMENTS), 'dtype', 'name', 'trainable']);
    const {dtype, name = uniqueModelName('gemma3_vision_encoder'), trainable = true} = args;
    checkArgument(OWNER, 'name', name, 'text');
    checkArgument(OWNER, 'trainable', trainable, 'flag');
    const policy = parseDtype(dtype === 'bfloat16' ? 'float32' : dtype);
    const config = completeArguments(OWNER, args, ENCODER_ARGUMENTS);
    const {imageSize} = config;
    const stages = makeLayers(config, policy.name, name);
    const images = tf.input({shape: [null, imageSize, imageSize, 3], dtype: 'float32', name: 'images'});
    const outputs = stages.reduce((x, layer) => layer.apply(x) as tf.SymbolicTensor, images);
    super({inputs: images, outputs, name});
    this.config = config;
    this.dtypePolicy = policy;
    this.stages = stages;
    // KerasHub divides the number of patches by the size of a square, and so also counts patches outside whole squares.
    this.numVisionTokensPerImage = stages[1].reducedWidth ** 2;
    if (!trainable) this.trainable = false;
  }

  override call(inputs: TensorOrTensors, kwargs: Kwargs = {}): tf.Tensor {
    // tfjs' own method disposes the results between layers, even if gradients need them.
    const [block, pooling, output] = this.stages;
    return tf.tidy(() => output.call(pooling.call(block.call(inputs, kwargs))));
  }

  /** `call` in steps, one for each layer, between which other code may run. The caller owns the result. */
  *steps(inputs: TensorOrTensors): Generator<void, tf.Tensor> {
    const [block, pooling, output] = this.stages;
    const patches = yield* block.steps(inputs);
    try {
      return tf.tidy(() => output.call(pooling.call(patches)));
    } finally {
      patches.dispose();
    }
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [imageCount(firstShape(inputShape)), this.numVisionTokensPerImage, this.config.outputDim];
  }

  /**
   * Packs all kernels of the encoder: see {@link Backbone.quantize}, which leaves the encoder as it is.
   *
   * @throws as {@link Backbone.quantize}.
   */
  async quantize(mode: QuantizationMode): Promise<void> {
    await quantizeLayers(`${OWNER} "${this.name}"`, this.stages, mode);
    this.dtypePolicy = parseDtype(mode);
  }

  /**
   * Releases one reference to the encoder; the weights are freed with the last one. A model that contains the encoder
   * releases two: its own and the one from the constructor. Disposing an encoder without references does nothing.
   */
  override dispose(): ReturnType<tf.LayersModel['dispose']> {
    if (this._refCount === 0) return {refCountAfterDispose: 0, numDisposedVariables: 0};
    return super.dispose();
  }

  override getConfig(): tf.serialization.ConfigDict {
    const {name, format} = this.dtypePolicy;
    // A plain "bfloat16" would be read as float32.
    const dtype = format === 'bfloat16' ? {config: {name}} : name;
    const config = {name: this.name, trainable: this.trainable, dtype, ...this.config};
    const lora = loraConfig(this);
    return lora ? {...config, lora: lora.map(entry => ({...entry}))} : config;
  }

  /**
   * Creates an encoder from a result of `getConfig` or a configuration of Keras. Its weights have no values yet.
   *
   * @throws ValueError as the constructor does.
   */
  static override fromConfig(config: object): Gemma3VisionEncoder;
  static override fromConfig<T extends tf.serialization.Serializable>(
    cls: tf.serialization.SerializableConstructor<T>,
    config: tf.serialization.ConfigDict,
  ): T;
  static override fromConfig(first: unknown, second?: unknown): unknown {
    // When tfjs loads a model, it passes the class as the first argument.
    const saved = (typeof first === 'function' ? second : first) as object;
    checkObject(OWNER, saved);
    const {customObjects: _, lora, ...config} = unpackConfig(saved);
    const encoder = new Gemma3VisionEncoder(camelKeys(config) as unknown as Gemma3VisionEncoderArgs);
    if (lora) restoreLora(encoder, lora as LoraEntry[]);
    return encoder;
  }
}
registerLayer(Gemma3VisionEncoder);
