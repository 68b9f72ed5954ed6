/** Puts the embeddings of images at their placeholders in a text. */
import * as tf from '@tensorflow/tfjs';
import {checkIndexTensor} from '../weights/host_values';
import {type Op, runOp} from './op';

type InterleaveInputs = {text: tf.Tensor; images: tf.Tensor; indices: tf.Tensor};

interface Plan {
  /** int32 (B · T): for each row of the result, its index in the text rows followed by the image rows. */
  sources: tf.Tensor1D;
  /** int32 (M): the row of the result where each image row belongs. */
  targets: tf.Tensor1D;
  /** int32 (M): the number that stands for each image row in `sources`. */
  imageRows: tf.Tensor1D;
}

/**
 * Scatters indices instead of rows, and gathers the rows afterwards. This is exact even where padding overwrites a row,
 * and from the indices the gradient knows which image rows are in the result.
 */
function plan({text, images, indices}: InterleaveInputs): Plan {
  const [batch, length] = text.shape as [number, number];
  const rows = batch * length;
  const imageRows = tf.range(rows, rows + images.shape[0]!, 1, 'int32');
  const starts = tf.reshape(tf.range(0, rows, length, 'int32'), [batch, 1]);
  const targets = tf.reshape(tf.add(indices, starts), [-1]) as tf.Tensor1D;
  // The CPU backend's scatter writes into its input, so the range must not be shared.
  const placed = tf.tensorScatterUpdate(
    tf.range(0, rows, 1, 'int32'),
    tf.reshape(targets, [-1, 1]) as tf.Tensor2D,
    imageRows,
  );
  // Index 0 is padding, so the first row of each sample stays text.
  const others = tf.slice(tf.reshape(placed, [batch, length]), [0, 1], [batch, length - 1]);
  const sources = tf.reshape(tf.concat([starts, others], 1), [-1]) as tf.Tensor1D;
  return {sources, targets, imageRows};
}

/** (rows, 1), 1 where the flags are true. */
const column = (flags: tf.Tensor) => tf.reshape(tf.cast(flags, 'float32'), [-1, 1]);

export const interleaveOp: Op<InterleaveInputs, Record<string, never>> = {
  name: 'Gemma3Interleave',
  reference: inputs =>
    tf.tidy(() => {
      const {text, images} = inputs;
      const rows = tf.concat([tf.reshape(text, [-1, images.shape[1]!]), images], 0);
      return tf.reshape(tf.gather(rows, plan(inputs).sources), text.shape);
    }),
  gradient: (dy, inputs) => ({
    text: () =>
      tf.tidy(() => {
        const {sources} = plan(inputs);
        const kept = column(tf.less(sources, tf.scalar(sources.size, 'int32')));
        return tf.mul(dy, tf.reshape(kept, [...dy.shape.slice(0, 2), 1]));
      }),
    images: () =>
      tf.tidy(() => {
        const {sources, targets, imageRows} = plan(inputs);
        const used = column(tf.equal(tf.gather(sources, targets), imageRows));
        return tf.mul(tf.gather(tf.reshape(dy, [-1, dy.shape[2]!]), targets), used);
      }),
  }),
};

/**
 * Row m of `images` replaces row `indices[m]` of its sample; rows for index 0 are dropped.
 *
 * text: (B, T, D), images: (B · K, D), indices: int32 (B, K) → (B, T, D).
 *
 * @throws ValueError for indices outside the text, on backends whose tensors the host can read.
 */
export function interleave(text: tf.Tensor3D, images: tf.Tensor2D, indices: tf.Tensor2D): tf.Tensor3D {
  // Kernels are broken for empty tensors on several backends.
  if (images.size === 0 || text.size === 0) return text.clone();
  const length = text.shape[1];
  checkIndexTensor(indices, {
    what: 'vision indices',
    limit: length,
    of: `the positions of a text of ${length} tokens`,
    advice: "Take them from this model's preprocessor, count from 0 in each row, and pad them with 0.",
  });
  return tf.tidy(() => runOp(interleaveOp, {text, images, indices: tf.cast(indices, 'int32')}, {}) as tf.Tensor3D);
}
