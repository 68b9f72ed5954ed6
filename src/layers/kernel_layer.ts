/** What `Dense` and `EinsumDense` share: one kernel with an optional LoRA, bias and activation. */
import * as tf from '@tensorflow/tfjs';
import {denseEinsum, planEinsum} from '../ops/einsum';
import {getInitializer, type Initializer, type InitializerLike} from '../weights/initializers';
import {type AnyWeight, type KernelLayout, operandOf} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {activate, type ActivationName, activationName} from './activations';
import {firstTensor, type Kwargs, type TensorOrTensors} from './layer';
import {type LoraArgs, LoraLayer, loraProduct} from './lora';

export interface KernelArgs extends LoraArgs {
  /** Keras' name of an activation, applied to the output; `gelu` is exact, `gelu_approximate` uses tanh. */
  activation?: ActivationName | (string & {}) | null;
  /** Defaults to "glorot_uniform". */
  kernelInitializer?: InitializerLike;
  /** Defaults to "zeros". */
  biasInitializer?: InitializerLike;
}

/** A layer that computes `activation(product(x, kernel) + bias)`, where `equation` defines the product. */
export abstract class KernelLayer extends LoraLayer {
  readonly activation: ActivationName | null;
  kernel!: AnyWeight;
  bias?: Weight;
  readonly loraName = 'kernel';
  protected readonly kernelInitializer: Initializer;
  protected readonly biasInitializer: Initializer;

  /** Einsum equation of input, kernel and output. */
  protected abstract readonly equation: string;

  constructor(args: KernelArgs) {
    super(args);
    this.activation = activationName(this.getClassName(), args.activation);
    this.kernelInitializer = getInitializer(args.kernelInitializer ?? 'glorot_uniform');
    this.biasInitializer = getInitializer(args.biasInitializer ?? 'zeros');
  }

  /** Adds the weights and finishes `build`. There is no bias if `biasShape` is left out. */
  protected buildKernel(shape: number[], layout: KernelLayout, biasShape?: number[]): void {
    this.kernel = this.addKernel('kernel', shape, layout, this.kernelInitializer);
    if (biasShape) this.bias = this.addFloatWeight('bias', biasShape, this.biasInitializer);
    this.finishBuild();
  }

  get adapted(): AnyWeight {
    return this.kernel;
  }
  /** The shape of the kernel with the rank as its last axis, while LoRA is on. */
  get loraKernelA(): Weight | undefined {
    return this.lora?.a;
  }
  /** (rank, last axis of the kernel), while LoRA is on. */
  get loraKernelB(): Weight | undefined {
    return this.lora?.b;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      let y = denseEinsum(x, operandOf(this.kernel), planEinsum(this.equation, x.rank));
      if (this.lora) y = tf.add(y, loraProduct(x, this.lora, this.loraScale, this.equation));
      if (this.bias) y = tf.add(y, this.bias.read());
      return activate(this.activation, y);
    });
  }
}
