import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../errors';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {gelu} from '../ops/gated_gelu';
import {PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from './initializers';
import {
  type AnyWeight,
  checkedArgs,
  checkPositiveInteger,
  firstShape,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';

type Activation = (x: tf.Tensor) => tf.Tensor;

/** Activations by the names that Keras and KerasHub give them. */
const ACTIVATIONS: Record<string, Activation> = {
  linear: x => x,
  relu: x => tf.relu(x),
  relu6: x => tf.relu6(x),
  elu: x => tf.elu(x),
  selu: x => tf.selu(x),
  sigmoid: x => tf.sigmoid(x),
  silu: x => tf.mul(x, tf.sigmoid(x)),
  swish: x => tf.mul(x, tf.sigmoid(x)),
  softmax: x => tf.softmax(x),
  softplus: x => tf.softplus(x),
  softsign: x => tf.div(x, tf.add(tf.abs(x), 1)),
  tanh: x => tf.tanh(x),
  gelu: x => tf.mul(tf.mul(x, 0.5), tf.add(tf.erf(tf.mul(x, Math.SQRT1_2)), 1)),
  gelu_approximate: gelu,
};

/** Keras' name of an activation: tfjs writes and reads strings of configs in other casings. */
function activationName(identifier: string): string {
  const name = identifier.replace(/[A-Z]/g, letter => `_${letter.toLowerCase()}`);
  if (!Object.hasOwn(ACTIVATIONS, name)) {
    throw new ValueError(
      `Dense expected an activation, one of: ${Object.keys(ACTIVATIONS).join(', ')}. Received: ${show(identifier)}.`,
    );
  }
  return name;
}

export interface DenseArgs extends LayerArgs {
  /** Width of the output. */
  units: number;
  /** Keras' name of an activation, applied to the output; `gelu` is exact, `gelu_approximate` has a tanh. */
  activation?: string | null;
  /** Defaults to true. */
  useBias?: boolean;
  kernelInitializer?: InitializerLike;
  biasInitializer?: InitializerLike;
}

const KNOWN = ['units', 'activation', 'useBias', 'kernelInitializer', 'biasInitializer'] as const;

const EQUATION = '...a,ab->...b';
const LAYOUT = planEinsum(EQUATION, 2).layout;

/**
 * `activation(x · kernel + bias)`, as `keras.layers.Dense` (https://keras.io/api/layers/core_layers/dense/). The kernel
 * rests as the dtype says.
 *
 * (…, in) → (…, units).
 *
 * Not registered for `tf.loadLayersModel`: tfjs has a layer of this name, which would be gone for everyone.
 */
export class Dense extends Layer {
  /** @nocollapse */
  static className = 'Dense';
  readonly units: number;
  readonly activation: string | null;
  readonly useBias: boolean;
  kernel!: AnyWeight;
  bias?: Weight;
  private readonly kernelInitializer: Initializer;
  private readonly biasInitializer: Initializer;

  constructor(args: DenseArgs) {
    super(checkedArgs('Dense', args, KNOWN));
    checkPositiveInteger('Dense', 'units', args.units);
    this.units = args.units;
    this.activation = args.activation == null ? null : activationName(args.activation);
    this.useBias = args.useBias ?? true;
    this.kernelInitializer = getInitializer(args.kernelInitializer ?? 'glorot_uniform');
    this.biasInitializer = getInitializer(args.biasInitializer ?? 'zeros');
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    const width = shape.at(-1);
    if (width == null) {
      throw new ValueError(
        `Dense "${this.name}" expected an input whose last axis has a known size. Received: [${shape}].`,
      );
    }
    this.kernel = this.addKernel('kernel', [width, this.units], LAYOUT, this.kernelInitializer);
    if (this.useBias) this.bias = this.addFloatWeight('bias', [this.units], this.biasInitializer);
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const kernel = this.kernel instanceof PackedWeight ? this.kernel : this.kernel.read();
      let y = denseEinsum(x, kernel, planEinsum(EQUATION, x.rank));
      if (this.bias) y = tf.add(y, this.bias.read());
      return this.activation === null ? y : ACTIVATIONS[this.activation]!(y);
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape).slice(0, -1), this.units];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      units: this.units,
      activation: this.activation,
      useBias: this.useBias,
      kernelInitializer: serializeInitializer(this.kernelInitializer),
      biasInitializer: serializeInitializer(this.biasInitializer),
    };
  }
}
