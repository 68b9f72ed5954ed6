import type * as tf from '@tensorflow/tfjs';
import {embedding} from '../ops/embedding';
import {PackedWeight} from '../weights/packed_weight';
import {checkPositiveInteger} from './checks';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from './initializers';
import {
  type AnyWeight,
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';

export interface EmbeddingArgs extends LayerArgs {
  /** Number of rows. */
  inputDim: number;
  /** Width of a row. */
  outputDim: number;
  embeddingsInitializer?: InitializerLike;
}

/** Rows are outputs at rest, so that a few can be unpacked without the others. */
const LAYOUT = {out: [0], in: [1]};

/**
 * A table of embeddings, as `keras.layers.Embedding` (https://keras.io/api/layers/core_layers/embedding/).
 *
 * Ids (…) → (…, outputDim).
 *
 * Not registered for `tf.loadLayersModel`: tfjs has a layer of this name, which would be gone for everyone.
 */
export class Embedding extends Layer {
  /** @nocollapse */
  static className = 'Embedding';
  readonly inputDim: number;
  readonly outputDim: number;
  embeddings!: AnyWeight;
  private readonly embeddingsInitializer: Initializer;

  constructor(args: EmbeddingArgs) {
    super(checkedArgs('Embedding', args, ['inputDim', 'outputDim', 'embeddingsInitializer']));
    checkPositiveInteger('Embedding', 'inputDim', args.inputDim);
    checkPositiveInteger('Embedding', 'outputDim', args.outputDim);
    this.inputDim = args.inputDim;
    this.outputDim = args.outputDim;
    this.embeddingsInitializer = getInitializer(args.embeddingsInitializer ?? 'uniform');
  }

  override build(_inputShape?: ShapeOrShapes): void {
    const shape = [this.inputDim, this.outputDim];
    this.embeddings = this.addKernel('embeddings', shape, LAYOUT, this.embeddingsInitializer);
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    const table = this.embeddings;
    return embedding(firstTensor(inputs), table instanceof PackedWeight ? table : table.read());
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape), this.outputDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      inputDim: this.inputDim,
      outputDim: this.outputDim,
      embeddingsInitializer: serializeInitializer(this.embeddingsInitializer),
    };
  }
}
