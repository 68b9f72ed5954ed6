/** Errors for logits and tokens that no sampler can use. */
import type * as tf from '@tensorflow/tfjs';
import {describeValue, ValueError} from '../../base/errors';
import {largestOf} from '../../ops/row_numbers';

/**
 * Describes logits (B, V) of which a row has a NaN or no value above −Infinity.
 *
 * @param source whose logits they are.
 * @returns the error to throw.
 */
export async function unusableLogits(logits: tf.Tensor2D, source = 'the model'): Promise<ValueError> {
  const size = logits.shape[1];
  const values = (await logits.data()) as Float32Array;
  const rows = Array.from({length: logits.shape[0]}, (_, row) => values.subarray(row * size, (row + 1) * size));
  const row = rows.findIndex(row => !(largestOf(row) > -Infinity));
  const token = rows[row]?.findIndex(Number.isNaN) ?? -1;
  const received = token >= 0 ? `NaN for token ${token}` : '-Infinity for all tokens';
  return new ValueError(
    `Expected logits of ${source} without NaN, at least one of them above -Infinity. Received: ${received}, in row ` +
      `${Math.max(0, row)}. Check its weights: a damaged file or training with too high a learning rate leaves ` +
      'values that are not finite. Also check penalties, if there are any.',
  );
}

/** @throws ValueError unless each is a token of the vocabulary. */
export function checkTokens(tokens: readonly number[], rows: number, vocabulary: number, sampler: object): void {
  const wrong = tokens.findIndex(token => !(Number.isInteger(token) && token >= 0 && token < vocabulary));
  if (tokens.length === rows && wrong < 0) return;
  const received = wrong < 0 ? `${tokens.length} tokens` : `${describeValue(tokens[wrong])} for row ${wrong}`;
  throw new ValueError(
    `Expected ${describeValue(sampler)} to choose one token from 0 to ${vocabulary - 1} for each of ${rows} rows. ` +
      `Received: ${received}.`,
  );
}
