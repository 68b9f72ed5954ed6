import * as tf from '@tensorflow/tfjs';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {embedding} from '../ops/embedding';
import {PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {checkPositiveInteger} from '../base/checks';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../weights/initializers';
import {
  type AnyWeight,
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';
import {LORA_ARGUMENTS, type Lora, type LoraArgs, LoraLayer} from './lora';

export interface EmbeddingArgs extends LoraArgs {
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
export class Embedding extends LoraLayer {
  /** @nocollapse */
  static className = 'Embedding';
  readonly inputDim: number;
  readonly outputDim: number;
  embeddings!: AnyWeight;
  readonly loraName = 'embeddings';
  private readonly embeddingsInitializer: Initializer;

  constructor(args: EmbeddingArgs) {
    super(checkedArgs('Embedding', args, ['inputDim', 'outputDim', 'embeddingsInitializer', ...LORA_ARGUMENTS]));
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
    this.enableGivenLora();
  }

  get adapted(): AnyWeight {
    return this.embeddings;
  }
  /** (inputDim, rank), while LoRA is on. */
  get loraEmbeddingsA(): Weight | undefined {
    return this.lora?.a;
  }
  /** (rank, outputDim), while LoRA is on. */
  get loraEmbeddingsB(): Weight | undefined {
    return this.lora?.b;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return lookUp(firstTensor(inputs), this.embeddings, this.lora, this.loraScale);
  }

  /** All rows in their order, (inputDim, outputDim): a tensor that the caller, or its tidy, disposes. */
  table(): tf.Tensor {
    return tf.tidy(() => {
      const rows = this.embeddings.read();
      if (!this.lora) return tf.clone(rows);
      return tf.add(rows, tf.matMul(tf.mul(this.lora.a.read(), this.loraScale), this.lora.b.read()));
    });
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

/** Rows of a table, with what LoRA adds to them. */
export function lookUp(ids: tf.Tensor, table: AnyWeight, lora: Lora | undefined, scale: number): tf.Tensor {
  return tf.tidy(() => {
    const rows = embedding(ids, table instanceof PackedWeight ? table : table.read());
    if (!lora) return rows;
    return tf.add(
      rows,
      denseEinsum(
        tf.mul(embedding(ids, lora.a.read()), scale),
        lora.b.read(),
        planEinsum('...r,rd->...d', ids.rank + 1),
      ),
    );
  });
}
