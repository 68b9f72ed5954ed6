/** KerasHub's `RotaryEmbedding` layer. */
import * as tf from '@tensorflow/tfjs';
import {checkArgument} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {rotary, rotaryTables} from '../ops/rotary';
import {
  checkedArgs,
  firstTensor,
  type Kwargs,
  Layer,
  type LayerArgs,
  registerLayer,
  type TensorOrTensors,
} from './layer';

export interface RotaryEmbeddingArgs extends LayerArgs {
  /** Longest wavelength of the rotation, in positions. Defaults to 10,000. */
  maxWavelength?: number;
  /** Positions are divided by this (linear scaling). Defaults to 1. */
  scalingFactor?: number;
  /** Axis of the sequence. Defaults to 1. */
  sequenceAxis?: number;
  /** Axis of the features. Its size must be even. Defaults to −1. */
  featureAxis?: number;
}

/** Options of `call`. */
export interface RotaryCallArgs extends Kwargs {
  /** Position of the first element: one number for all rows, or one per row. Defaults to 0. */
  startIndex?: number | readonly number[];
}

/**
 * Rotary position encoding with linear scaling, like `keras_hub.layers.RotaryEmbedding`
 * (https://keras.io/keras_hub/api/modeling_layers/rotary_embedding/). From RoFormer, https://arxiv.org/abs/2104.09864.
 * Tables are computed on the host in double precision.
 *
 * Input and output: (batch, sequence, …, features).
 *
 * @throws ValueError on unknown or invalid arguments, and on inputs that lack these axes or have an odd number of
 * features.
 */
export class RotaryEmbedding extends Layer {
  /** @nocollapse */
  static className = 'RotaryEmbedding';
  readonly maxWavelength: number;
  readonly scalingFactor: number;
  readonly sequenceAxis: number;
  readonly featureAxis: number;

  constructor(args: RotaryEmbeddingArgs = {}) {
    const known = ['maxWavelength', 'scalingFactor', 'sequenceAxis', 'featureAxis'] as const;
    super(checkedArgs('RotaryEmbedding', args, known));
    this.maxWavelength = args.maxWavelength ?? 10_000;
    this.scalingFactor = args.scalingFactor ?? 1;
    checkArgument('RotaryEmbedding', 'maxWavelength', this.maxWavelength, 'positive');
    checkArgument('RotaryEmbedding', 'scalingFactor', this.scalingFactor, 'positive');
    this.sequenceAxis = args.sequenceAxis ?? 1;
    this.featureAxis = args.featureAxis ?? -1;
    this.built = true;
  }

  override call(inputs: TensorOrTensors, kwargs: RotaryCallArgs = {}): tf.Tensor {
    return tf.tidy(() => {
      const x = firstTensor(inputs);
      const rest = this.otherAxes(x.rank);
      const axes = [0, this.axis(this.sequenceAxis, x.rank), ...rest, this.axis(this.featureAxis, x.rank)];
      const inOrder = axes.every((axis, i) => axis === i);
      const moved = inOrder ? x : tf.transpose(x, axes);
      const [batch, length] = moved.shape as [number, number];
      const features = moved.shape.at(-1)!;
      if (features % 2 !== 0) {
        throw new ValueError(
          `Rotary dimension must be even: its two halves are rotated together. Received: ${features}.`,
        );
      }
      const starts = [kwargs.startIndex ?? 0].flat();
      if (starts.length !== 1 && starts.length !== batch) {
        throw new ValueError(`Expected one startIndex, or one for each of the ${batch} rows. Received: [${starts}].`);
      }
      // Above this, numbers have no room for a whole position.
      const fits = (start: unknown) =>
        Number.isFinite(start) && Math.abs(start as number) + length <= Number.MAX_SAFE_INTEGER;
      const wrong = starts.findIndex(start => !fits(start));
      if (wrong >= 0) {
        throw new ValueError(
          `Expected startIndex to be the position of the first token, from 0 to ${Number.MAX_SAFE_INTEGER - length}. ` +
            `Received: ${show(starts[wrong])}.`,
        );
      }
      const {cos, sin} = rotaryTables(starts, length, features, this.maxWavelength, this.scalingFactor);
      const flat = tf.reshape(moved, [batch, length, -1, features]) as tf.Tensor4D;
      const rotated = tf.reshape(rotary(flat, cos, sin), moved.shape);
      if (inOrder) return rotated;
      return tf.transpose(
        rotated,
        axes.map((_, axis) => axes.indexOf(axis)),
      );
    });
  }

  private axis(axis: number, rank: number): number {
    const positive = axis < 0 ? axis + rank : axis;
    if (positive < 1 || positive >= rank) {
      throw new ValueError(
        `RotaryEmbedding expected its sequence and feature axis after the batch axis of an input of rank ${rank}. ` +
          `Received: ${axis}.`,
      );
    }
    return positive;
  }

  private otherAxes(rank: number): number[] {
    const [sequence, feature] = [this.axis(this.sequenceAxis, rank), this.axis(this.featureAxis, rank)];
    if (sequence === feature) {
      throw new ValueError(`sequenceAxis and featureAxis must be different. Received: ${sequence} for both.`);
    }
    return Array.from({length: rank}, (_, axis) => axis).filter(a => a !== 0 && a !== sequence && a !== feature);
  }

  override getConfig(): tf.serialization.ConfigDict {
    return {
      ...super.getConfig(),
      maxWavelength: this.maxWavelength,
      scalingFactor: this.scalingFactor,
      sequenceAxis: this.sequenceAxis,
      featureAxis: this.featureAxis,
    };
  }
}
registerLayer(RotaryEmbedding);
