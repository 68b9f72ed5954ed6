import * as tf from '@tensorflow/tfjs';
import {rmsNorm} from '../ops/rms_norm';
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
import {type Weight} from '../weights/weight';

export interface RMSNormalizationArgs extends LayerArgs {
  /** Added to the mean square before its root. Defaults to 1e-6. */
  epsilon?: number;
}

/**
 * `x / sqrt(mean(x²) + epsilon) · (1 + scale)` over the last axis, in float32, as KerasHub's layer of this name for
 * Gemma 3. Zhang and Sennrich, https://arxiv.org/abs/1910.07467; `scale` starts at zeros.
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
