/** Random cache updates, and their results computed by loops. */
import type * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {type CacheUpdateAttrs} from '../../src/ops/cache_update';
import {normal} from './random';

export const cacheSettings = fc
  .record({
    rows: fc.array(fc.record({start: fc.integer({min: 0, max: 20}), count: fc.integer({min: 0, max: 6})}), {
      minLength: 1,
      maxLength: 3,
    }),
    capacity: fc.integer({min: 1, max: 8}),
    keyHeads: fc.integer({min: 1, max: 2}),
    width: fc.integer({min: 1, max: 3}),
    padding: fc.integer({min: 0, max: 2}),
  })
  .map(s => ({...s, length: Math.max(1, ...s.rows.map(row => row.count)) + s.padding}));

type CacheSettings = typeof cacheSettings extends fc.Arbitrary<infer T> ? T : never;

export interface CacheCase {
  cache: tf.Tensor4D;
  update: tf.Tensor4D;
  attrs: CacheUpdateAttrs;
}

export function cacheUpdateCase({rows, capacity, keyHeads, width, length}: CacheSettings): CacheCase {
  return {
    cache: normal([rows.length, capacity, keyHeads, width], 1) as tf.Tensor4D,
    update: normal([rows.length, length, keyHeads, width], 2) as tf.Tensor4D,
    attrs: {starts: rows.map(row => row.start), lengths: rows.map(row => row.count)},
  };
}

/** Writes the tokens one after another, so that later ones replace earlier ones. */
export function expectedCache({cache, update, attrs}: CacheCase): number[] {
  const [places, tokens] = [cache.arraySync(), update.arraySync()];
  attrs.lengths.forEach((count, row) => {
    for (let t = 0; t < count; t++) places[row]![(attrs.starts[row]! + t) % cache.shape[1]] = tokens[row]![t]!;
  });
  return places.flat(3);
}
