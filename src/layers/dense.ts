import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {activate, activationName} from './activations';
import {checkArgument, checkPositiveInteger} from '../base/checks';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../weights/initializers';
import {
  type AnyWeight,
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';
import {LORA_ARGUMENTS, type LoraArgs, LoraLayer, loraProduct} from './lora';

export interface DenseArgs extends LoraArgs {
  /** Width of the output. */
  units: number;
  /** Keras' name of an activation, applied to the output; `gelu` is exact, `gelu_approximate` has a tanh. */
  activation?: string | null;
  /** Defaults to true. */
  useBias?: boolean;
  /** Defaults to "glorot_uniform". */
  kernelInitializer?: InitializerLike;
  /** Defaults to "zeros". */
  biasInitializer?: InitializerLike;
}

const KNOWN = ['units', 'activation', 'useBias', 'kernelInitializer', 'biasInitializer', ...LORA_ARGUMENTS] as const;

const EQUATION = '...a,ab->...b';
const LAYOUT = planEinsum(EQUATION, 2).layout;

/**
 * `activation(x · kernel + bias)`, as `keras.layers.Dense` (https://keras.io/api/layers/core_layers/dense/). The kernel
 * rests as the dtype says.
 *
 * (…, in) → (…, units).
 *
 * @throws ValueError on unknown or unusable arguments.
 *
 * Not registered for `tf.loadLayersModel`: tfjs has a layer of this name, which would be gone for everyone.
 */
export class Dense extends LoraLayer {
  /** @nocollapse */
  static className = 'Dense';
  readonly units: number;
  readonly activation: string | null;
  readonly useBias: boolean;
  kernel!: AnyWeight;
  bias?: Weight;
  readonly loraName = 'kernel';
  private readonly kernelInitializer: Initializer;
  private readonly biasInitializer: Initializer;

  constructor(args: DenseArgs) {
    super(checkedArgs('Dense', args, KNOWN));
    checkPositiveInteger('Dense', 'units', args.units);
    this.units = args.units;
    this.activation = activationName('Dense', args.activation);
    this.useBias = args.useBias ?? true;
    checkArgument('Dense', 'useBias', this.useBias, 'flag');
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
    this.enableGivenLora();
  }

  get adapted(): AnyWeight {
    return this.kernel;
  }
  /** (in, rank), while LoRA is on. */
  get loraKernelA(): Weight | undefined {
    return this.lora?.a;
  }
  /** (rank, units), while LoRA is on. */
  get loraKernelB(): Weight | undefined {
    return this.lora?.b;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const kernel = this.kernel instanceof PackedWeight ? this.kernel : this.kernel.read();
      let y = denseEinsum(x, kernel, planEinsum(EQUATION, x.rank));
      if (this.lora) y = tf.add(y, loraProduct(x, this.lora, this.loraScale, EQUATION));
      if (this.bias) y = tf.add(y, this.bias.read());
      return activate(this.activation, y);
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
