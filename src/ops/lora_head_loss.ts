/**
 * The loss of given tokens from hidden states, as `head_loss.ts`, with a head that has LoRA. The logits of all tokens
 * are never in memory at once here either: the gradients recompute them, a few tokens at a time.
 */
import * as tf from '@tensorflow/tfjs';
import {checkIndexTensor} from '../weights/host_values';
import {PackedWeight} from '../weights/packed_weight';
import {type Packing} from '../weights/packing';
import {type Attributes, type Inputs, type Op, runGradients, runOp, type SeveralOp} from './op';
import {softCap} from './soft_cap';
import {targetRange, tokenLoss} from './token_loss';

interface LoraHeadLossInputs extends Inputs {
  /** (N, D) */
  hidden: tf.Tensor;
  /** W (V, D): float32, or the bits of `packing`. Frozen. */
  table: tf.Tensor;
  /** A (V, rank) */
  a: tf.Tensor;
  /** B (rank, D) */
  b: tf.Tensor;
  /** int32 (N), each below V. */
  targets: tf.Tensor;
}

interface LoraHeadLossAttrs extends Attributes {
  /** Packing of the table; null for float32. */
  packing: Packing | null;
  /** A · B is scaled by this. */
  scale: number;
  /** Cap on the logits; null for none. */
  softCap: number | null;
  /** Maximum number of logits in memory at once. */
  logitsAtOnce: number;
}

/** 64 MB of float32. */
const LOGITS_AT_ONCE = 1 << 24;

/** First token and number of tokens of each chunk. */
function chunksOf({hidden, a}: LoraHeadLossInputs, {logitsAtOnce}: LoraHeadLossAttrs): [first: number, n: number][] {
  const count = hidden.shape[0]!;
  const step = Math.max(1, Math.floor(logitsAtOnce / a.shape[0]!));
  return Array.from({length: Math.ceil(count / step)}, (_, i) => [i * step, Math.min(step, count - i * step)]);
}

const rowsOf = (x: tf.Tensor, [first, n]: [number, number]) =>
  tf.slice(x, [first, ...x.shape.slice(1).map(() => 0)], [n, ...x.shape.slice(1)]);

/** x (n, D) → `between`, which is scale · x · Bᵀ, (n, rank), and the logits after the cap, (n, V). */
function logitsOf(x: tf.Tensor2D, {table, a, b}: LoraHeadLossInputs, attrs: LoraHeadLossAttrs) {
  const {packing, scale} = attrs;
  const w = table as tf.Tensor2D;
  const between = tf.mul(tf.matMul(x, b as tf.Tensor2D, false, true), scale) as tf.Tensor2D;
  const base = packing ? packing.matMul(x, w, a.shape[0]!, x.shape[1]) : tf.matMul(x, w, false, true);
  const logits = softCap(tf.add(base, tf.matMul(between, a as tf.Tensor2D, false, true)), attrs.softCap);
  return {between, logits: logits as tf.Tensor2D};
}

export const loraHeadLossOp: Op<LoraHeadLossInputs, LoraHeadLossAttrs> = {
  name: 'Gemma3LoraHeadLoss',
  reference: (inputs, attrs) =>
    tf.tidy(() => {
      const parts = chunksOf(inputs, attrs).map(chunk =>
        tf.tidy(() => {
          const {logits} = logitsOf(rowsOf(inputs.hidden, chunk) as tf.Tensor2D, inputs, attrs);
          return tokenLoss(logits, rowsOf(inputs.targets, chunk));
        }),
      );
      return tf.concat(parts, 0);
    }),
  gradient: (dy, inputs, attrs) => {
    // All three at once: they share the logits, which are most of the work.
    const [hidden, a, b] = runGradients(loraHeadLossGradientOp, {...inputs, dy}, attrs);
    return {hidden: () => hidden!, a: () => a!, b: () => b!};
  },
};

/** Gradients for hidden, A and B. */
export const loraHeadLossGradientOp: SeveralOp<LoraHeadLossInputs & {dy: tf.Tensor}, LoraHeadLossAttrs> = {
  name: 'Gemma3LoraHeadLossGradient',
  reference: (inputs, attrs) =>
    tf.tidy(() => {
      const {packing, scale, softCap: cap} = attrs;
      const [w, a, b] = [inputs.table as tf.Tensor2D, inputs.a as tf.Tensor2D, inputs.b as tf.Tensor2D];
      const hidden: tf.Tensor[] = [];
      let sums: tf.Tensor[] = [tf.zerosLike(a), tf.zerosLike(b)];
      for (const chunk of chunksOf(inputs, attrs)) {
        const [dx, ...next] = tf.tidy(() => {
          const x = rowsOf(inputs.hidden, chunk) as tf.Tensor2D;
          const {between, logits} = logitsOf(x, inputs, attrs);
          // The gradient for the logits before the cap.
          const oneHot = tf.oneHot(rowsOf(inputs.targets, chunk) as tf.Tensor1D, a.shape[0]);
          let d = tf.mul(tf.sub(tf.softmax(logits), oneHot), tf.expandDims(rowsOf(inputs.dy, chunk), 1)) as tf.Tensor2D;
          if (cap !== null) d = tf.mul(d, tf.sub(1, tf.square(tf.div(logits, cap))));
          const e = tf.mul(tf.matMul(d, a), scale) as tf.Tensor2D; // (n, rank)
          const base = packing ? packing.matMulTransposed(d, w, a.shape[0], x.shape[1]) : tf.matMul(d, w);
          return [
            tf.add(base, tf.matMul(e, b)),
            tf.add(sums[0]!, tf.matMul(d, between, true)),
            tf.add(sums[1]!, tf.matMul(e, x, true)),
          ];
        });
        tf.dispose(sums);
        hidden.push(dx!);
        sums = next;
      }
      return [tf.concat(hidden, 0), ...sums];
    }),
};

/**
 * `−log softmax(cap(hidden · (W + scale · A · B)ᵀ))[target]` of each token, (N). hidden: (N, D), W: (V, D), float32 or
 * packed, A: (V, rank), B: (rank, D), targets: int32 (N). Has gradients for hidden, A and B, not for W.
 *
 * @throws ValueError for targets outside the vocabulary, on backends whose tensors the host can read.
 */
export function loraHeadLoss(
  hidden: tf.Tensor2D,
  head: tf.Tensor2D | PackedWeight,
  lora: {a: tf.Tensor; b: tf.Tensor; scale: number},
  targets: tf.Tensor1D,
  {softCap = null, logitsAtOnce = LOGITS_AT_ONCE}: {softCap?: number | null; logitsAtOnce?: number} = {},
): tf.Tensor1D {
  if (hidden.shape[0] === 0) return tf.zeros([0]);
  checkIndexTensor(targets, targetRange(head.shape[0]!));
  const packed = head instanceof PackedWeight;
  return tf.tidy(() => {
    const {a, b, scale} = lora;
    const inputs = {hidden, table: packed ? head.bits : head, a, b, targets: tf.cast(targets, 'int32')};
    return runOp(loraHeadLossOp, inputs, {
      packing: packed ? head.packing : null,
      scale,
      softCap,
      logitsAtOnce,
    }) as tf.Tensor1D;
  });
}
