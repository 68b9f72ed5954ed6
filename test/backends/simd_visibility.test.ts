/** Attention of new tokens over a long cache, where blocks of distant or empty slots are skipped. */
import * as tf from '@tensorflow/tfjs';
import {useBackend} from '../../src';
import {
  attention,
  type AttentionAttrs,
  type AttentionInputs,
  type AttentionMasks,
  attentionOp,
} from '../../src/ops/attention';
import {normal} from '../support/random';

const [PLACES, TOKENS] = [400, 70];

beforeAll(async () => {
  await useBackend('simd', {threads: 2});
});

const ints = (rows: number[][]) => tf.tensor2d(rows, undefined, 'int32');
const count = (length: number, at: (i: number) => number) => Array.from({length}, (_, i) => at(i));

/** Row 0 continues at position 250, row 1 at 30. A ring reuses its slots in turn. */
function inputs(ring: boolean, images: boolean): AttentionInputs & Partial<AttentionMasks> {
  const starts = [250, 30];
  const placed = (start: number, place: number) => {
    const last = start + TOKENS - 1;
    if (!ring) return place <= last ? place : -1;
    const position = last - ((((last - place) % 100) + 100) % 100);
    return place < 100 ? Math.max(-1, position) : -1;
  };
  const keyPositions = starts.map(start => count(PLACES, place => placed(start, place)));
  // An image among the new tokens, across the border between two blocks.
  const image = (start: number, position: number) => (position >= start + 20 && position < start + 66 ? 1 : 0);
  return {
    q: normal([2, TOKENS, 4, 16], 1) as tf.Tensor4D,
    k: normal([2, PLACES, 2, 16], 2) as tf.Tensor4D,
    v: normal([2, PLACES, 2, 16], 3) as tf.Tensor4D,
    queryPositions: ints(starts.map(start => count(TOKENS, t => start + t))),
    keyPositions: ints(keyPositions),
    ...(images && {
      queryImages: ints(starts.map(start => count(TOKENS, t => image(start, start + t)))),
      keyImages: ints(starts.map((start, row) => keyPositions[row]!.map(position => image(start, position)))),
    }),
  };
}

test.each([
  [{window: null}, false, false],
  [{window: null}, false, true],
  [{window: 40}, false, false],
  [{window: 30}, true, false],
  [{window: 30}, true, true],
  [{window: 60, bidirectional: true}, false, false],
  [{window: null, bidirectional: true}, false, false],
  [{window: null, bidirectional: true}, false, true],
])('%j, ring %s, images %s', (more, ring, images) => {
  const attrs: AttentionAttrs = {scale: 0.3, logitSoftCap: null, bidirectional: false, ...more};
  const before = tf.memory().numTensors;
  tf.tidy(() => {
    const given = inputs(ring, images);
    expect(attention(given, attrs)).toBeAllClose(attentionOp.reference(given, attrs), 2e-5);
  });
  expect(tf.memory().numTensors).toBe(before);
});
