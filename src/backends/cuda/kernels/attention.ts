/** Attention over all keys of a batch. See `ops/attention.ts`. */
import {type TensorInfo} from '@tensorflow/tfjs';
import {type AttentionAttrs} from '../../../ops/attention';
import {type KernelMap} from '../../kernel_map';
import {type Device, type Program} from '../device';
import {type MaskInputs, type Masks, type Part, withMasks} from './masks';

type Inputs = Record<'q' | 'k' | 'v', TensorInfo> & MaskInputs;

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

/**
 * (B, T, N, H) → (B, K, rows, H), the rows of all query heads that share a key head: (G, T), but (T, G) where all do,
 * which is the order that they have.
 */
function groupQueries(p: Program, q: number, {batch, length, keyHeads, groups, width}: Sizes): number {
  const grouped = [batch, keyHeads, groups * length, width];
  if (length === 1 || keyHeads === 1) return p.reshape(q, grouped);
  const split = p.reshape(q, [batch, length, keyHeads, groups, width]);
  return p.reshape(p.transpose(split, [0, 2, 3, 1, 4]), grouped);
}

/** The inverse. */
function ungroupQueries(p: Program, x: number, {batch, length, keyHeads, groups, width}: Sizes): number {
  const shape = [batch, length, keyHeads * groups, width];
  if (length === 1 || keyHeads === 1) return p.reshape(x, shape);
  const split = p.reshape(x, [batch, keyHeads, groups, length, width]);
  return p.reshape(p.transpose(split, [0, 3, 1, 2, 4]), shape);
}

/** (B, S, K, H) → (B, K, S, H) */
const byHead = (p: Program, x: number, {batch, keys, keyHeads, width}: Sizes): number =>
  keyHeads === 1 ? p.reshape(x, [batch, 1, keys, width]) : p.transpose(x, [0, 2, 1, 3]);

/** (B, K, S, H) → (B, S, K, H) */
const byPosition = (p: Program, x: number, {batch, keys, keyHeads, width}: Sizes): number =>
  keyHeads === 1 ? p.reshape(x, [batch, keys, 1, width]) : p.transpose(x, [0, 2, 1, 3]);

type Hidden = Pick<Masks, 'hidden' | 'shape'>;

/** Logits (B, K, rows, S) with what is hidden. */
function masked(p: Program, logits: number, {hidden, shape}: Hidden, sizes: Sizes): number {
  const {batch, length, keyHeads, groups, keys} = sizes;
  const [rows, queries] = shape;
  const inOrder = keyHeads === 1;
  const split = inOrder ? [batch, length, groups, keys] : [batch, keyHeads, groups, length, keys];
  const own = inOrder ? [rows, queries, 1, keys] : [rows, 1, 1, queries, keys];
  return p.add(p.reshape(logits, split), p.reshape(hidden, own));
}

interface Scores {
  /** (B, K, rows, H) */
  queries: number;
  /** (B, K, S, H), scaled. */
  keys: number;
  /** tanh(logits / cap) if there is a cap, else undefined. */
  capped: number | undefined;
  /** (B, K, rows, S) */
  probabilities: number;
}

function scoresOf(p: Program, q: number, k: number, attrs: AttentionAttrs, masks: Hidden, sizes: Sizes): Scores {
  const {batch, length, keyHeads, groups} = sizes;
  const queries = groupQueries(p, q, sizes);
  // There are fewer keys than queries, unless most of them are from before.
  const keys = p.scale(byHead(p, k, sizes), attrs.scale);
  let logits = p.batchMatMul(queries, keys, false, true);
  const cap = attrs.logitSoftCap;
  const capped = cap === null ? undefined : p.tanh(p.scale(logits, 1 / cap));
  if (capped !== undefined) logits = p.scale(capped, cap!);
  const shown = p.then(
    capped === undefined ? p.then(logits, own => masked(p, own, masks, sizes)) : masked(p, logits, masks, sizes),
    p.softmax,
  );
  return {queries, keys, capped, probabilities: p.reshape(shown, [batch, keyHeads, groups * length, sizes.keys])};
}

/** A query that sees no key gets zeros, as in KerasHub. */
const ofSeeing = (p: Program, x: number, {sees}: Masks): number => (sees === undefined ? x : p.mul(x, sees));

/** Tokens of x (B, T, heads, H), from the first one on. With a single row they share its memory. */
function tokens(p: Program, x: TensorInfo, from: number, count: number): number {
  const [batch, length, ...size] = x.shape as [number, number, number, number];
  const id = p.of(x);
  if (count === length) return id;
  if (batch > 1) return p.slice(id, [0, from, 0, 0], [batch, count, ...size]);
  return p.reshape(p.slice(p.reshape(id, [length, ...size]), [from, 0, 0], [count, ...size]), [1, count, ...size]);
}

/** What a part of the queries sees, (B, queries, N, H). */
function attendPart(p: Program, {q, k, v}: Inputs, attrs: AttentionAttrs, masks: Masks, all: Sizes, part: Part) {
  const {from, queries, firstKey, keys} = part;
  const sizes = {...all, length: queries, keys};
  const [batch, length] = masks.shape;
  const shape = [batch, Math.min(queries, length), keys] as const;
  const isWhole = queries === all.length && keys === all.keys;
  const hidden = isWhole ? masks.hidden : p.slice(masks.hidden, [0, length === 1 ? 0 : from, firstKey], shape);
  const [own, values] = [k, v].map(x => tokens(p, x, firstKey, keys)) as [number, number];
  const {probabilities} = scoresOf(p, tokens(p, q, from, queries), own, attrs, {hidden, shape}, sizes);
  return ungroupQueries(p, p.batchMatMul(probabilities, byHead(p, values, sizes)), sizes);
}

/** Gradients for q, k and v. */
function gradients(device: Device, inputs: Inputs & {dy: TensorInfo}, attrs: AttentionAttrs): TensorInfo[] {
  const {dy, q, k, v, ...positions} = inputs;
  const sizes = sizesOf(inputs);
  return withMasks(device, positions, attrs, masks =>
    device.program(p => {
      const {queries, keys, capped, probabilities} = scoresOf(p, p.of(q), p.of(k), attrs, masks, sizes);
      const dOut = groupQueries(p, ofSeeing(p, p.of(dy), masks), sizes);
      const dv = p.batchMatMul(probabilities, dOut, true);
      const dShown = p.batchMatMul(dOut, byHead(p, p.of(v), sizes), false, true);
      const along = p.sum(p.mul(dShown, probabilities), -1);
      let d = p.mul(p.sub(dShown, along), probabilities);
      if (capped !== undefined) d = p.mul(d, p.plus(p.scale(p.square(capped), -1), 1));
      const dq = ungroupQueries(p, p.batchMatMul(d, keys), sizes);
      const dk = p.scale(p.batchMatMul(d, queries, true), attrs.scale);
      return [
        p.take(dq, q.shape),
        p.take(byPosition(p, dk, sizes), k.shape),
        p.take(byPosition(p, dv, sizes), v.shape),
      ];
    }),
  );
}

export const attentionKernels = (device: Device): KernelMap => ({
  Gemma3Attention: ({inputs: given, attrs: attributes}) => {
    const inputs = given as object as Inputs;
    const {q, k: _k, v: _v, ...positions} = inputs;
    const attrs = attributes as object as AttentionAttrs;
    const sizes = sizesOf(inputs);
    return withMasks(device, positions, attrs, masks =>
      device.program(p => {
        const seen = masks.parts.map(part =>
          // A program of its own, so that the memory of a part serves the next one.
          p.own(device.program(own => own.release(attendPart(own, inputs, attrs, masks, sizes, part)), false)),
        );
        return p.take(ofSeeing(p, seen.length === 1 ? seen[0]! : p.concatAll(seen, 1), masks), q.shape);
      }),
    );
  },
  Gemma3AttentionGradient: ({inputs, attrs}) =>
    gradients(device, inputs as object as Inputs & {dy: TensorInfo}, attrs as object as AttentionAttrs),
});
