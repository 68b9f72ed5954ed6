/** How texts are grouped into batches. */
import * as fc from 'fast-check';
import {batchesOfSimilarLength, TOKENS_PER_BATCH} from '../../src/models/text_embedder';

test('batches contain every row once, are never too large, and none would be cheaper as two', () => {
  const lengths = fc.array(fc.integer({min: 1, max: 300}), {minLength: 1, maxLength: 100});
  fc.assert(
    fc.property(lengths, fc.integer({min: 1, max: 40}), (rows, batchSize) => {
      const batches = batchesOfSimilarLength(rows, batchSize);
      expect(batches.flat().sort((a, b) => a - b)).toEqual(rows.map((_, row) => row));
      for (const batch of batches) {
        expect(batch.length).toBeGreaterThan(0);
        expect(batch.length).toBeLessThanOrEqual(batchSize);
        // What a batch saves is at most what another one takes.
        const saved = batch.map((row, i) => (rows[batch[0]!]! - rows[row]!) * (batch.length - i));
        expect(Math.max(...saved)).toBeLessThanOrEqual(TOKENS_PER_BATCH);
      }
    }),
  );
});

test('texts of the same length fill batches', () => {
  expect(batchesOfSimilarLength([5, 5, 5, 5, 5], 2)).toEqual([[0, 1], [2, 3], [4]]);
  expect(batchesOfSimilarLength([1, 100, 90], 8)).toEqual([[1, 2], [0]]);
  expect(batchesOfSimilarLength([1, 100, 70], 8)).toEqual([[1], [2], [0]]);
});
