/** Gemma 3's small layers: image embeddings in a text, and pooling into one vector per text. */
import * as tf from '@tensorflow/tfjs';
import {checkPositiveInteger} from '../../base/checks';
import {ValueError} from '../../base/errors';
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
import {interleave} from '../../ops/interleave';

/** Arguments of {@link Gemma3InterleaveEmbeddings}. */
export interface Gemma3InterleaveEmbeddingsArgs extends LayerArgs {
  /** Number of embeddings that the vision encoder computes per image. */
  numVisionTokensPerImage: number;
}

/**
 * Puts the embeddings of images at their placeholders in the text, as KerasHub's layer of this name.
 *
 * Called with [imageEmbeddings (B · images, tokens, D), textEmbeddings (B, T, D), visionIndices int32
 * (B, images · tokens)] → (B, T, D). Indices are positions in the text of the same row. An index of 0 is padding: the
 * image embedding is dropped, and position 0 keeps its text. Without images the text is returned unchanged.
 *
 * @throws ValueError on unknown or unusable arguments, and on inputs that do not match.
 */
export class Gemma3InterleaveEmbeddings extends Layer {
  /** @nocollapse */
  static className = 'Gemma3InterleaveEmbeddings';
  readonly numVisionTokensPerImage: number;

  constructor(args: Gemma3InterleaveEmbeddingsArgs) {
    super(checkedArgs('Gemma3InterleaveEmbeddings', args, ['numVisionTokensPerImage']));
    checkPositiveInteger('Gemma3InterleaveEmbeddings', 'numVisionTokensPerImage', args.numVisionTokensPerImage);
    this.numVisionTokensPerImage = args.numVisionTokensPerImage;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const [images, text, indices] = this.checked(inputs);
      return interleave(text, tf.reshape(images, [-1, text.shape[2]]), indices);
    });
  }

  private checked(inputs: TensorOrTensors): [tf.Tensor3D, tf.Tensor3D, tf.Tensor2D] {
    const [images, text, indices] = [inputs].flat();
    if (!images || !text || !indices || images.rank !== 3 || text.rank !== 3 || indices.rank !== 2) {
      throw new ValueError(
        `Gemma3InterleaveEmbeddings "${this.name}" expected [imageEmbeddings (batch · images, tokens, width), ` +
          'textEmbeddings (batch, length, width), visionIndices (batch, images · tokens)]. ' +
          `Received: shapes ${[inputs]
            .flat()
            .map(tensor => `[${tensor.shape}]`)
            .join(', ')}.`,
      );
    }
    const tokens = this.numVisionTokensPerImage;
    const [count, perImage, width] = images.shape as [number, number, number];
    const fits = count === 0 || (perImage === tokens && width === text.shape[2]);
    if (!fits || indices.shape[0] !== text.shape[0] || indices.size !== count * tokens) {
      throw new ValueError(
        `Gemma3InterleaveEmbeddings "${this.name}" expected ${tokens} embeddings of width ${text.shape[2]} per image, ` +
          `and one index for each of them. Received: images [${images.shape}], text [${text.shape}], ` +
          `indices [${indices.shape}]. Pass the same number of images for every sample, and pad indices with 0.`,
      );
    }
    return [images as tf.Tensor3D, text as tf.Tensor3D, indices as tf.Tensor2D];
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return (inputShape as tf.Shape[])[1]!;
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), numVisionTokensPerImage: this.numVisionTokensPerImage};
  }
}
registerLayer(Gemma3InterleaveEmbeddings);

/**
 * Checks the two inputs of a pooling layer: hidden states (B, T, D) and padding mask (B, T).
 *
 * @throws ValueError unless their shapes match.
 */
export function pooledInputs(owner: string, inputs: TensorOrTensors): [tf.Tensor3D, tf.Tensor2D] {
  const [hidden, mask] = [inputs].flat();
  if (hidden?.rank !== 3 || mask?.rank !== 2 || mask.shape.join() !== hidden.shape.slice(0, 2).join()) {
    const shapes = [inputs].flat().map(({shape}) => `[${shape}]`);
    throw new ValueError(
      `${owner} expected [hidden states (batch, length, width), paddingMask (batch, length)]. ` +
        `Received: shapes ${shapes.join(', ')}.`,
    );
  }
  return [hidden as tf.Tensor3D, mask as tf.Tensor2D];
}

/** Σₜ weights[b, t] · hidden[b, t]: (B, T), (B, T, D) → (B, D). */
export function weightedSum(weights: tf.Tensor, hidden: tf.Tensor3D): tf.Tensor2D {
  return tf.squeeze(tf.matMul(tf.expandDims(weights, 1), hidden), [1]);
}

/**
 * Mean of the hidden states of all tokens except padding, as KerasHub's layer of this name.
 *
 * Called with [hidden states (B, T, D), paddingMask (B, T)], or with hidden states and the option `paddingMask` →
 * (B, D). The mean of a row without tokens is 0.
 *
 * @throws ValueError on unknown arguments, and on inputs that do not match.
 */
export class Gemma3MeanPooling extends Layer {
  /** @nocollapse */
  static className = 'Gemma3MeanPooling';

  constructor(args: LayerArgs = {}) {
    super(checkedArgs('Gemma3MeanPooling', args, []));
    this.supportsMasking = true;
  }

  override call(inputs: TensorOrTensors, {paddingMask}: {paddingMask?: tf.Tensor} = {}): tf.Tensor {
    return tf.tidy(() => {
      const both = paddingMask ? [firstTensor(inputs), paddingMask] : inputs;
      const [hidden, mask] = pooledInputs(`Gemma3MeanPooling "${this.name}"`, both);
      const weights = tf.cast(mask, 'float32');
      const tokens = tf.maximum(tf.sum(weights, 1, true), 1e-9); // (B, 1)
      return tf.div(weightedSum(weights, hidden), tokens);
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const shape = firstShape(inputShape);
    return [...shape.slice(0, -2), shape.at(-1)!];
  }
}
registerLayer(Gemma3MeanPooling);
