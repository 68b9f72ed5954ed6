/** KerasHub's `RMSNormalization` layer for Gemma 3. */
import * as tf from '@tensorflow/tfjs';
import {rmsNorm} from '../ops/rms_norm';
import {type Weight} from '../weights/weight';
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
} from './layer';

export interface RMSNormalizationArgs extends LayerArgs {
  /** Added to the mean square before the square root. Defaults to 1e-6. */
  epsilon?: number;
}

/**
 * `x / sqrt(mean(x²) + epsilon) · (1 + scale)` over the last axis, in float32, like KerasHub's layer of the same name
 * for Gemma 3. See Zhang and Sennrich, https://arxiv.org/abs/1910.07467. `scale` is initialized with zeros.
 *
 * Input and output: (…, D).
 */
export class RMSNormalization extends Layer {
  /** @nocollapse */
  static className = 'RMSNormalization';
  readonly epsilon: number;
  scale!: Weight;

  constructor(args: RMSNormalizationArgs = {}) {
    super(checkedArgs('RMSNormalization', args, ['epsilon']));
    this.epsilon = args.epsilon ?? 1e-6;
  }

  override build(inputShape: ShapeOrShapes): void {
    this.scale = this.addFloatWeight('scale', [firstShape(inputShape).at(-1)!], tf.initializers.zeros());
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return rmsNorm(firstTensor(inputs), this.scale.read(), this.epsilon);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), epsilon: this.epsilon};
  }
}
registerLayer(RMSNormalization);
