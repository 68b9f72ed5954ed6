/** Gemma 3's vision encoder: SigLIP's transformer, pooling, and a projection to the width of the text model. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {type ArgumentTable, completeArguments, namesOf, type OwnArgs, pick} from '../../layers/arguments';
import {Dense} from '../../layers/dense';
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
import {LayerNormalization} from '../../layers/layer_normalization';
import {RMSNormalization} from '../../layers/rms_normalization';
import {tapeIsOn} from '../../ops/op';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../../weights/initializers';
import {checkHeads, Gemma3VisionEmbedding, Gemma3VisionEncoderLayer, gridSize} from './parts/vision_layers';

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
export class Gemma3VisionEncoderBlock extends Layer {
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

  override call(inputs: TensorOrTensors, kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
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
      let x = this.visionEmbeddings.call(tf.reshape(images, [count, size, size, 3]));
      for (const layer of this.resblocks) {
        const y = layer.call(x, kwargs);
        // Otherwise the outputs of 27 layers, 19 MB each per image, would stay until the end of the tidy. With a tape,
        // gradients need all of them.
        if (!tapeIsOn()) x.dispose();
        x = y;
      }
      return this.encoderLayerNorm.call(x);
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [imageCount(firstShape(inputShape)), this.visionEmbeddings.numPatches, this.config.hiddenDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionEncoderBlock);

export interface Gemma3VisionAveragePoolingArgs extends LayerArgs {
  /** Height and width of an image. */
  imageSize: number;
  /** Height and width of the squares of pixels that become one patch. */
  patchSize: number;
  /** Height and width of the squares of patches that become one token. */
  poolSize: number;
}

const POOLING_ARGUMENTS = {
  imageSize: ['size'],
  patchSize: ['size'],
  poolSize: ['size'],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionAveragePoolingArgs>>;

/**
 * Means over squares of adjacent patches. (B, grid², D) → (B, (grid // poolSize)², D) with grid = imageSize //
 * patchSize; patches after the last whole square are ignored.
 */
export class Gemma3VisionAveragePooling extends Layer {
  /** @nocollapse */
  static className = 'Gemma3VisionAveragePooling';
  /** Patches along a side of an image. */
  readonly width: number;
  /** Tokens along a side of an image. */
  readonly reducedWidth: number;
  readonly config: Required<OwnArgs<Gemma3VisionAveragePoolingArgs>>;

  constructor(args: Gemma3VisionAveragePoolingArgs) {
    const owner = 'Gemma3VisionAveragePooling';
    super(checkedArgs(owner, args, namesOf(POOLING_ARGUMENTS)));
    this.config = completeArguments(owner, args, POOLING_ARGUMENTS);
    const {imageSize, patchSize, poolSize} = this.config;
    this.width = gridSize(owner, imageSize, patchSize);
    this.reducedWidth = Math.floor(this.width / poolSize);
    if (this.reducedWidth === 0) {
      throw new ValueError(
        `${owner} expected poolSize to be at most the ${this.width} patches along a side of an image. ` +
          `Received: poolSize=${poolSize}, imageSize=${imageSize}, patchSize=${patchSize}.`,
      );
    }
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const [batch, , width] = x.shape as [number, number, number];
      const shape = [batch, this.reducedWidth ** 2, width];
      if (x.size === 0) return tf.zeros(shape);
      const {poolSize} = this.config;
      const grid = tf.reshape(x, [batch, this.width, this.width, width]) as tf.Tensor4D;
      return tf.reshape(tf.avgPool(grid, poolSize, poolSize, 'valid'), shape);
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const shape = firstShape(inputShape);
    return [shape[0] ?? null, this.reducedWidth ** 2, shape.at(-1) ?? null];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...this.config};
  }
}
registerLayer(Gemma3VisionAveragePooling);

export interface Gemma3VisionOutputArgs extends LayerArgs {
  /** Width of the result: the `hiddenDim` of the text model. */
  outputDim: number;
  /** Epsilon of the norm. Defaults to 1e-6. */
  layerNormEpsilon?: number;
  /** Initializer of the projection. Defaults to "glorot_uniform". */
  kernelInitializer?: InitializerLike;
}

const OUTPUT_ARGUMENTS = {
  outputDim: ['size'],
  layerNormEpsilon: ['positive', 1e-6],
} satisfies ArgumentTable<OwnArgs<Omit<Gemma3VisionOutputArgs, 'kernelInitializer'>>>;

/** Normalizes and projects patches into the space of text embeddings. (B, T, D) → (B, T, outputDim). */
export class Gemma3VisionOutput extends Layer {
  /** @nocollapse */
  static className = 'Gemma3VisionOutput';
  readonly config: Required<OwnArgs<Omit<Gemma3VisionOutputArgs, 'kernelInitializer'>>>;
  visionSoftEmbeddingNorm!: RMSNormalization;
  visionInputProjection!: Dense;
  private readonly kernelInitializer: Initializer;

  constructor(args: Gemma3VisionOutputArgs) {
    super(checkedArgs('Gemma3VisionOutput', args, [...namesOf(OUTPUT_ARGUMENTS), 'kernelInitializer']));
    this.config = completeArguments('Gemma3VisionOutput', args, OUTPUT_ARGUMENTS);
    this.kernelInitializer = getInitializer(args.kernelInitializer ?? 'glorot_uniform');
  }

  override build(inputShape: ShapeOrShapes): void {
    const {layerNormEpsilon: epsilon, outputDim: units} = this.config;
    const {kernelInitializer} = this;
    const dtype = this.dtypePolicy.name;
    this.visionSoftEmbeddingNorm = this.addSublayer(
      'vision_soft_embedding_norm',
      new RMSNormalization({epsilon, dtype, name: 'vision_soft_embedding_norm'}),
    );
    this.visionInputProjection = this.addSublayer(
      'vision_input_projection',
      new Dense({units, useBias: false, kernelInitializer, dtype, name: 'vision_input_projection'}),
    );
    for (const layer of this.children) layer.build(inputShape);
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      if (x.size === 0) return tf.zeros([...x.shape.slice(0, -1), this.config.outputDim]);
      return this.visionInputProjection.call(this.visionSoftEmbeddingNorm.call(x));
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape).slice(0, -1), this.config.outputDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      ...this.config,
      kernelInitializer: serializeInitializer(this.kernelInitializer),
    };
  }
}
registerLayer(Gemma3VisionOutput);

/** Arguments of {@link Gemma3VisionEncoder}. */
export interface Gemma3VisionEncoderArgs extends LayerArgs {
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
}

/** In the order of `config.json`. */
const ENCODER_ARGUMENTS = {
  imageSize: ['size'],
  patchSize: ['size'],
  numHeads: ['size'],
  hiddenDim: ['size'],
  numLayers: ['size'],
  intermediateDim: ['size'],
  outputDim: ['size'],
  poolSize: ['size', 14],
  layerNormEpsilon: ['positive', 1e-6],
} satisfies ArgumentTable<OwnArgs<Gemma3VisionEncoderArgs>>;

/**
 * Gemma 3's vision encoder, as `keras_hub.models.Gemma3VisionEncoder`. KerasHub's is a model; this is a layer, but its
 * weights have the same paths in files.
 *
 * Images float32 (B, images, imageSize, imageSize, 3), pixels in [-1, 1] → (B · images, numVisionTokensPerImage,
 * outputDim). Inputs without images, (B, 0, …), are allowed. As in KerasHub, weights are float32 if `dtype` is
 * "bfloat16". To store them as bfloat16, pass the policy as an object: `{config: {name: 'bfloat16'}}`.
 *
 * @throws ValueError on unknown, missing, unusable or contradictory arguments, and on images of another size.
 */
export class Gemma3VisionEncoder extends Layer {
  /** @nocollapse */
  static className = 'Gemma3VisionEncoder';
  readonly layers: readonly [Gemma3VisionEncoderBlock, Gemma3VisionAveragePooling, Gemma3VisionOutput];
  /** Number of embeddings per image. */
  readonly numVisionTokensPerImage: number;
  readonly config: Required<OwnArgs<Gemma3VisionEncoderArgs>>;

  constructor(args: Gemma3VisionEncoderArgs) {
    const checked = checkedArgs('Gemma3VisionEncoder', args, namesOf(ENCODER_ARGUMENTS));
    super({...checked, dtype: args.dtype === 'bfloat16' ? 'float32' : args.dtype});
    this.config = completeArguments('Gemma3VisionEncoder', args, ENCODER_ARGUMENTS);
    const {outputDim, layerNormEpsilon} = this.config;
    const dtype = this.dtypePolicy.name;
    const kernelInitializer = tf.initializers.randomNormal({mean: 0, stddev: 0.01});
    const block = new Gemma3VisionEncoderBlock({
      ...pick(this.config, namesOf(BLOCK_ARGUMENTS)),
      dtype,
      name: 'image_encoder',
    });
    const pooling = new Gemma3VisionAveragePooling({
      ...pick(this.config, namesOf(POOLING_ARGUMENTS)),
      dtype,
      name: 'pooling',
    });
    const output = new Gemma3VisionOutput({
      outputDim,
      layerNormEpsilon,
      kernelInitializer,
      dtype,
      name: 'vision_output_encoder',
    });
    this.layers = [block, pooling, output];
    this.addSublayer('layers', [...this.layers]);
    // KerasHub divides the number of patches by the size of a square, and so also counts patches that no whole square
    // contains.
    this.numVisionTokensPerImage = pooling.reducedWidth ** 2;
  }

  override build(inputShape: ShapeOrShapes): void {
    let shape = inputShape;
    for (const layer of this.layers) {
      layer.build(shape);
      shape = layer.computeOutputShape(shape);
    }
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: Kwargs = {}): tf.Tensor {
    const [block, pooling, output] = this.layers;
    return tf.tidy(() => output.call(pooling.call(block.call(inputs, kwargs))));
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [imageCount(firstShape(inputShape)), this.numVisionTokensPerImage, this.config.outputDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    const {name, format} = this.dtypePolicy;
    // A plain "bfloat16" would be read as float32.
    return {...super.getConfig(), ...this.config, dtype: format === 'bfloat16' ? {config: {name}} : name};
  }
}
registerLayer(Gemma3VisionEncoder);
