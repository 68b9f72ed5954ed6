/** Keras' `ReversibleEmbedding` layer: token embedding and projection to the vocabulary. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {ValueError} from '../base/errors';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {softCap} from '../ops/soft_cap';
import {serializeInitializer} from '../weights/initializers';
import {type AnyWeight, operandOf} from '../weights/packed_weight';
import {Embedding, type EmbeddingArgs} from './embedding';
import {checkedArgs, firstTensor, type Kwargs, registerLayer, type TensorOrTensors} from './layer';
import {LORA_ARGUMENTS, loraProduct} from './lora';

export interface ReversibleEmbeddingArgs extends EmbeddingArgs {
  /** Whether embedding and reverse projection share one matrix. Defaults to true. */
  tieWeights?: boolean;
  /** Used with `reverse`: `tanh(logits / cap) · cap`. Null, the default, for no cap. */
  logitSoftCap?: number | null;
}

const KNOWN = [
  'inputDim',
  'outputDim',
  'tieWeights',
  'embeddingsInitializer',
  'logitSoftCap',
  ...LORA_ARGUMENTS,
] as const;

const ROWS = planEinsum('md,vd->mv', 2);
const COLUMNS = planEinsum('md,dv->mv', 2);

/**
 * An embedding that also projects back to the vocabulary, like `keras.layers.ReversibleEmbedding`
 * (https://keras.io/keras_hub/api/modeling_layers/reversible_embedding/). Weights are tied as in Press and Wolf,
 * https://arxiv.org/abs/1608.05859.
 *
 * Token ids (…) → (…, outputDim); with `{reverse: true}` hidden states (…, outputDim) → logits (…, inputDim).
 *
 * @throws ValueError on unknown or invalid arguments, and on hidden states of the wrong width.
 */
export class ReversibleEmbedding extends Embedding {
  /** @nocollapse */
  static override className = 'ReversibleEmbedding';
  readonly tieWeights: boolean;
  readonly logitSoftCap: number | null;
  reverseEmbeddings?: AnyWeight;

  constructor(args: ReversibleEmbeddingArgs) {
    const {tieWeights, logitSoftCap, ...rest} = checkedArgs('ReversibleEmbedding', args, KNOWN);
    super(rest);
    this.tieWeights = tieWeights ?? true;
    this.logitSoftCap = logitSoftCap ?? null;
    checkArgument('ReversibleEmbedding', 'tieWeights', this.tieWeights, 'flag');
    checkArgument('ReversibleEmbedding', 'logitSoftCap', this.logitSoftCap, 'positiveOrNull');
  }

  protected override addTables(): void {
    super.addTables();
    if (this.tieWeights) return;
    const shape = [this.outputDim, this.inputDim];
    this.reverseEmbeddings = this.addKernel('reverse_embeddings', shape, COLUMNS.layout, this.embeddingsInitializer);
  }

  override call(inputs: TensorOrTensors, kwargs: Kwargs = {}): tf.Tensor {
    return kwargs.reverse ? this.project(firstTensor(inputs)) : super.call(inputs, kwargs);
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
        ? denseEinsum(flat, operandOf(this.reverseEmbeddings), COLUMNS)
        : this.projectByRows(flat);
      return tf.reshape(softCap(logits, this.logitSoftCap), [...x.shape.slice(0, -1), this.inputDim]);
    });
  }

  private projectByRows(flat: tf.Tensor): tf.Tensor {
    const logits = denseEinsum(flat, operandOf(this.embeddings), ROWS);
    return this.lora ? tf.add(logits, loraProduct(flat, this.lora, this.loraScale, ROWS.equation)) : logits;
  }

  override getConfig(): tf.serialization.ConfigDict {
    // In Keras' order, which saved files keep.
    const {embeddingsInitializer: _, ...config} = super.getConfig();
    return {
      ...config,
      tieWeights: this.tieWeights,
      embeddingsInitializer: serializeInitializer(this.embeddingsInitializer),
      logitSoftCap: this.logitSoftCap,
    };
  }
}
registerLayer(ReversibleEmbedding);
