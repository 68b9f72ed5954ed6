/** The first layer of the vision encoder: squares of pixels times a matrix. */
import * as tf from '@tensorflow/tfjs';
import {completeArguments} from '../../../layers/arguments';
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
} from '../../../layers/layer';
import {denseEinsum, planEinsum} from '../../../ops/einsum';
import {release} from '../../../ops/op';
import {getInitializer} from '../../../weights/initializers';
import {type AnyWeight, operandOf} from '../../../weights/packed_weight';
import {type Weight} from '../../../weights/weight';

const PATCHES = planEinsum('mabc,abcd->md', 4);

export interface PatchConv2DArgs extends LayerArgs {
  /** Width of the result. */
  filters: number;
  /** Height and width of the kernel, and stride. */
  patchSize: number;
}

/**
 * `keras.layers.Conv2D` with a stride equal to the kernel size and padding "valid", computed as patches times a matrix.
 * Unlike tfjs' convolution, this has a gradient on every backend.
 *
 * (B, S, S, C) → (B, patches, filters), patches row by row; pixels after the last whole patch are ignored.
 */
export class PatchConv2D extends Layer {
  /** @nocollapse */
  static className = 'PatchConv2D';
  readonly filters: number;
  readonly patchSize: number;
  kernel!: AnyWeight;
  bias!: Weight;

  constructor(args: PatchConv2DArgs) {
    super(checkedArgs('PatchConv2D', args, ['filters', 'patchSize']));
    const {filters, patchSize} = completeArguments('PatchConv2D', args, {filters: ['size'], patchSize: ['size']});
    this.filters = filters;
    this.patchSize = patchSize;
  }

  override build(inputShape: ShapeOrShapes): void {
    const {filters, patchSize: p} = this;
    const shape = [p, p, firstShape(inputShape).at(-1)!, filters];
    this.kernel = this.addKernel('kernel', shape, PATCHES.layout, getInitializer('glorot_uniform'));
    this.bias = this.addFloatWeight('bias', [filters], tf.initializers.zeros());
    this.built = true;
  }

  override call(inputs: TensorOrTensors, _kwargs: Kwargs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const p = this.patchSize;
      const [batch, height, width, channels] = x.shape as [number, number, number, number];
      const [rows, columns] = [Math.floor(height / p), Math.floor(width / p)];
      const whole = rows * p === height && columns * p === width;
      const seen = whole ? x : tf.slice(x, [0, 0, 0, 0], [batch, rows * p, columns * p, channels]);
      const lines = tf.reshape(seen, [batch, rows, p, columns, p * channels]);
      const moved = tf.transpose(lines, [0, 1, 3, 2, 4]);
      const patches = tf.reshape(moved, [-1, p, p, channels]);
      const projected = denseEinsum(patches, operandOf(this.kernel), PATCHES);
      release(moved, patches);
      const y = tf.add(projected, this.bias.read());
      return tf.reshape(y, [batch, rows * columns, this.filters]);
    });
  }

  override computeOutputShape(inputShape: ShapeOrShapes): tf.Shape {
    const [batch, height, width] = firstShape(inputShape);
    const patches = Math.floor(height! / this.patchSize) * Math.floor(width! / this.patchSize);
    return [batch ?? null, patches, this.filters];
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {...super.getConfig(), filters: this.filters, patchSize: this.patchSize};
  }
}
registerLayer(PatchConv2D);
