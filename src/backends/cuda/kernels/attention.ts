/** Attention over all keys of a batch. See `ops/attention.ts`. */
import * as tf from '@tensorflow/tfjs';
import {type AttentionAttrs, attentionVisibility} from '../../../ops/attention';
import {type KernelMap} from '../../kernel_map';
import {type Device, type Program} from '../device';

type Required = 'q' | 'k' | 'v' | 'queryPositions' | 'keyPositions';
type Optional = 'paddingMask' | 'queryImages' | 'keyImages' | 'attentionMask';
type Inputs = Record<Required, tf.TensorInfo> & Partial<Record<Optional, tf.TensorInfo>>;

/** Added to the logits of keys that a query cannot see. */
const HIDDEN = 1e9;

interface Sizes {
  batch: number;
  length: number;
  keys: number;
  keyHeads: number;
  groups: number;
  width: number;
}

function sizesOf({q, k}: Inputs): Sizes {
  const [batch, length, heads, width] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number];
  return {batch, length, keys, keyHeads, groups: heads / keyHeads, width};
}

/** (B, T, N, H) → (B, K, G·T, H): query heads that share a key head, one after another. */
function groupQueries(p: Program, q: number, {batch, length, keyHeads, groups, width}: Sizes): number {
  const grouped = [batch, keyHeads, groups * length, width];
  if (length === 1) return p.reshape(q, grouped);
  const split = p.reshape(q, [batch, length, keyHeads, groups, width]);
  return p.reshape(p.transpose(split, [0, 2, 3, 1, 4]), grouped);
}

/** The inverse. */
function ungroupQueries(p: Program, x: number, {batch, length, keyHeads, groups, width}: Sizes): number {
  const shape = [batch, length, keyHeads * groups, width];
  if (length === 1) return p.reshape(x, shape);
  const split = p.reshape(x, [batch, keyHeads, groups, length, width]);
  return p.reshape(p.transpose(split, [0, 3, 1, 2, 4]), shape);
}

/** (B, S, K, H) → (B, K, S, H) */
const byHead = (p: Program, x: number, {batch, keys, keyHeads, width}: Sizes): number =>
  keyHeads === 1 ? p.reshape(x, [batch, 1, keys, width]) : p.transpose(x, [0, 2, 1, 3]);

/** (B, K, S, H) → (B, S, K, H) */
const byPosition = (p: Program, x: number, {batch, keys, keyHeads, width}: Sizes): number =>
  keyHeads === 1 ? p.reshape(x, [batch, keys, 1, width]) : p.transpose(x, [0, 2, 1, 3]);

/** What is visible: added to logits, and whether each query sees a key. (B or 1, 1, 1, T or 1, S), and (…, 1, 1). */
interface Masks {
  hidden: tf.Tensor;
  sees: tf.Tensor;
}

function masksOf({q: _q, k: _k, v: _v, ...positions}: Inputs, attrs: AttentionAttrs): Masks {
  return tf.tidy(() => {
    const seen = attentionVisibility(positions as never, attrs); // (B or 1, T or 1, S)
    const [batch, length, keys] = seen.shape;
    const open = tf.reshape(tf.cast(seen, 'float32'), [batch, 1, 1, length, keys]);
    return {
      hidden: tf.mul(tf.sub(open, 1), HIDDEN),
      sees: tf.reshape(tf.any(seen, -1), [batch, length, 1, 1]).toFloat(),
    };
  }) as object as Masks;
}

interface Scores {
  /** (B, K, G·T, H), scaled. */
  queries: number;
  /** (B, K, S, H) */
  keys: number;
  /** tanh(logits / cap) if there is a cap, else undefined. */
  capped: number | undefined;
  /** (B, K, G·T, S) */
  probabilities: number;
}

function scoresOf(p: Program, {q, k}: Inputs, attrs: AttentionAttrs, masks: Masks, sizes: Sizes): Scores {
  const {batch, length, keyHeads, groups} = sizes;
  const queries = groupQueries(p, p.scale(p.of(q), attrs.scale), sizes);
  const keys = byHead(p, p.of(k), sizes);
  let logits = p.batchMatMul(queries, keys, false, true);
  const cap = attrs.logitSoftCap;
  const capped = cap === null ? undefined : p.tanh(p.scale(logits, 1 / cap));
  if (capped !== undefined) logits = p.scale(capped, cap!);
  const split = p.reshape(logits, [batch, keyHeads, groups, length, sizes.keys]);
  const shown = p.softmax(p.add(split, p.of(masks.hidden)));
  return {queries, keys, capped, probabilities: p.reshape(shown, [batch, keyHeads, groups * length, sizes.keys])};
}

/** Masks are tensors of tfjs. */
function withMasks<T>(inputs: Inputs, attrs: AttentionAttrs, run: (masks: Masks) => T): T {
  const masks = masksOf(inputs, attrs);
  try {
    return run(masks);
  } finally {
    tf.dispose([masks.hidden, masks.sees]);
  }
}

/** Gradients for q, k and v. */
function gradients(device: Device, inputs: Inputs & {dy: tf.TensorInfo}, attrs: AttentionAttrs): tf.TensorInfo[] {
  const {dy, ...forward} = inputs;
  const sizes = sizesOf(inputs);
  return withMasks(forward, attrs, masks =>
    device.program(p => {
      const {queries, keys, capped, probabilities} = scoresOf(p, inputs, attrs, masks, sizes);
      const dOut = groupQueries(p, p.mul(p.of(dy), p.of(masks.sees)), sizes);
      const dv = p.batchMatMul(probabilities, dOut, true);
      const weighted = p.mul(p.batchMatMul(dOut, byHead(p, p.of(inputs.v), sizes), false, true), probabilities);
      let d = p.sub(weighted, p.mul(probabilities, p.sum(weighted, -1)));
      if (capped !== undefined) d = p.mul(d, p.plus(p.scale(p.square(capped), -1), 1));
      const dq = p.scale(ungroupQueries(p, p.batchMatMul(d, keys), sizes), attrs.scale);
      const dk = p.batchMatMul(d, queries, true);
      return [
        p.take(dq, inputs.q.shape),
        p.take(byPosition(p, dk, sizes), inputs.k.shape),
        p.take(byPosition(p, dv, sizes), inputs.v.shape),
      ];
    }),
  );
}

export const attentionKernels = (device: Device): KernelMap => ({
  Gemma3Attention: ({inputs: given, attrs: attributes}) => {
    const inputs = given as object as Inputs;
    const attrs = attributes as object as AttentionAttrs;
    const sizes = sizesOf(inputs);
    return withMasks(inputs, attrs, masks =>
      device.program(p => {
        const {probabilities} = scoresOf(p, inputs, attrs, masks, sizes);
        const seen = p.batchMatMul(probabilities, byHead(p, p.of(inputs.v), sizes));
        // A query that sees no key gets zeros, as in KerasHub.
        return p.take(p.mul(ungroupQueries(p, seen, sizes), p.of(masks.sees)), inputs.q.shape);
      }),
    );
  },
  Gemma3AttentionGradient: ({inputs, attrs}) =>
    gradients(device, inputs as object as Inputs & {dy: tf.TensorInfo}, attrs as object as AttentionAttrs),
});
