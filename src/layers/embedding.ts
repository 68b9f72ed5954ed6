/** Keras' `Embedding` layer, with optional LoRA. */
import * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../base/checks';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {embedding} from '../ops/embedding';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../weights/initializers';
import {type AnyWeight, operandOf} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  policyConfig,
  registerBesideTfjs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';
import {LORA_ARGUMENTS, type LoraArgs, LoraLayer} from './lora';

export interface EmbeddingArgs extends LoraArgs {
  /** Number of rows: the size of a vocabulary. */
  inputDim: number;
  /** Width of a row. */
  outputDim: number;
  /** Defaults to "uniform". */
  embeddingsInitializer?: InitializerLike;
}

const KNOWN = ['inputDim', 'outputDim', 'embeddingsInitializer', ...LORA_ARGUMENTS] as const;

/** The rows of the table are the rows of the stored matrix, so that a few rows can be unpacked without the others. */
const LAYOUT = {out: [0], in: [1]};

/**
 * A table of embeddings, like `keras.layers.Embedding` (https://keras.io/api/layers/core_layers/embedding/).
 *
 * Ids (…) → (…, outputDim).
 *
 * @throws ValueError on unknown or invalid arguments.
 *
 * tfjs has a layer of the same name, which it keeps for other models.
 */
export class Embedding extends LoraLayer {
  /** @nocollapse */
  static className = 'Embedding';
  readonly inputDim: number;
  readonly outputDim: number;
  embeddings!: AnyWeight;
  readonly loraName = 'embeddings';
  protected readonly embeddingsInitializer: Initializer;

  constructor(args: EmbeddingArgs) {
    super(checkedArgs('Embedding', args, KNOWN));
    const owner = this.getClassName();
    checkPositiveInteger(owner, 'inputDim', args.inputDim);
    checkPositiveInteger(owner, 'outputDim', args.outputDim);
    this.inputDim = args.inputDim;
    this.outputDim = args.outputDim;
    this.embeddingsInitializer = getInitializer(args.embeddingsInitializer ?? 'uniform');
  }

  override build(_inputShape?: ShapeOrShapes): void {
    this.addTables();
    this.finishBuild();
  }

  protected addTables(): void {
    const shape = [this.inputDim, this.outputDim];
    this.embeddings = this.addKernel('embeddings', shape, LAYOUT, this.embeddingsInitializer);
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
    return tf.tidy(() => {
      const ids = firstTensor(inputs);
      const rows = embedding(ids, operandOf(this.embeddings));
      if (!this.lora) return rows;
      const scaled = tf.mul(embedding(ids, this.lora.a.read()), this.loraScale);
      return tf.add(rows, denseEinsum(scaled, this.lora.b.read(), planEinsum('...r,rd->...d', ids.rank + 1)));
    });
  }

  /** The whole table with LoRA added, (inputDim, outputDim). The caller, or its `tf.tidy`, disposes the tensor. */
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
      ...policyConfig(this),
      inputDim: this.inputDim,
      outputDim: this.outputDim,
      embeddingsInitializer: serializeInitializer(this.embeddingsInitializer),
    };
  }
}
registerBesideTfjs(Embedding);
