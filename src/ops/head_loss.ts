/**
 * The loss of given tokens from hidden states: projection to the vocabulary and cross-entropy in one operation, so that
 * the logits of all tokens are never in memory at once. For 1,000 tokens over Gemma's vocabulary they would take a
 * gigabyte.
 */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {checkIndexTensor} from '../weights/host_values';
import {PackedWeight} from '../weights/packed_weight';
import {type Packing} from '../weights/packing';
import {type Attributes, type Inputs, type KeepingOp, runKeepingOp, tapeIsOn} from './op';
import {softCap} from './soft_cap';
import {targetRange} from './token_loss';

export interface HeadLossInputs extends Inputs {
  /** (N, D) */
  hidden: tf.Tensor;
  /** W (V, D): float32, or the bits of `packing`. */
  table: tf.Tensor;
  /** int32 (N), each below V. */
  targets: tf.Tensor;
}

export interface HeadLossAttrs extends Attributes {
  /** V */
  vocabulary: number;
  /** Packing of the table; null for float32. */
  packing: Packing | null;
  /** Cap on the logits; null for none. */
  softCap: number | null;
  /** Whether to compute the gradient for `hidden` as well, which doubles the cost. */
  gradients: boolean;
  /** Number of logits that the reference may hold at once. */
  logitsAtOnce: number;
}

/** 16 MB of float32. */
const LOGITS_AT_ONCE = 1 << 22;

/** x (n, D) · Wᵀ → (n, V) */
function logitsOf(x: tf.Tensor, {table}: {table: tf.Tensor}, attrs: HeadLossAttrs): tf.Tensor {
  const {packing, vocabulary} = attrs;
  const rows = x as tf.Tensor2D;
  const logits = packing
    ? packing.matMul(rows, table as tf.Tensor2D, vocabulary, x.shape[1]!)
    : tf.matMul(rows, table as tf.Tensor2D, false, true);
  return softCap(logits, attrs.softCap);
}

/** Gradient of the losses for the uncapped logits: (probabilities − one-hot targets) · derivative of the cap. */
function logitGradients(logits: tf.Tensor, targets: tf.Tensor, cap: number | null): tf.Tensor {
  const oneHot = tf.oneHot(targets as tf.Tensor1D, logits.shape[1]!);
  const d = tf.sub(tf.softmax(logits as tf.Tensor2D), oneHot);
  return cap === null ? d : tf.mul(d, tf.sub(1, tf.square(tf.div(logits, cap))));
}

/** Splits the tokens into chunks of hidden (n, D) and targets (n). */
function chunksOf({hidden, targets}: HeadLossInputs, attrs: HeadLossAttrs): [x: tf.Tensor, ids: tf.Tensor][] {
  const [count, width] = hidden.shape as [number, number];
  const step = Math.max(1, Math.floor(attrs.logitsAtOnce / attrs.vocabulary));
  return Array.from({length: Math.ceil(count / step)}, (_, i) => {
    const n = Math.min(step, count - i * step);
    return [tf.slice(hidden, [i * step, 0], [n, width]), tf.slice(targets, i * step, n)];
  });
}

/** Losses (N) and, if wanted, the gradient of each for its row of `hidden`, (N, D). */
function lossesAndGradients(inputs: HeadLossInputs, attrs: HeadLossAttrs): [losses: tf.Tensor, gradients?: tf.Tensor] {
  const {packing, vocabulary} = attrs;
  const table = inputs.table as tf.Tensor2D;
  return tf.tidy(() => {
    const parts = chunksOf(inputs, attrs).map(([x, ids]) =>
      tf.tidy(() => {
        const logits = logitsOf(x, inputs, attrs);
        const places = tf.stack([tf.range(0, x.shape[0]!, 1, 'int32'), ids], 1);
        const loss = tf.sub(tf.logSumExp(logits, -1), tf.gatherND(logits, places));
        if (!attrs.gradients) return [loss];
        const d = logitGradients(logits, ids, attrs.softCap) as tf.Tensor2D;
        return [loss, packing ? packing.matMulTransposed(d, table, vocabulary, x.shape[1]!) : tf.matMul(d, table)];
      }),
    );
    const all = (index: number) =>
      tf.concat(
        parts.map(part => part[index]!),
        0,
      );
    return attrs.gradients ? [all(0), all(1)] : [all(0)];
  });
}

/**
 * Gradient for the table, (V, D), from dy (N). Computed in chunks of rows of the vocabulary, so that no partial sums of
 * the size of the whole table are needed.
 */
function tableGradient(dy: tf.Tensor, inputs: HeadLossInputs, attrs: HeadLossAttrs): tf.Tensor {
  const {hidden, table, targets} = inputs;
  const [count, width] = hidden.shape as [number, number];
  const {vocabulary, softCap: cap} = attrs;
  return tf.tidy(() => {
    const [loss] = lossesAndGradients(inputs, {...attrs, gradients: false});
    const own = softCap(tf.sum(tf.mul(hidden, tf.gather(table, targets as tf.Tensor1D)), 1), cap);
    const logSums = tf.expandDims(tf.add(loss, own), 1); // (N, 1)
    const weighted = tf.mul(hidden, tf.expandDims(dy, 1)) as tf.Tensor2D;
    const step = Math.max(1, Math.floor(attrs.logitsAtOnce / count));
    const parts = Array.from({length: Math.ceil(vocabulary / step)}, (_, i) =>
      tf.tidy(() => {
        const n = Math.min(step, vocabulary - i * step);
        const rows = tf.slice(table, [i * step, 0], [n, width]) as tf.Tensor2D;
        const logits = softCap(tf.matMul(hidden as tf.Tensor2D, rows, false, true), cap);
        const ids = tf.sub(targets, tf.scalar(i * step, 'int32')).toInt();
        const inside = tf.logicalAnd(tf.greaterEqual(ids, 0), tf.less(ids, n)).toInt();
        const oneHot = tf.mul(tf.oneHot(tf.mul(ids, inside).toInt(), n), tf.expandDims(inside.toFloat(), 1));
        let d = tf.sub(tf.exp(tf.sub(logits, logSums)), oneHot);
        if (cap !== null) d = tf.mul(d, tf.sub(1, tf.square(tf.div(logits, cap))));
        return tf.matMul(d as tf.Tensor2D, weighted, true);
      }),
    );
    return tf.concat(parts, 0);
  });
}

/**
 * Returns the losses. With `gradients` set, it keeps their gradients for `hidden` as well, to be scaled by dy later.
 */
export const headLossOp: KeepingOp<HeadLossInputs, HeadLossAttrs> = {
  name: 'Gemma3HeadLoss',
  reference: lossesAndGradients,
  gradient: (dy, inputs, gradients, attrs) => ({
    // Gradients of gradients need operations that the tape can see.
    hidden: () =>
      tf.tidy(() => tf.mul(tapeIsOn() ? lossesAndGradients(inputs, attrs)[1]! : gradients, tf.expandDims(dy, 1))),
    table: () => tableGradient(dy, inputs, attrs),
  }),
};

/**
 * `−log softmax(cap(hidden · Wᵀ))[target]` of each token, (N). hidden: (N, D), W: (V, D), float32 or packed; targets:
 * int32 (N). Has gradients for hidden, and for W if it is float32.
 *
 * While tfjs records, the gradient for hidden is computed together with the losses, from the same logits: a training
 * step then needs two products with W instead of three.
 *
 * @throws ValueError if shapes do not fit, and for targets outside the vocabulary, on backends whose tensors the host
 * can read.
 */
export function headLoss(
  hidden: tf.Tensor2D,
  head: tf.Tensor2D | PackedWeight,
  targets: tf.Tensor1D,
  {softCap = null}: {softCap?: number | null} = {},
): tf.Tensor1D {
  const [count, width] = hidden.shape;
  const [vocabulary, columns] = head.shape as [number, number];
  if (width !== columns || targets.rank !== 1 || targets.shape[0] !== count) {
    throw new ValueError(
      'The head loss expected hidden states (tokens, width), a table (vocabulary, width) and targets (tokens). ' +
        `Received: [${hidden.shape}], [${head.shape}] and [${targets.shape}].`,
    );
  }
  if (count === 0) return tf.zeros([0]);
  checkIndexTensor(targets, targetRange(vocabulary));
  const packed = head instanceof PackedWeight;
  return tf.tidy(() => {
    const inputs = {hidden, table: packed ? head.bits : head, targets: tf.cast(targets, 'int32')};
    const packing = packed ? head.packing : null;
    const attrs = {vocabulary, packing, softCap, gradients: tapeIsOn(), logitsAtOnce: LOGITS_AT_ONCE};
    return runKeepingOp(headLossOp, inputs, attrs) as tf.Tensor1D;
  });
}
