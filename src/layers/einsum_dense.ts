/** Keras' `EinsumDense` layer, with optional LoRA. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {type EinsumPlan, planEinsum} from '../ops/einsum';
import {serializeInitializer} from '../weights/initializers';
import {type KernelArgs, KernelLayer} from './kernel_layer';
import {checkedArgs, firstShape, registerLayer, type ShapeOrShapes} from './layer';
import {LORA_ARGUMENTS} from './lora';

export interface EinsumDenseArgs extends KernelArgs {
  /** `[X],[Y]->[Z]`, `...[X],[Y]->...[Z]` or `[X]...,[Y]->[Z]...`: input, kernel, output. */
  equation: string;
  /** Shape of the output without the batch axis and the axes of `...`; null for a size that the input determines. */
  outputShape: number | (number | null)[];
  /** Labels of the output axes that get a bias. Null, the default, for no bias. */
  biasAxes?: string | null;
}

const KNOWN = [
  'equation',
  'outputShape',
  'activation',
  'biasAxes',
  'kernelInitializer',
  'biasInitializer',
  ...LORA_ARGUMENTS,
] as const;

/**
 * A dense layer whose product is an einsum, like `keras.layers.EinsumDense`
 * (https://keras.io/api/layers/core_layers/einsum_dense/). Lowered to one matrix product and differentiable.
 *
 * @throws ValueError on unknown or invalid arguments, and in `build` on shapes that do not fit the equation.
 */
export class EinsumDense extends KernelLayer {
  /** @nocollapse */
  static className = 'EinsumDense';
  readonly equation: string;
  readonly outputShapeArg: (number | null)[];
  readonly biasAxes: string | null;

  constructor(args: EinsumDenseArgs) {
    super(checkedArgs('EinsumDense', args, KNOWN));
    this.equation = args.equation;
    this.outputShapeArg = [args.outputShape].flat();
    this.biasAxes = args.biasAxes ?? null;
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    const plan = planEinsum(this.equation, shape.length);
    const sizes = this.labelSizes(plan, shape);
    // Initializers see the kernel in its Keras shape; only the stored layout may differ.
    const kernelShape = plan.kernel.map(label => this.sizeOf(sizes, label));
    this.buildKernel(kernelShape, plan.layout, this.biasShape(plan, sizes));
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const shape = firstShape(inputShape);
    const plan = planEinsum(this.equation, shape.length);
    const sizes = this.labelSizes(plan, shape);
    return plan.output.map(label => sizes.get(label) ?? null);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      equation: this.portable(this.equation),
      outputShape: this.outputShapeArg,
      activation: this.activation,
      biasAxes: this.biasAxes && this.portable(this.biasAxes),
      kernelInitializer: serializeInitializer(this.kernelInitializer),
      biasInitializer: serializeInitializer(this.biasInitializer),
    };
  }

  /** Sizes of all labels, from the input and from `outputShape`, which lacks the batch axis and the axes of `...`. */
  private labelSizes(plan: EinsumPlan, shape: tf.Shape): Map<string, number | null> {
    const sizes = new Map<string, number | null>();
    plan.x.forEach((label, axis) => sizes.set(label, shape[axis] ?? null));
    const elided = (label: string) => /\d/.test(label);
    const named = plan.output.filter(label => !elided(label));
    // In `...x` the dots include the batch axis; in `[X]` and `[X]...` it is the first label.
    const given = plan.output[0] !== undefined && elided(plan.output[0]) ? named : named.slice(1);
    if (given.length !== this.outputShapeArg.length) {
      throw new ValueError(
        `EinsumDense "${this.name}" expected outputShape with ${given.length} sizes, for axes ${given.join(', ')} of ` +
          `"${this.equation}". Received: [${this.outputShapeArg}].`,
      );
    }
    given.forEach((label, i) => {
      const want = this.outputShapeArg[i] ?? null;
      const have = sizes.get(label) ?? null;
      if (want !== null && have !== null && want !== have) {
        throw new ValueError(
          `Input shape and output shape do not match at shared dimension '${label}' of "${this.equation}". ` +
            `Received: input ${have}, output ${want}.`,
        );
      }
      sizes.set(label, want ?? have);
    });
    return sizes;
  }

  private sizeOf(sizes: Map<string, number | null>, label: string): number {
    const size = sizes.get(label);
    if (size == null) {
      throw new ValueError(
        `EinsumDense "${this.name}" cannot infer the size of axis '${label}' of its kernel in "${this.equation}". ` +
          'Set it in outputShape, or give an input shape that contains it.',
      );
    }
    return size;
  }

  private biasShape(plan: EinsumPlan, sizes: Map<string, number | null>): number[] | undefined {
    if (this.biasAxes === null) return undefined;
    const axes = [...this.biasAxes];
    const invalid = axes.find(label => !plan.output.includes(label));
    if (invalid !== undefined || axes.length === 0) {
      throw new ValueError(
        `Bias dimension '${invalid ?? ''}' was requested, but is not part of the output spec of "${this.equation}". ` +
          `Received: biasAxes=${this.biasAxes}.`,
      );
    }
    const first = plan.output.findIndex(label => axes.includes(label));
    return plan.output.slice(first).map(label => (axes.includes(label) ? this.sizeOf(sizes, label) : 1));
  }

  /**
   * Renames labels to lower-case letters, because tfjs saves strings in snake case, which would change capital labels.
   */
  private portable(spec: string): string {
    const labels = [...new Set(this.equation.match(/[a-zA-Z]/g) ?? [])];
    if (labels.every(label => label === label.toLowerCase())) return spec;
    return spec.replace(/[a-zA-Z]/g, label => String.fromCharCode(97 + labels.indexOf(label)));
  }
}
registerLayer(EinsumDense);
