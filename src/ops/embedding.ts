/** Table lookup: tfjs' gather, with a different gradient because tfjs' own takes 0.6 ms per table row on a CPU. */
import * as tf from '@tensorflow/tfjs';
import {checkIndexTensor, rowsOfTable} from '../weights/host_values';
import {PackedWeight} from '../weights/packed_weight';
import './bfloat16_rows';
import {type Op, runOp} from './op';

export const embeddingOp: Op<{table: tf.Tensor; ids: tf.Tensor}, Record<string, never>> = {
  name: 'Gemma3Embedding',
  reference: ({table, ids}) => tf.gather(table, ids as tf.Tensor1D),
  gradient: (dy, {table, ids}) => ({
    // The gradients of a row that was looked up more than once add up.
    table: () =>
      tf.tidy(() => tf.scatterND(tf.reshape(ids, [-1, 1]), dy, table.shape as [number, number]) as tf.Tensor),
  }),
  reads: {table: ['ids']},
};

/**
 * Rows of a table (V, D), float32 or packed, at ids of any shape → (…ids, D).
 *
 * @throws ValueError for ids that are not rows of the table, on backends whose tensors the host can read.
 */
export function embedding(ids: tf.Tensor, table: tf.Tensor | PackedWeight): tf.Tensor {
  return tf.tidy(() => {
    // Before the cast, which would wrap float32 ids beyond the range of int32.
    checkIndexTensor(ids, rowsOfTable(table.shape[0]!));
    const flat = tf.reshape(tf.cast(ids, 'int32'), [-1]) as tf.Tensor1D;
    const [, width] = table.shape as [number, number];
    const rows =
      table instanceof PackedWeight
        ? table.packing.gatherRows(table.bits, flat, table.columns) // `gatherRows` of the weight would check again.
        : runOp(embeddingOp, {table, ids: flat}, {});
    return tf.reshape(rows, [...ids.shape, width]);
  });
}
