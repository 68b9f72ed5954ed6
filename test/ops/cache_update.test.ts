/** Updates of a ring-buffer cache. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {cacheUpdateOp} from '../../src/ops/cache_update';
import {cacheSettings, cacheUpdateCase, expectedCache} from '../support/cache_update_case';

describe('cacheUpdate', () => {
  test('writes the token at position p to slot p mod capacity, and does not change its inputs', () => {
    fc.assert(
      fc.property(cacheSettings, settings => {
        tf.tidy(() => {
          const {cache, update, attrs} = cacheUpdateCase(settings);
          const [cacheBefore, updateBefore] = [cache.arraySync(), update.arraySync()];
          const expected = expectedCache({cache, update, attrs});
          const before = tf.memory().numTensors;
          const next = cacheUpdateOp.reference({cache, update}, attrs);
          expect(tf.memory().numTensors).toBe(before + 1);
          expect(next.shape).toEqual(cache.shape);
          expect(next).toBeAllClose(expected, 1e-12);
          expect(cache.arraySync()).toEqual(cacheBefore);
          expect(update.arraySync()).toEqual(updateBefore);
        });
      }),
      {numRuns: 60},
    );
  });
});
