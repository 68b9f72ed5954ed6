import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {denseEinsum, type EinsumPlan, planEinsum} from '../ops/einsum';
import {PackedWeight} from '../weights/packed_weight';
import {type Weight} from '../weights/weight';
import {activate, activationName} from './activations';
import {getInitializer, type Initializer, type InitializerLike, serializeInitializer} from '../weights/initializers';
import {
  type AnyWeight,
  checkedArgs,
  firstShape,
  firstTensor,
  type Kwargs,
  registerLayer,
  type ShapeOrShapes,
  type TensorOrTensors,
} from './layer';
import {LORA_ARGUMENTS, type LoraArgs, LoraLayer, loraProduct} from './lora';

export interface EinsumDenseArgs extends LoraArgs {
  /** `[X],[Y]->[Z]`, `...[X],[Y]->...[Z]` or `[X]...,[Y]->[Z]...`: input, kernel, output. */
  equation: string;
  /** Shape of the output without its batch axis and without axes behind `...`; null where the input says it. */
  outputShape: number | (number | null)[];
  /** Keras' name of an activation, applied to the output; `gelu` is exact, `gelu_approximate` has a tanh. */
  activation?: string | null;
  /** Labels of the output axes that get a bias. Null, the default: no bias. */
  biasAxes?: string | null;
  /** Defaults to "glorot_uniform". */
  kernelInitializer?: InitializerLike;
  /** Defaults to "zeros". */
  biasInitializer?: InitializerLike;
}

/**
 * A dense layer whose product is an einsum, as `keras.layers.EinsumDense`
 * (https://keras.io/api/layers/core_layers/einsum_dense/). Lowered to one matrix product and differentiable.
 *
 * @throws ValueError on unknown or unusable arguments; when it is built, on shapes that do not fit the equation.
 */
export class EinsumDense extends LoraLayer {
  /** @nocollapse */
  static className = 'EinsumDense';
  readonly equation: string;
  readonly outputShapeArg: (number | null)[];
  readonly activation: string | null;
  readonly biasAxes: string | null;
  kernel!: AnyWeight;
  bias?: Weight;
  readonly loraName = 'kernel';
  private readonly kernelInitializer: Initializer;
  private readonly biasInitializer: Initializer;

  constructor(args: EinsumDenseArgs) {
    super(
      checkedArgs('EinsumDense', args, [
        'equation',
        'outputShape',
        'activation',
        'biasAxes',
        'kernelInitializer',
        'biasInitializer',
        ...LORA_ARGUMENTS,
      ]),
    );
    this.equation = args.equation;
    this.outputShapeArg = [args.outputShape].flat();
    this.activation = activationName('EinsumDense', args.activation);
    this.biasAxes = args.biasAxes ?? null;
    this.kernelInitializer = getInitializer(args.kernelInitializer ?? 'glorot_uniform');
    this.biasInitializer = getInitializer(args.biasInitializer ?? 'zeros');
  }

  override build(inputShape: ShapeOrShapes): void {
    const shape = firstShape(inputShape);
    const plan = planEinsum(this.equation, shape.length);
    const sizes = this.labelSizes(plan, shape);
    const kernelShape = plan.kernel.map(label => this.known(sizes, label));
    // Keras' initializers see the kernel as it is; only its layout at rest differs here.
    this.kernel = this.addKernel('kernel', kernelShape, plan.layout, this.kernelInitializer);
    if (this.biasAxes !== null) {
      this.bias = this.addFloatWeight('bias', this.biasShape(plan, sizes), this.biasInitializer);
    }
    this.built = true;
    this.enableGivenLora();
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
      const kernel = this.kernel instanceof PackedWeight ? this.kernel : this.kernel.read();
      let y = denseEinsum(x, kernel, planEinsum(this.equation, x.rank));
      if (this.lora) y = tf.add(y, loraProduct(x, this.lora, this.loraScale, this.equation));
      if (this.bias) y = tf.add(y, this.bias.read());
      return activate(this.activation, y);
    });
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

  /** Sizes of all labels, from the input and from `outputShape`, which lacks the batch axis and those behind `...`. */
  private labelSizes(plan: EinsumPlan, shape: tf.Shape): Map<string, number | null> {
    const sizes = new Map<string, number | null>();
    plan.x.forEach((label, axis) => sizes.set(label, shape[axis] ?? null));
    const elided = (label: string) => /\d/.test(label);
    const named = plan.output.filter(label => !elided(label));
    // Of `...x` the batch axis is behind the dots; of `[X]` and `[X]...` it is the first label.
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

  private known(sizes: Map<string, number | null>, label: string): number {
    const size = sizes.get(label);
    if (size == null) {
      throw new ValueError(
        `EinsumDense "${this.name}" cannot tell the size of axis '${label}' of its kernel in "${this.equation}". ` +
          'Give it in outputShape, or an input shape that has it.',
      );
    }
    return size;
  }

  private biasShape(plan: EinsumPlan, sizes: Map<string, number | null>): number[] {
    const axes = [...this.biasAxes!];
    const strange = axes.find(label => !plan.output.includes(label));
    if (strange || axes.length === 0) {
      throw new ValueError(
        `Bias dimension '${strange ?? ''}' was requested, but is not part of the output spec of "${this.equation}". ` +
          `Received: biasAxes=${this.biasAxes}.`,
      );
    }
    const first = plan.output.findIndex(label => axes.includes(label));
    return plan.output.slice(first).map(label => (axes.includes(label) ? this.known(sizes, label) : 1));
  }

  /** tfjs writes strings in lower case with underscores before capitals; labels are renamed so that they survive it. */
  private portable(spec: string): string {
    const labels = [...new Set(this.equation.match(/[a-zA-Z]/g) ?? [])];
    if (labels.every(label => label === label.toLowerCase())) return spec;
    return spec.replace(/[a-zA-Z]/g, label => String.fromCharCode(97 + labels.indexOf(label)));
  }
}
registerLayer(EinsumDense);
