/** Sets of byte ranges: sorted, without overlaps, neighbours joined. */
import {type ByteRange} from './byte_source';

/** The set with `range` added. */
export function withRange(ranges: readonly ByteRange[], {start, end}: ByteRange): ByteRange[] {
  if (end <= start) return [...ranges];
  const before = ranges.filter(range => range.end < start);
  const after = ranges.filter(range => range.start > end);
  const touching = ranges.slice(before.length, ranges.length - after.length);
  const first = Math.min(start, touching[0]?.start ?? start);
  const last = Math.max(end, touching.at(-1)?.end ?? end);
  return [...before, {start: first, end: last}, ...after];
}

/** The ranges of a file of `size` bytes that are not in the set. */
export function missingRanges(ranges: readonly ByteRange[], size: number): ByteRange[] {
  const missing: ByteRange[] = [];
  let at = 0;
  for (const {start, end} of ranges) {
    if (start > at) missing.push({start: at, end: Math.min(start, size)});
    at = Math.max(at, end);
    if (at >= size) return missing;
  }
  return at < size ? [...missing, {start: at, end: size}] : missing;
}

/** How many bytes a set has. */
export const bytesIn = (ranges: readonly ByteRange[]): number =>
  ranges.reduce((sum, {start, end}) => sum + end - start, 0);
