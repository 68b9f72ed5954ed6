/** Checks of index tensors before a kernel follows them, on backends that keep tensors in memory the host can read. */
import * as tf from '@tensorflow/tfjs';
import {checkIndices, type IndexRange} from '../base/checks';

type Read = (tensor: tf.Tensor) => ArrayLike<number> | undefined;

const readers = new Map<string, Read>();

/**
 * Registers how the values of a tensor are read on a backend without a copy and without waiting for a device. Undefined
 * for values that are only on the device.
 */
export function registerHostValues(backendName: string, read: Read): void {
  readers.set(backendName, read);
}

/**
 * Checks the values of a tensor of indices, of any shape and type. Other backends than this package's must handle
 * invalid indices themselves, because reading values there would stop a device.
 *
 * @throws ValueError naming the first index that is outside the range.
 */
export function checkIndexTensor(indices: tf.Tensor, range: IndexRange): void {
  const read = readers.get(tf.getBackend());
  const values = indices.size > 0 ? read?.(indices) : undefined;
  if (values) checkIndices(values, indices.shape, range);
}

/** The valid ids of a table with this many rows. */
export const rowsOfTable = (rows: number): IndexRange => ({
  what: 'token ids',
  limit: rows,
  of: `since the embedding has ${rows} rows`,
  advice:
    "Use the tokenizer of this model's preset: other tokenizers have tokens that it lacks, such as Hugging Face's " +
    'placeholder for images. Pad with 0, and with 0 in the padding mask.',
});
