/** A batch in the form the loss needs, and the order of examples in an epoch. */
import type * as tf from '@tensorflow/tfjs';
import {RandomNumbers} from '../weights/random';

/** Model inputs by name, and the labels of the tokens that count. */
export interface Batch {
  /** Tensors (B, …); the batch owns them. */
  readonly inputs: Record<string, tf.Tensor>;
  /** Number of rows, B. */
  readonly rows: number;
  /** Number of tokens per row, T. */
  readonly length: number;
  /** The token that should follow each token, (B · T). */
  readonly labels: Int32Array;
  /** The weight of each token, (B · T). */
  readonly sampleWeights: Float32Array;
  /** Indices of the tokens with a nonzero weight, counted over all B · T tokens. */
  readonly positions: Int32Array;
  /** The token that should follow each position. */
  readonly targets: Int32Array;
  readonly weights: Float32Array;
  /** Number of positions of all rows at their original length, padding included. Keras divides the loss by it. */
  readonly size: number;
}

/** Labels and weights, (B, T) each. */
export interface Labels {
  y: ArrayLike<number>;
  weights: ArrayLike<number>;
}

/** Labels and weights of all tokens, and positions, targets and weights of those whose weight is not 0. */
export function weightedTokens({
  y,
  weights,
}: Labels): Pick<Batch, 'labels' | 'sampleWeights' | 'positions' | 'targets' | 'weights'> {
  const positions: number[] = [];
  for (let i = 0; i < y.length; i++) if (weights[i] !== 0) positions.push(i);
  return {
    labels: Int32Array.from(y),
    sampleWeights: Float32Array.from(weights),
    positions: Int32Array.from(positions),
    targets: Int32Array.from(positions, i => y[i]!),
    weights: Float32Array.from(positions, i => weights[i]!),
  };
}

export interface OrderArgs {
  batchSize: number;
  shuffle: boolean;
  /** Whether rows of similar length share a batch; has an effect only with `shuffle`. */
  byLength: boolean;
  seed: number;
}

/**
 * Number of batches in each window of rows that is sorted by length. Larger windows need less padding but shuffle less.
 */
const WINDOW = 32;

/** Returns the rows in random order. */
function shuffled<T>(rows: readonly T[], random: RandomNumbers): T[] {
  const order = [...rows];
  const draws = new Float32Array(order.length);
  random.uniform(draws, 0, 1);
  for (let i = order.length - 1; i > 0; i--) {
    const j = Math.floor(draws[i]! * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

const chunks = <T>(rows: readonly T[], size: number): T[][] =>
  Array.from({length: Math.ceil(rows.length / size)}, (_, i) => rows.slice(i * size, (i + 1) * size));

/**
 * The batches of an epoch, as row indices. They depend only on the seed and the epoch, so a resumed run sees the same
 * ones.
 *
 * @param lengths lengths of all rows, in tokens.
 */
export function batchesOf(
  rows: readonly number[],
  lengths: readonly number[],
  {batchSize, shuffle, byLength, seed}: OrderArgs,
  epoch: number,
): number[][] {
  if (!shuffle) return chunks(rows, batchSize);
  // Each epoch has its own generator. Its seed has a fractional part, so that it differs from every whole-number seed.
  const random = new RandomNumbers(seed + (epoch + 1) / 2 ** 21);
  const order = shuffled(rows, random);
  if (!byLength) return chunks(order, batchSize);
  const windows = chunks(order, WINDOW * batchSize);
  const sorted = windows.flatMap(window => window.sort((a, b) => lengths[a]! - lengths[b]!));
  return shuffled(chunks(sorted, batchSize), random);
}
