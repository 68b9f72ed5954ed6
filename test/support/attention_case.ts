/** Random attention problems, and their results computed by loops in double precision. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {type AttentionAttrs, type AttentionInputs, type AttentionMasks} from '../../src/ops/attention';
import {normal, uniform} from './random';

export interface AttentionCase {
  inputs: AttentionInputs & Partial<AttentionMasks>;
  attrs: AttentionAttrs;
}

export const attentionSettings = fc.record({
  batch: fc.integer({min: 1, max: 3}),
  length: fc.integer({min: 1, max: 6}),
  /** Number of keys before the new ones, as in a cache. */
  before: fc.integer({min: 0, max: 5}),
  keyHeads: fc.integer({min: 1, max: 3}),
  groups: fc.integer({min: 1, max: 3}),
  width: fc.integer({min: 1, max: 5}),
  window: fc.option(fc.integer({min: 1, max: 7})),
  bidirectional: fc.boolean(),
  logitSoftCap: fc.option(fc.constantFrom(0.5, 3)),
  padding: fc.boolean(),
  images: fc.boolean(),
  attentionMask: fc.boolean(),
  /** Each row has its own positions, in any order, and empty slots. */
  positionsByRow: fc.boolean(),
  seed: fc.integer({min: 1, max: 1e6}),
});

export type AttentionSettings = typeof attentionSettings extends fc.Arbitrary<infer T> ? T : never;

export function attentionCase(s: AttentionSettings): AttentionCase {
  const random = uniform(s.seed);
  // With padding and bidirectional attention, queries and keys are the same tokens.
  const before = s.bidirectional && s.padding ? 0 : s.before;
  const size = before + s.length;
  const rows = s.positionsByRow ? s.batch : 1;
  const ints = (shape: [number, number], at: (row: number, i: number) => number) =>
    tf.tensor2d(
      Array.from({length: shape[0]}, (_, row) => Array.from({length: shape[1]}, (_, i) => at(row, i))),
      shape,
      'int32',
    );
  const starts = Array.from({length: rows}, () => (s.positionsByRow ? before + Math.floor(random() * 4) : before));
  const keys = starts.map(start =>
    Array.from({length: size}, (_, i) =>
      !s.positionsByRow ? i : random() < 0.2 ? -1 : i < before ? Math.floor(random() * start) : start + i - before,
    ),
  );
  const imageOf = Array.from({length: s.batch}, () => Array.from({length: size}, () => Math.floor(random() * 3)));
  const optional: Partial<AttentionMasks> = {};
  if (s.padding) optional.paddingMask = ints([s.batch, size], () => (random() < 0.7 ? 1 : 0));
  if (s.images) {
    optional.queryImages = ints([s.batch, s.length], (row, i) => imageOf[row]![before + i]!);
    optional.keyImages = ints([s.batch, size], (row, i) => imageOf[row]![i]!);
  }
  if (s.attentionMask) {
    const values = Array.from({length: s.batch * s.length * size}, () => (random() < 0.7 ? 1 : 0));
    optional.attentionMask = tf.tensor3d(values, [s.batch, s.length, size], random() < 0.5 ? 'float32' : 'bool');
  }
  const vectors = (count: number, heads: number, seed: number) =>
    normal([s.batch, count, heads, s.width], s.seed + seed) as tf.Tensor4D;
  return {
    inputs: {
      q: vectors(s.length, s.keyHeads * s.groups, 1),
      k: vectors(size, s.keyHeads, 2),
      v: vectors(size, s.keyHeads, 3),
      queryPositions: ints([rows, s.length], (row, i) => starts[row]! + i),
      keyPositions: ints([rows, size], (row, i) => keys[row]![i]!),
      ...optional,
    },
    attrs: {scale: 0.7, logitSoftCap: s.logitSoftCap, window: s.window, bidirectional: s.bidirectional},
  };
}

/** Which keys each query sees, (B, T, S) of 0 and 1, as KerasHub documents it. */
export function visible({inputs, attrs}: AttentionCase): number[][][] {
  const {q, k, queryPositions, keyPositions, paddingMask, queryImages, keyImages, attentionMask} = inputs;
  const at = (tensor: tf.Tensor2D) => {
    const rows = tensor.arraySync();
    return (row: number, i: number) => rows[rows.length === 1 ? 0 : row]![i]!;
  };
  const [query, key] = [at(queryPositions), at(keyPositions)];
  const padding = paddingMask && at(paddingMask);
  const images = queryImages && keyImages && ([at(queryImages), at(keyImages)] as const);
  const extra = attentionMask?.arraySync();
  const sees = (b: number, t: number, s: number): boolean => {
    const [i, j] = [query(b, t), key(b, s)];
    if (j === -1) return false;
    if (padding && !padding(b, s)) return false;
    if (extra && !extra[b]![t]![s]) return false;
    if (attrs.bidirectional) {
      if (padding && !padding(b, t)) return false;
      const w = attrs.window;
      return w === null || (i - j >= -Math.floor(w / 2) && i - j <= w - Math.floor(w / 2) - 1);
    }
    const sameImage = images !== undefined && images[0](b, t) > 0 && images[0](b, t) === images[1](b, s);
    return (j <= i || sameImage) && (attrs.window === null || Math.abs(i - j) < attrs.window);
  };
  return Array.from({length: q.shape[0]}, (_, b) =>
    Array.from({length: q.shape[1]}, (_, t) => Array.from({length: k.shape[1]}, (_, s) => (sees(b, t, s) ? 1 : 0))),
  );
}

/** The result in double precision, (B, T, N, H) as a flat list. */
export function expectedAttention(c: AttentionCase): number[] {
  const {q, k, v} = c.inputs;
  const seen = visible(c);
  const [qs, ks, vs] = [q.arraySync(), k.arraySync(), v.arraySync()];
  const groups = q.shape[2] / k.shape[2];
  return qs.flatMap((row, b) =>
    row.flatMap((heads, t) =>
      heads.flatMap((query, n) => {
        const head = Math.floor(n / groups);
        const weights = ks[b]!.map((key, s) => {
          if (!seen[b]![t]![s]) return 0;
          const logit = query.reduce((sum, x, h) => sum + x * key[head]![h]!, 0) * c.attrs.scale;
          const cap = c.attrs.logitSoftCap;
          return Math.exp(cap === null ? logit : cap * Math.tanh(logit / cap));
        });
        const total = weights.reduce((a, b) => a + b, 0) || 1;
        return query.map((_, h) => weights.reduce((sum, w, s) => sum + (w / total) * vs[b]![s]![head]![h]!, 0));
      }),
    ),
  );
}

/** The same computed with tfjs operations, which have gradients. */
export function plainAttention(c: AttentionCase): (...qkv: tf.Tensor[]) => tf.Tensor {
  const seen = tf.tensor3d(visible(c));
  const blind = tf.sub(1, tf.max(seen, -1, true)); // 1 for queries that see nothing
  const {scale, logitSoftCap: cap} = c.attrs;
  const groups = c.inputs.q.shape[2] / c.inputs.k.shape[2];
  return (...qkv) => {
    // `tf.unstack` has no gradient for a single head.
    const head = (x: tf.Tensor, n: number) => {
      const [b, length, , width] = x.shape as [number, number, number, number];
      return tf.reshape(tf.slice(x, [0, 0, n, 0], [b, length, 1, width]), [b, length, width]) as tf.Tensor3D;
    };
    const [q, k, v] = qkv.map((x, i) =>
      Array.from({length: c.inputs.q.shape[2]}, (_, n) => head(x, i === 0 ? n : Math.floor(n / groups))),
    ) as [tf.Tensor3D[], tf.Tensor3D[], tf.Tensor3D[]];
    const outputs = q.map((query, n) => {
      let logits: tf.Tensor = tf.mul(tf.matMul(query, k[n]!, false, true), scale);
      if (cap !== null) logits = tf.mul(tf.tanh(tf.div(logits, cap)), cap);
      const weights = tf.mul(tf.exp(logits), seen);
      const divisor = tf.add(tf.sum(weights, -1, true), blind);
      return tf.matMul(tf.div(weights, divisor) as tf.Tensor3D, v[n]!);
    });
    return tf.concat(
      outputs.map(y => tf.expandDims(y, 2)),
      2,
    );
  };
}
