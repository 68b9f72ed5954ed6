/** Pools hidden states into one vector per text. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../base/errors';
import {
  checkedArgs,
  firstShape,
  type Kwargs,
  Layer,
  type LayerArgs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from '../../layers/layer';

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
 * Called with [hidden states (B, T, D), paddingMask (B, T)] → (B, D). The mean of a row without tokens is 0.
 *
 * @throws ValueError on unknown arguments, and on inputs that do not match.
 */
export class Gemma3MeanPooling extends Layer {
  /** @nocollapse */
  static className = 'Gemma3MeanPooling';

  constructor(args: LayerArgs = {}) {
    super(checkedArgs('Gemma3MeanPooling', args, []));
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const [hidden, mask] = pooledInputs(`Gemma3MeanPooling "${this.name}"`, inputs);
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
