/** A batch as the loss needs it, and the order in which examples come. */
import type * as tf from '@tensorflow/tfjs';
import {RandomNumbers} from '../weights/random';

/** Inputs of a model by name, and what it should say of the tokens that count. */
export interface Batch {
  /** Tensors (B, …); the batch owns them. */
  readonly inputs: Record<string, tf.Tensor>;
  /** B */
  readonly rows: number;
  /** Places in B · T of the tokens with a weight. */
  readonly positions: Int32Array;
  /** For each of these, the token that should come next. */
  readonly targets: Int32Array;
  readonly weights: Float32Array;
  /** Places of all rows as they were given, padding included: Keras divides the loss by this number. */
  readonly size: number;
}

/** Labels and weights of rows, (B, T) each. */
export interface Labels {
  y: ArrayLike<number>;
  weights: ArrayLike<number>;
}

/** Positions, targets and weights of the tokens whose weight is not 0. */
export function weightedTokens({y, weights}: Labels): Pick<Batch, 'positions' | 'targets' | 'weights'> {
  const positions: number[] = [];
  for (let i = 0; i < y.length; i++) if (weights[i] !== 0) positions.push(i);
  return {
    positions: Int32Array.from(positions),
    targets: Int32Array.from(positions, i => y[i]!),
    weights: Float32Array.from(positions, i => weights[i]!),
  };
}

export interface OrderArgs {
  batchSize: number;
  shuffle: boolean;
  /** Whether rows of like length go into one batch; only when shuffled. */
  byLength: boolean;
  seed: number;
}

/** Rows are sorted by length within this many batches, so that batches stay as random as possible. */
const WINDOW = 32;

/** The given rows in an order that follows from the seed. */
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

const cut = <T>(rows: readonly T[], size: number): T[][] =>
  Array.from({length: Math.ceil(rows.length / size)}, (_, i) => rows.slice(i * size, (i + 1) * size));

/**
 * The batches of an epoch, as numbers of rows. The same for the same seed and epoch, wherever training is taken up again.
 *
 * @param lengths of all rows, in tokens.
 */
export function batchesOf(
  rows: readonly number[],
  lengths: readonly number[],
  {batchSize, shuffle, byLength, seed}: OrderArgs,
  epoch: number,
): number[][] {
  if (!shuffle) return cut(rows, batchSize);
  // A generator of its own for each epoch: the fraction keeps it apart from those of other seeds.
  const random = new RandomNumbers(seed + (epoch + 1) / 2 ** 21);
  const order = shuffled(rows, random);
  if (!byLength) return cut(order, batchSize);
  const windows = cut(order, WINDOW * batchSize);
  const sorted = windows.flatMap(window => window.sort((a, b) => lengths[a]! - lengths[b]!));
  return shuffled(cut(sorted, batchSize), random);
}
