/** Keras' `Dense` layer, with optional LoRA. */
import type * as tf from '@tensorflow/tfjs';
import {checkArgument, checkPositiveInteger} from '../base/checks';
import {ValueError} from '../base/errors';
import {planEinsum} from '../ops/einsum';
import {serializeInitializer} from '../weights/initializers';
import {type KernelArgs, KernelLayer} from './kernel_layer';
import {checkedArgs, firstShape, policyConfig, registerBesideTfjs, type ShapeOrShapes} from './layer';
import {LORA_ARGUMENTS} from './lora';

export interface DenseArgs extends KernelArgs {
  /** Width of the output. */
  units: number;
  /** Defaults to true. */
  useBias?: boolean;
}

const KNOWN = ['units', 'activation', 'useBias', 'kernelInitializer', 'biasInitializer', ...LORA_ARGUMENTS] as const;

const EQUATION = '...a,ab->...b';
const LAYOUT = planEinsum(EQUATION, 2).layout;

/**
 * `activation(x · kernel + bias)`, like `keras.layers.Dense` (https://keras.io/api/layers/core_layers/dense/). The
 * dtype determines the format in which the kernel is stored.
 *
 * (…, in) → (…, units).
 *
 * @throws ValueError on unknown or invalid arguments.
 *
 * tfjs has a layer of the same name, which it keeps for other models.
 */
export class Dense extends KernelLayer {
  /** @nocollapse */
  static className = 'Dense';
  readonly units: number;
  readonly useBias: boolean;
  protected readonly equation = EQUATION;

  constructor(args: DenseArgs) {
    super(checkedArgs('Dense', args, KNOWN));
    this.supportsMasking = true;
    checkPositiveInteger('Dense', 'units', args.units);
    this.units = args.units;
    this.useBias = args.useBias ?? true;
    checkArgument('Dense', 'useBias', this.useBias, 'flag');
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    const width = shape.at(-1);
    if (width == null) {
      throw new ValueError(
        `Dense "${this.name}" expected an input whose last axis has a known size. Received: [${shape}].`,
      );
    }
    this.buildKernel([width, this.units], LAYOUT, this.useBias ? [this.units] : undefined);
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    return [...firstShape(inputShape).slice(0, -1), this.units];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      ...policyConfig(this),
      units: this.units,
      activation: this.activation,
      useBias: this.useBias,
      kernelInitializer: serializeInitializer(this.kernelInitializer),
      biasInitializer: serializeInitializer(this.biasInitializer),
    };
  }
}
registerBesideTfjs(Dense);
