/** Combines segments of token ids into rows of one length. */
import * as tf from '@tensorflow/tfjs';
import {type Gemma3Tokenizer} from '../gemma3_tokenizer';

/** Token ids, and the segment of each token: 0 for the prompt and for padding, 1 for the response. */
export interface Sequence {
  ids: number[];
  segments: number[];
}

export interface SequenceOptions {
  tokenizer: Gemma3Tokenizer;
  length: number;
  addStart: boolean;
  addEnd: boolean;
}

/**
 * Cuts segments to a total of `limit` tokens by alternately taking one token of each, as KerasHub does, so a short
 * response stays complete after a long prompt.
 */
export function trimRoundRobin(segments: readonly (readonly number[])[], limit: number): number[][] {
  const kept = segments.map(() => 0);
  let left = Math.max(0, limit);
  while (left > 0) {
    const open = kept.map((_, i) => i).filter(i => kept[i]! < segments[i]!.length);
    if (open.length === 0) break;
    for (const i of open) {
      if (left === 0) break;
      // Several rounds at once, as far as the shortest open segment and the limit allow.
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

/** Cuts segments to a total of `limit` tokens: the first one keeps all it can, and the next ones get what is left. */
export function trimWaterfall(segments: readonly (readonly number[])[], limit: number): number[][] {
  let left = Math.max(0, limit);
  return segments.map(segment => {
    const kept = segment.slice(0, left);
    left -= kept.length;
    return kept;
  });
}

/** Concatenates segments, with start and end tokens, to at most `length` tokens, without padding. */
export function joinSegments(segments: readonly (readonly number[])[], options: SequenceOptions): Sequence {
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

/** As {@link joinSegments}, but padded or cut to exactly `length` tokens. */
export function padSegments(segments: readonly (readonly number[])[], options: SequenceOptions): Sequence {
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
