/**
 * Grouped-query attention, https://arxiv.org/abs/2305.13245. Positions, not a mask matrix, determine which keys a query
 * sees: the reference builds a mask from them, and a kernel skips hidden keys.
 */
import * as tf from '@tensorflow/tfjs';
import {type Attributes, type Inputs, type Op, runGradients, runOp, type SeveralOp} from './op';
import {softCap} from './soft_cap';

export interface AttentionInputs extends Inputs {
  /** (B, T, N, H) */
  q: tf.Tensor4D;
  /**
   * (B, S, K, H), K divides N: consecutive queries share a key head. Kernels of backends that store bfloat16 also take
   * int32 (B, S, K, H / 2): see `bfloat16_cache`.
   */
  k: tf.Tensor4D;
  /** (B, S, K, H), or int32 as k. */
  v: tf.Tensor4D;
  /** int32 (1 or B, T): position of each query. */
  queryPositions: tf.Tensor2D;
  /** int32 (1 or B, S): position of each key; −1 marks an empty slot. */
  keyPositions: tf.Tensor2D;
}

/** Optional inputs. */
export interface AttentionMasks extends Inputs {
  /** int32 (B, S): 1 for keys that are not padding. */
  paddingMask: tf.Tensor2D;
  /** int32 (B, T) and (B, S): the number of each token's image, 0 for text. Tokens of the same image see each other. */
  queryImages: tf.Tensor2D;
  keyImages: tf.Tensor2D;
  /** (B, T, S): any other mask; 0 hides a key. */
  attentionMask: tf.Tensor3D;
}

export interface AttentionAttrs extends Attributes {
  /** Queries are multiplied by this. */
  scale: number;
  /** Soft cap on the logits before the mask; null for none. */
  logitSoftCap: number | null;
  /** Sliding window: keys at this distance or more are hidden; null for no window. */
  window: number | null;
  /** If true, a query also sees later keys, and the window extends half its size to each side. */
  bidirectional: boolean;
}

type AllInputs = AttentionInputs & Partial<AttentionMasks>;

/** Boolean (1 or B, 1 or T, S): which keys each query sees. */
export function attentionVisibility(inputs: Omit<AllInputs, 'q' | 'k' | 'v'>, attrs: AttentionAttrs): tf.Tensor3D {
  return tf.tidy(() => {
    const {queryPositions, keyPositions, paddingMask, queryImages, keyImages, attentionMask} = inputs as AllInputs;
    const i = tf.expandDims(queryPositions, 2); // (B, T, 1)
    const j = tf.expandDims(keyPositions, 1); // (B, 1, S)
    const distance = tf.sub(i, j);
    const zero = tf.scalar(0, 'int32');
    let seen: tf.Tensor = tf.greaterEqual(j, zero);
    if (!attrs.bidirectional) {
      let order: tf.Tensor = tf.greaterEqual(distance, zero);
      if (queryImages && keyImages) {
        const queryImage = tf.expandDims(queryImages, 2);
        const keyImage = tf.expandDims(keyImages, 1);
        const sameImage = tf.logicalAnd(tf.equal(queryImage, keyImage), tf.greater(queryImage, zero));
        order = tf.logicalOr(order, sameImage);
      }
      seen = tf.logicalAnd(seen, order);
    }
    if (paddingMask) {
      seen = tf.logicalAnd(seen, tf.cast(tf.expandDims(paddingMask, 1), 'bool'));
      // Embedding models are bidirectional. In them, padding tokens see nothing either.
      if (attrs.bidirectional) seen = tf.logicalAnd(seen, tf.cast(tf.expandDims(paddingMask, 2), 'bool'));
    }
    if (attrs.window !== null) {
      const right = attrs.bidirectional ? Math.floor(attrs.window / 2) : attrs.window - 1;
      const left = attrs.bidirectional ? attrs.window - right - 1 : attrs.window - 1;
      seen = tf.logicalAnd(seen, tf.lessEqual(distance, tf.scalar(left, 'int32')));
      seen = tf.logicalAnd(seen, tf.greaterEqual(distance, tf.scalar(-right, 'int32')));
    }
    if (attentionMask) seen = tf.logicalAnd(seen, tf.notEqual(attentionMask, tf.zerosLike(attentionMask)));
    return seen as tf.Tensor3D;
  });
}

/** (B, T, N, H) → (B, K, G·T, H): the G = N / K query heads that share a key head, one after another. */
function groupQueries(q: tf.Tensor, keyHeads: number): tf.Tensor {
  const [b, t, n, h] = q.shape as [number, number, number, number];
  const groups = n / keyHeads;
  const split = tf.reshape(q, [b, t, keyHeads, groups, h]); // (B, T, K, G, H)
  return tf.reshape(tf.transpose(split, [0, 2, 3, 1, 4]), [b, keyHeads, groups * t, h]);
}

/** The inverse: (B, K, G·T, H) → (B, T, N, H). */
function ungroupQueries(x: tf.Tensor, length: number): tf.Tensor {
  const [b, keyHeads, rows, h] = x.shape as [number, number, number, number];
  const groups = rows / length;
  const split = tf.reshape(x, [b, keyHeads, groups, length, h]); // (B, K, G, T, H)
  return tf.reshape(tf.transpose(split, [0, 3, 1, 2, 4]), [b, length, keyHeads * groups, h]);
}

const heads = (x: tf.Tensor) => tf.transpose(x, [0, 2, 1, 3]); // (B, S, K, H) ↔ (B, K, S, H)

interface Scores {
  /** (B, K, G·T, H), scaled */
  queries: tf.Tensor;
  /** (B, K, S, H) */
  keys: tf.Tensor;
  /** (B, K, G·T, S), after the soft cap */
  logits: tf.Tensor;
  /** (B, K, G·T, S); zero in rows that see no key */
  probabilities: tf.Tensor;
}

function attend(inputs: AllInputs, attrs: AttentionAttrs): Scores {
  const {q, k} = inputs;
  const [b, t] = q.shape;
  const [, s, keyHeads] = k.shape;
  const queries = groupQueries(tf.mul(q, attrs.scale), keyHeads);
  const keys = heads(k);
  const logits = softCap(tf.matMul(queries, keys, false, true), attrs.logitSoftCap);
  const groups = q.shape[2] / keyHeads;
  const seen = tf.cast(attentionVisibility(inputs, attrs), 'float32'); // (1 or B, 1 or T, S)
  const open = tf.reshape(seen, [seen.shape[0]!, 1, 1, seen.shape[1]!, s]);
  const masked = tf.add(tf.reshape(logits, [b, keyHeads, groups, t, s]), tf.mul(tf.sub(open, 1), 1e9));
  // The softmax of a row that sees no key is meaningless; it is set to zero, as in KerasHub.
  const probabilities = tf.mul(tf.softmax(masked), tf.max(open, -1, true));
  return {queries, keys, logits, probabilities: tf.reshape(probabilities, [b, keyHeads, groups * t, s])};
}

export const attentionOp: Op<AllInputs, AttentionAttrs> = {
  name: 'Gemma3Attention',
  reference: (inputs, attrs) =>
    tf.tidy(() => {
      const {probabilities} = attend(inputs, attrs);
      return ungroupQueries(tf.matMul(probabilities, heads(inputs.v)), inputs.q.shape[1]);
    }),
  gradient: (dy, inputs, attrs) => {
    // All three at once: they share most of the work, and are nearly always needed together.
    const [q, k, v] = runGradients(attentionGradientOp, {...inputs, dy}, attrs);
    return {q: () => q!, k: () => k!, v: () => v!};
  },
};

type GradientInputs = AllInputs & {dy: tf.Tensor};

/** Gradient with respect to the logits before the soft cap, (B, K, G·T, S). */
function dLogits({k, v, dy}: GradientInputs, {logits, probabilities}: Scores, cap: number | null): tf.Tensor {
  const dProbabilities = tf.matMul(groupQueries(dy, k.shape[2]), heads(v), false, true);
  const weighted = tf.mul(dProbabilities, probabilities);
  const d = tf.sub(weighted, tf.mul(probabilities, tf.sum(weighted, -1, true)));
  return cap === null ? d : tf.mul(d, tf.sub(1, tf.square(tf.div(logits, cap))));
}

/** Gradients for q, k and v, from the gradient of the result. */
export const attentionGradientOp: SeveralOp<GradientInputs, AttentionAttrs> = {
  name: 'Gemma3AttentionGradient',
  reference: (inputs, attrs) =>
    tf.tidy(() => {
      const scores = attend(inputs, attrs);
      const d = dLogits(inputs, scores, attrs.logitSoftCap);
      const dq = tf.mul(ungroupQueries(tf.matMul(d, scores.keys), inputs.q.shape[1]), attrs.scale);
      const dk = heads(tf.matMul(d, scores.queries, true));
      return [dq, dk, heads(tf.matMul(scores.probabilities, groupQueries(inputs.dy, inputs.k.shape[2]), true))];
    }),
};

/** → (B, T, N, H). */
export function attention(inputs: AllInputs, attrs: AttentionAttrs): tf.Tensor4D {
  return runOp(attentionOp, inputs, attrs) as tf.Tensor4D;
}

/** The seed of one of the two dropouts of a block, from the seed of the block. */
export const dropoutSeed = (seed: number | string | undefined, index: 0 | 1): string | undefined =>
  seed === undefined ? undefined : `${seed}/${index}`;

/**
 * Like {@link attention}, with dropout on the probabilities, for training. Runs plain operations, which the tape
 * records one by one.
 */
export function attentionWithDropout(
  inputs: AllInputs,
  attrs: AttentionAttrs,
  rate: number,
  seed?: string,
): tf.Tensor4D {
  return tf.tidy(() => {
    const probabilities = tf.dropout(attend(inputs, attrs).probabilities, rate, undefined, seed);
    return ungroupQueries(tf.matMul(probabilities, heads(inputs.v)), inputs.q.shape[1]) as tf.Tensor4D;
  });
}
