/** Keras' `UnitNormalization` layer. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
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

export interface UnitNormalizationArgs extends LayerArgs {
  /** The axis to normalize along, or several axes that are normalized together. Defaults to -1. */
  axis?: number | number[];
}

/** Squared length below which vectors are not scaled to length 1. */
const EPSILON = 1e-24;

/**
 * `x / ‖x‖` over the given axes, like `keras.layers.UnitNormalization`
 * (https://keras.io/api/layers/normalization_layers/unit_normalization/). Zeros stay zeros.
 *
 * Input and output have the same shape.
 *
 * @throws ValueError on unknown or invalid arguments, and on an input that lacks an axis.
 */
export class UnitNormalization extends Layer {
  /** @nocollapse */
  static className = 'UnitNormalization';
  readonly axis: number | number[];

  constructor(args: UnitNormalizationArgs = {}) {
    super(checkedArgs('UnitNormalization', args, ['axis']));
    this.supportsMasking = true;
    this.axis = args.axis ?? -1;
    if (![this.axis].flat().every(Number.isInteger)) {
      throw new ValueError(
        `UnitNormalization expected \`axis\` to be a whole number or an array of them. Received: ${show(args.axis)}.`,
      );
    }
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const squares = tf.sum(tf.square(x), this.axis, true);
      return tf.mul(x, tf.rsqrt(tf.maximum(squares, EPSILON)));
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const shape = firstShape(inputShape);
    const missing = [this.axis].flat().find(axis => axis >= shape.length || axis < -shape.length);
    if (missing !== undefined) {
      throw new ValueError(
        `UnitNormalization "${this.name}" expected an input with an axis ${missing}. Received: shape [${shape}].`,
      );
    }
    return shape;
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), axis: this.axis};
  }
}
registerLayer(UnitNormalization);
