/** What follows the vision encoder's transformer: pooling, and the projection to the width of the text model. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../../base/errors';
import {type ArgumentTable, completeArguments, namesOf, type OwnArgs, withAttributes} from '../../../layers/arguments';
import {Dense} from '../../../layers/dense';
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
} from '../../../layers/layer';
import {RMSNormalization} from '../../../layers/rms_normalization';
import {
  getInitializer,
  type Initializer,
  type InitializerLike,
  serializeInitializer,
} from '../../../weights/initializers';
import {gridSize} from './vision_layers';

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
export class Gemma3VisionAveragePooling extends withAttributes<
  typeof Layer,
  Required<OwnArgs<Gemma3VisionAveragePoolingArgs>>
>(Layer, namesOf(POOLING_ARGUMENTS)) {
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
export class Gemma3VisionOutput extends withAttributes<
  typeof Layer,
  Required<OwnArgs<Omit<Gemma3VisionOutputArgs, 'kernelInitializer'>>>
>(Layer, namesOf(OUTPUT_ARGUMENTS)) {
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
