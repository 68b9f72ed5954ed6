/** Segments of token ids as rows of one length. */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3Tokenizer} from '../gemma3_tokenizer';

/** Token ids, and of which segment each is: 0 for the prompt, 1 for the response; 0 for padding. */
export interface Packed {
  ids: number[];
  segments: number[];
}

export interface PackingOptions {
  tokenizer: Gemma3Tokenizer;
  length: number;
  addStart: boolean;
  addEnd: boolean;
}

/**
 * Cuts segments to `limit` tokens together by taking one token of each in turn, as Keras' packer does: a short response
 * is kept whole beside a long prompt.
 */
export function trimRoundRobin(segments: readonly (readonly number[])[], limit: number): number[][] {
  const kept = segments.map(() => 0);
  let left = Math.max(0, limit);
  while (left > 0) {
    const open = kept.map((_, i) => i).filter(i => kept[i]! < segments[i]!.length);
    if (open.length === 0) break;
    for (const i of open) {
      if (left === 0) break;
      // Whole turns at once: as many as the shortest open segment and the room allow.
      const turns = Math.min(...open.map(j => segments[j]!.length - kept[j]!), Math.floor(left / open.length));
      if (turns > 0) {
        for (const j of open) kept[j]! += turns;
        left -= turns * open.length;
        break;
      }
      kept[i]! += 1;
      left -= 1;
    }
  }
  return segments.map((segment, i) => segment.slice(0, kept[i]));
}

/** Cuts segments to `limit` tokens together: the first gets what it needs, the next what is left. */
export function trimWaterfall(segments: readonly (readonly number[])[], limit: number): number[][] {
  let left = Math.max(0, limit);
  return segments.map(segment => {
    const kept = segment.slice(0, left);
    left -= kept.length;
    return kept;
  });
}

/** Segments one behind the other, with what goes before and behind them, cut to a length and not padded. */
export function joinSegments(segments: readonly (readonly number[])[], options: PackingOptions): Packed {
  const {tokenizer, length, addStart, addEnd} = options;
  const trimmed = trimRoundRobin(segments, length - (addStart ? 1 : 0) - (addEnd ? 1 : 0));
  const parts = trimmed.map((ids, segment) => ids.map(id => ({id, segment})));
  const tokens = [
    ...(addStart ? [{id: tokenizer.startTokenId, segment: 0}] : []),
    ...parts.flat(),
    ...(addEnd ? [{id: tokenizer.endTokenId, segment: parts.length - 1}] : []),
  ];
  return {ids: tokens.map(({id}) => id), segments: tokens.map(({segment}) => segment)};
}

/** The same, padded or cut to exactly that length. */
export function packSegments(segments: readonly (readonly number[])[], options: PackingOptions): Packed {
  const {length, tokenizer} = options;
  const joined = joinSegments(segments, options);
  const fill = (value: number, count: number) => Array.from({length: Math.max(0, count)}, () => value);
  const missing = length - joined.ids.length;
  return {
    ids: [...joined.ids, ...fill(tokenizer.padTokenId, missing)].slice(0, length),
    segments: [...joined.segments, ...fill(0, missing)].slice(0, length),
  };
}

/** Rows of one length as a tensor: (B, length), or (length) for a single text. */
export function rowsTensor(
  rows: readonly (readonly (number | boolean)[])[],
  length: number,
  dtype: 'int32' | 'bool',
  scalar: boolean,
): tf.Tensor {
  return tf.tensor(rows.flat() as number[], scalar ? [length] : [rows.length, length], dtype);
}
