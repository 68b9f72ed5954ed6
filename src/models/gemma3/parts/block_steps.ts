/** Decoder blocks in steps of a few tokens, between which other code may run. */
import * as tf from '@tensorflow/tfjs';
import {type KvCache} from '../../../generation/kv_cache';
import {FEWEST_ROWS, type Pace} from '../../../generation/turns';
import {imageNumbers} from '../../../ops/image_numbers';
import {positionsOf, type ProjectedTokens} from '../gemma3_attention';
import {type Gemma3DecoderBlock} from '../gemma3_decoder_block';
import {fusedSteps} from './fused_step';

export interface BlockStepsArgs {
  cache: KvCache;
  counts: readonly number[];
  /** int32 (B, T) */
  visionMask?: tf.Tensor;
  /** Of the tokens before this one, only keys and values are needed. Defaults to 0. */
  firstWanted?: number;
}

interface AllBlocksArgs extends Omit<BlockStepsArgs, 'cache'> {
  /** One for each block. */
  caches: readonly KvCache[];
}

/**
 * All blocks, one after another. One token per row takes a single step where the backend has a kernel for all blocks.
 * The caller owns the result, from which tokens before `firstWanted` may be missing.
 *
 * @param x (B, T, D), which is disposed.
 * @param pace null where no other code can run: each block then processes all tokens at once, which is slightly faster.
 */
export function* allBlockSteps(
  blocks: readonly Gemma3DecoderBlock[],
  x: tf.Tensor3D,
  {caches, counts, visionMask, firstWanted}: AllBlocksArgs,
  pace: Pace | null,
): Generator<void, tf.Tensor3D> {
  let current: tf.Tensor3D | undefined = x;
  try {
    const all = visionMask ? undefined : tf.tidy(() => fusedSteps(blocks, x, caches, counts));
    if (all) return all as tf.Tensor3D;
    for (const [i, block] of blocks.entries()) {
      if (i > 0) yield;
      const args = {cache: caches[i]!, counts, visionMask};
      const given: tf.Tensor3D = current;
      let next: tf.Tensor3D;
      const last = i === blocks.length - 1 && {firstWanted};
      if (pace) next = yield* blockSteps(block, given, {...args, ...last}, pace);
      else next = block.call(given, args) as tf.Tensor3D;
      current.dispose();
      current = next;
    }
    const result = current;
    current = undefined;
    return result;
  } finally {
    current?.dispose();
  }
}

/**
 * `block.call(x, {cache, counts, visionMask})` in steps, with the same result, bit by bit: the projections of all tokens,
 * then attention, then the feed-forward network, each a few tokens at a time. The caller owns the result. Tokens before
 * `firstWanted` may be missing from it.
 *
 * @param x (B, T, D)
 */
export function* blockSteps(
  block: Gemma3DecoderBlock,
  x: tf.Tensor3D,
  {cache, counts, visionMask, firstWanted = 0}: BlockStepsArgs,
  pace: Pace,
): Generator<void, tf.Tensor3D> {
  const [batch, length, width] = x.shape;
  if (length <= FEWEST_ROWS) return block.call(x, {cache, counts, visionMask}) as tf.Tensor3D;
  // Results do not depend on how rows are divided, if steps have enough of them.
  const left = firstWanted < length ? Math.max(0, Math.min(firstWanted, length - FEWEST_ROWS)) : length;
  const {attention, config} = block;
  const starts = [...cache.lengths];
  const perToken = batch * width * config.headDim;
  const {numQueryHeads: heads, numKeyValueHeads: keyHeads, hiddenDim} = config;
  const held = new Set<tf.Tensor>();
  const hold = <T extends tf.Tensor>(tensor: T): T => {
    held.add(tensor);
    return tensor;
  };
  const drop = (...tensors: tf.Tensor[]) => {
    tf.dispose(tensors);
    for (const tensor of tensors) held.delete(tensor);
  };
  try {
    // Other code may also run before values are joined: together with the piece before it, the step would be too long.
    // === Queries, keys and values ===
    const parts: ProjectedTokens[] = [];
    yield* pace.divide('project', length, perToken * (heads + 2 * keyHeads), (first, count) => {
      const part = tf.tidy(() => {
        const some = tf.slice(x, [0, first, 0], [batch, count, width]);
        const from = starts.map(start => start + first);
        return attention.project(block.preAttentionNorm.call(some), from, true);
      });
      Object.values(part).forEach(hold);
      parts.push(part);
    });
    const joined = <T extends tf.Tensor>(tensors: T[]): T => {
      if (tensors.length === 1) return tensors[0]!;
      const all = hold(tf.concat(tensors, 1));
      drop(...tensors);
      return all;
    };
    yield;
    const query = joined(parts.map(part => part.query));
    const key = joined(parts.map(part => part.key));
    const value = joined(parts.map(part => part.value));
    const numbers = visionMask && (hold(imageNumbers(visionMask)) as tf.Tensor2D);
    const seen = tf.tidy(() => {
      const {layOut, ...keys} = cache.append(key, value, counts);
      return numbers ? {...keys, images: layOut(numbers)} : keys;
    });
    // The cache keeps its own tensors.
    for (const tensor of Object.values(seen)) if (!tensor.kept) hold(tensor);
    for (const own of [key, value]) if (own !== seen.k && own !== seen.v) drop(own);

    if (left === length) return tf.zeros([batch, 0, width]);

    // === Attention ===
    const attended: tf.Tensor3D[] = [];
    const seenKeys = Math.min(seen.k.shape[1], config.useSlidingWindowAttention ? config.slidingWindowSize : Infinity);
    yield* pace.divide(
      'attend',
      length - left,
      perToken * heads + 2 * batch * heads * config.headDim * seenKeys,
      (first, n) => {
        const from = left + first;
        const part = tf.tidy(() => {
          const q = tf.slice(query, [0, from, 0, 0], [batch, n, -1, -1]);
          const masks = numbers &&
            'images' in seen && {
              queryImages: tf.slice(numbers, [0, from], [batch, n]),
              keyImages: seen.images,
            };
          const y = attention.attend(q, positionsOf(starts, from, n), seen, masks || {});
          return block.afterAttention(tf.slice(x, [0, from, 0], [batch, n, width]), attention.outputDense.call(y));
        });
        attended.push(hold(part as tf.Tensor3D));
      },
    );
    yield;
    drop(query);
    const hidden = joined(attended);

    // === Feed-forward network ===
    const outputs: tf.Tensor3D[] = [];
    const gates = Math.floor(config.intermediateDim / config.gateDimReduction);
    yield* pace.divide('feed forward', length - left, 3 * batch * hiddenDim * gates, (first, count) => {
      const output = tf.tidy(() => block.feedForward(tf.slice(hidden, [0, first, 0], [batch, count, width])));
      outputs.push(hold(output as tf.Tensor3D));
    });
    yield;
    const result = joined(outputs);
    held.delete(result);
    return result;
  } finally {
    tf.dispose([...held]);
  }
}
