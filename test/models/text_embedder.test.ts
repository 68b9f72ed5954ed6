/** How texts are grouped into batches. */
import * as fc from 'fast-check';
import {batchesOfSimilarLength} from '../../src/models/text_embedder';

test('batches contain every row once, are never too large and contain little padding', () => {
  const lengths = fc.array(fc.integer({min: 1, max: 300}), {minLength: 1, maxLength: 100});
  fc.assert(
    fc.property(lengths, fc.integer({min: 1, max: 40}), (rows, batchSize) => {
      const batches = batchesOfSimilarLength(rows, batchSize);
      expect(batches.flat().sort((a, b) => a - b)).toEqual(rows.map((_, row) => row));
      for (const batch of batches) {
        expect(batch.length).toBeGreaterThan(0);
        expect(batch.length).toBeLessThanOrEqual(batchSize);
        const places = batch.length * Math.max(...batch.map(row => rows[row]!));
        const tokens = batch.reduce((sum, row) => sum + rows[row]!, 0);
        expect(places - tokens).toBeLessThanOrEqual(places / 4);
      }
    }),
  );
});

test('texts of the same length fill batches', () => {
  expect(batchesOfSimilarLength([5, 5, 5, 5, 5], 2)).toEqual([[0, 1], [2, 3], [4]]);
  expect(batchesOfSimilarLength([1, 100, 90], 8)).toEqual([[1, 2], [0]]);
});
