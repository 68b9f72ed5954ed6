import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {softCap} from '../ops/soft_cap';
import {PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {checkArgument, checkPositiveInteger} from '../base/checks';
import {lookUp} from './embedding';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../weights/initializers';
import {
  type AnyWeight,
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';
import {LORA_ARGUMENTS, type LoraArgs, LoraLayer, loraProduct} from './lora';

export interface ReversibleEmbeddingArgs extends LoraArgs {
  /** Size of the vocabulary. */
  inputDim: number;
  /** Width of an embedding. */
  outputDim: number;
  /** Whether embedding and reverse projection share one matrix. Defaults to true. */
  tieWeights?: boolean;
  /** Defaults to "uniform". */
  embeddingsInitializer?: InitializerLike;
  /** With `reverse`: `tanh(logits / cap) · cap`. Null, the default: no cap. */
  logitSoftCap?: number | null;
}

const ROWS = planEinsum('md,vd->mv', 2);
const COLUMNS = planEinsum('md,dv->mv', 2);

/**
 * An embedding that also projects back to the vocabulary, as `keras.layers.ReversibleEmbedding`
 * (https://keras.io/keras_hub/api/modeling_layers/reversible_embedding/). Weights are tied as in Press and Wolf,
 * https://arxiv.org/abs/1608.05859.
 *
 * Token ids (…) → (…, outputDim); with `{reverse: true}` hidden states (…, outputDim) → logits (…, inputDim).
 *
 * @throws ValueError on unknown or unusable arguments, and on hidden states of another width.
 */
export class ReversibleEmbedding extends LoraLayer {
  /** @nocollapse */
  static className = 'ReversibleEmbedding';
  readonly inputDim: number;
  readonly outputDim: number;
  readonly tieWeights: boolean;
  readonly logitSoftCap: number | null;
  embeddings!: AnyWeight;
  reverseEmbeddings?: AnyWeight;
  readonly loraName = 'embeddings';
  private readonly embeddingsInitializer: Initializer;

  constructor(args: ReversibleEmbeddingArgs) {
    const own = ['inputDim', 'outputDim', 'tieWeights', 'embeddingsInitializer', 'logitSoftCap'] as const;
    super(checkedArgs('ReversibleEmbedding', args, [...own, ...LORA_ARGUMENTS]));
    checkPositiveInteger('ReversibleEmbedding', 'inputDim', args.inputDim);
    checkPositiveInteger('ReversibleEmbedding', 'outputDim', args.outputDim);
    this.inputDim = args.inputDim;
    this.outputDim = args.outputDim;
    this.tieWeights = args.tieWeights ?? true;
    this.logitSoftCap = args.logitSoftCap ?? null;
    checkArgument('ReversibleEmbedding', 'tieWeights', this.tieWeights, 'flag');
    checkArgument('ReversibleEmbedding', 'logitSoftCap', this.logitSoftCap, 'positiveOrNull');
    this.embeddingsInitializer = getInitializer(args.embeddingsInitializer ?? 'uniform');
  }

  override build(_inputShape?: ShapeOrShapes): void {
    const {inputDim, outputDim, embeddingsInitializer: initializer} = this;
    this.embeddings = this.addKernel('embeddings', [inputDim, outputDim], ROWS.layout, initializer);
    if (!this.tieWeights) {
      const shape = [outputDim, inputDim];
      this.reverseEmbeddings = this.addKernel('reverse_embeddings', shape, COLUMNS.layout, initializer);
    }
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

  override call(inputs: TensorOrTensors, kwargs: Kwargs = {}): tf.Tensor {
    const x = firstTensor(inputs);
    return kwargs.reverse ? this.project(x) : lookUp(x, this.embeddings, this.lora, this.loraScale);
  }

  private project(x: tf.Tensor): tf.Tensor {
    return tf.tidy(() => {
      if (x.shape.at(-1) !== this.outputDim) {
        throw new ValueError(
          `ReversibleEmbedding "${this.name}" expected hidden states (…, ${this.outputDim}). Received: [${x.shape}].`,
        );
      }
      const flat = tf.reshape(x, [-1, this.outputDim]);
      const logits = this.reverseEmbeddings
        ? denseEinsum(flat, valueOf(this.reverseEmbeddings), COLUMNS)
        : this.projectByRows(flat);
      return tf.reshape(softCap(logits, this.logitSoftCap), [...x.shape.slice(0, -1), this.inputDim]);
    });
  }

  private projectByRows(flat: tf.Tensor): tf.Tensor {
    const logits = denseEinsum(flat, valueOf(this.embeddings), ROWS);
    return this.lora ? tf.add(logits, loraProduct(flat, this.lora, this.loraScale, ROWS.equation)) : logits;
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape), this.outputDim];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      inputDim: this.inputDim,
      outputDim: this.outputDim,
      tieWeights: this.tieWeights,
      embeddingsInitializer: serializeInitializer(this.embeddingsInitializer),
      logitSoftCap: this.logitSoftCap,
    };
  }
}
registerLayer(ReversibleEmbedding);

const valueOf = (weight: AnyWeight) => (weight instanceof PackedWeight ? weight : weight.read());
