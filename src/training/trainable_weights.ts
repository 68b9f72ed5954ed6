/** Checks that weights can be trained, and that the optimizer still trains the same ones. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {PackedWeight} from '../weights/packed_weight';

/** Remembers the weights that an optimizer trains. */
export class TrainableWeights {
  /**
   * The weights of the runs so far. They must stay the same, because tfjs optimizers identify weights only by their
   * index.
   */
  private trained: readonly tf.LayerVariable[] | null = null;

  /** Must be called when the optimizer is replaced. */
  reset(): void {
    this.trained = null;
  }

  /**
   * Must be called before every run, with the weights that it would train.
   *
   * @throws ValueError if there are none, if some are packed, or if the optimizer has trained different ones before.
   */
  check(weights: readonly tf.LayerVariable[]): void {
    if (weights.length === 0) {
      throw new ValueError('Expected weights to train. Received a model whose weights are all frozen.');
    }
    const packed = weights.filter(weight => weight instanceof PackedWeight);
    const [first] = packed;
    if (first) {
      throw new ValueError(
        `Expected weights stored as float32 for training. Received: ${packed.length} stored as ${first.format}, ` +
          `"${first.originalName}" first, which are frozen. Load the model with dtype: "float32" to train it. To train ` +
          'only the others, set `trainable = false` on these before `compile`.',
      );
    }
    const trained = (this.trained ??= [...weights]);
    if (trained.length === weights.length && trained.every((weight, i) => weight === weights[i])) return;
    throw new ValueError(
      `Expected the ${trained.length} weights that the optimizer has trained since \`compile\`. Received ` +
        `${weights.length} weights, not the same ones. Call \`compile\` again, with a new optimizer.`,
    );
  }
}
