/** Weights that were disposed or changed while something still uses them. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';

/** tfjs keeps the tensor of a variable in a protected field. */
const valueOf = (weight: tf.LayerVariable): tf.Variable => (weight as unknown as {val: tf.Variable}).val;

export const isDisposed = (weight: tf.LayerVariable): boolean => valueOf(weight).isDisposed;

/** @throws ValueError if the weight was disposed, with the model or layer that it belongs to. */
export function checkWeightInUse(weight: tf.LayerVariable): void {
  if (!isDisposed(weight)) return;
  throw new ValueError(
    `Expected a model or layer in use. Received: one that was disposed, as its weight "${weight.originalName}" ` +
      'shows. Create or load it again, and call `dispose` only when nothing uses it any more.',
  );
}

/** Remembers the values of weights, to detect when they change. Takes no memory. */
export class WeightSnapshot {
  private readonly weights: readonly tf.LayerVariable[];
  /** Null for a weight without values: initializing it does not count as a change. */
  private readonly values: (object | null)[];

  constructor(private readonly current: () => readonly tf.LayerVariable[]) {
    this.weights = current();
    this.values = this.weights.map(weight => dataOf(weight));
  }

  /** Whether there are other weights now, or other values. */
  get changed(): boolean {
    const now = this.current();
    if (now.length !== this.weights.length) return true;
    for (let i = 0; i < now.length; i++) {
      if (now[i] !== this.weights[i]) return true;
      if (this.values[i] === null) this.values[i] = dataOf(now[i]!);
      else if (this.values[i] !== dataOf(now[i]!)) return true;
    }
    return false;
  }

  /**
   * @param task what needs the same values from beginning to end.
   * @throws ValueError if they have changed.
   */
  check(task: string): void {
    if (!this.changed) return;
    throw new ValueError(
      `Expected the same weights from beginning to end of ${task}. Received: weights that changed meanwhile, by ` +
        '`fit`, `setWeights`, `quantize` or LoRA. Await one call before you start the other.',
    );
  }
}

/** An object that identifies the values: tfjs replaces it when others are assigned. */
function dataOf(weight: tf.LayerVariable): object | null {
  const {filled = true} = weight as {filled?: boolean};
  return filled ? valueOf(weight).dataId : null;
}
