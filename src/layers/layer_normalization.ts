/** Keras' `LayerNormalization` layer. */
import * as tf from '@tensorflow/tfjs';
import {layerNorm} from '../ops/layer_norm';
import {type Weight} from '../weights/weight';
import {
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  policyConfig,
  registerBesideTfjs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';

export interface LayerNormalizationArgs extends LayerArgs {
  /** Added to the variance before the square root. Defaults to 1e-3, as in Keras. */
  epsilon?: number;
}

/**
 * `(x - mean) / sqrt(variance + epsilon) · gamma + beta` over the last axis, in float32, like
 * `keras.layers.LayerNormalization` (https://keras.io/api/layers/normalization_layers/layer_normalization/).
 *
 * Input and output: (…, D).
 *
 * tfjs has a layer of the same name, which it keeps for other models.
 */
export class LayerNormalization extends Layer {
  /** @nocollapse */
  static className = 'LayerNormalization';
  readonly epsilon: number;
  gamma!: Weight;
  beta!: Weight;

  constructor(args: LayerNormalizationArgs = {}) {
    super(checkedArgs('LayerNormalization', args, ['epsilon']));
    this.supportsMasking = true;
    this.epsilon = args.epsilon ?? 1e-3;
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = [firstShape(inputShape).at(-1)!];
    this.gamma = this.addFloatWeight('gamma', shape, tf.initializers.ones());
    this.beta = this.addFloatWeight('beta', shape, tf.initializers.zeros());
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return layerNorm(firstTensor(inputs), this.gamma.read(), this.beta.read(), this.epsilon);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), ...policyConfig(this), epsilon: this.epsilon};
  }
}
registerBesideTfjs(LayerNormalization);
