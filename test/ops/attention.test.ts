/** Attention against loops, with gradients, on every backend. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {
  attention,
  type AttentionAttrs,
  attentionOp,
  attentionVisibility,
  attentionWithDropout,
} from '../../src/ops/attention';
import {
  attentionCase,
  type AttentionSettings,
  attentionSettings,
  expectedAttention,
  plainAttention,
  visible,
} from '../support/attention_case';
import {disposeAfterEach, onEachBackend} from '../support/backends';
import {expectSameGradients} from '../support/gradients';

const PLAIN: AttentionSettings = {
  batch: 2,
  length: 5,
  before: 0,
  keyHeads: 2,
  groups: 2,
  width: 3,
  window: null,
  bidirectional: false,
  logitSoftCap: null,
  padding: false,
  images: false,
  attentionMask: false,
  positionsByRow: false,
  seed: 1,
};
const OPTIONS: [string, Partial<AttentionSettings>][] = [
  ['causal', {}],
  ['a window', {window: 2}],
  ['a window of one', {window: 1}],
  ['both directions', {bidirectional: true}],
  ['both directions in a window', {bidirectional: true, window: 3}],
  ['both directions with padding', {bidirectional: true, padding: true, window: 4}],
  ['padding', {padding: true}],
  ['images', {images: true}],
  ['images in a window', {images: true, window: 2}],
  ['a matrix', {attentionMask: true}],
  ['a soft cap', {logitSoftCap: 0.5}],
  ['a cache', {before: 4, positionsByRow: true}],
  ['one query', {before: 3, length: 1}],
  ['one key', {length: 1}],
  ['one head of width one', {keyHeads: 1, groups: 1, width: 1}],
];

onEachBackend(() => {
  disposeAfterEach();

  describe('attention', () => {
    test.each(OPTIONS)('with %s matches loops, with gradients', (_, options) => {
      const c = attentionCase({...PLAIN, ...options});
      expect(attention(c.inputs, c.attrs)).toBeAllClose(expectedAttention(c));
      const f = (...[q, k, v]: tf.Tensor[]) =>
        attention({...c.inputs, q: q as tf.Tensor4D, k: k as tf.Tensor4D, v: v as tf.Tensor4D}, c.attrs);
      expectSameGradients(f, plainAttention(c), [c.inputs.q, c.inputs.k, c.inputs.v]);
    });

    test('matches loops for any combination of options', () => {
      fc.assert(
        fc.property(attentionSettings, settings => {
          tf.tidy(() => {
            const c = attentionCase(settings);
            expect(attentionOp.reference(c.inputs, c.attrs)).toBeAllClose(expectedAttention(c));
          });
        }),
        {numRuns: 60},
      );
    });

    test('has the right gradients for any combination of options', () => {
      fc.assert(
        fc.property(attentionSettings, settings => {
          tf.tidy(() => {
            const c = attentionCase(settings);
            const f = (...[q, k, v]: tf.Tensor[]) =>
              attention({...c.inputs, q: q as tf.Tensor4D, k: k as tf.Tensor4D, v: v as tf.Tensor4D}, c.attrs);
            expectSameGradients(f, plainAttention(c), [c.inputs.q, c.inputs.k, c.inputs.v]);
          });
        }),
        {numRuns: 15},
      );
    });

    test('reports which keys each query sees', () => {
      fc.assert(
        fc.property(attentionSettings, settings => {
          tf.tidy(() => {
            const c = attentionCase(settings);
            const seen = tf.cast(attentionVisibility(c.inputs, c.attrs), 'float32');
            expect(tf.mul(seen, tf.ones([settings.batch, settings.length, 1]))).toBeAllClose(visible(c).flat(2));
          });
        }),
        {numRuns: 40},
      );
    });

    test('returns zeros for a query that sees no key, with no gradient', () => {
      const c = attentionCase(PLAIN);
      const paddingMask = tf.zeros<tf.Rank.R2>([2, 5], 'int32');
      const f = (q: tf.Tensor) => attention({...c.inputs, q: q as tf.Tensor4D, paddingMask}, c.attrs);
      expect(Math.max(...f(c.inputs.q).abs().dataSync())).toBe(0);
      expect(Math.max(...tf.grad(f)(c.inputs.q).abs().dataSync())).toBe(0);
    });

    test('does not overflow', () => {
      const c = attentionCase(PLAIN);
      const q = tf.mul(c.inputs.q, 1e4) as tf.Tensor4D;
      const y = attention({...c.inputs, q}, c.attrs);
      expect(y.dataSync().every(Number.isFinite)).toBe(true);
    });

    test('with dropout keeps the mean, drops different probabilities each time and has gradients', () => {
      const c = attentionCase({...PLAIN, batch: 1, bidirectional: true});
      const exact = attention(c.inputs, c.attrs);
      expect(attentionWithDropout(c.inputs, c.attrs, 0)).toBeAllClose(exact, 1e-6);
      const runs = Array.from({length: 150}, () => attentionWithDropout(c.inputs, c.attrs, 0.3));
      expect(Math.max(...tf.sub(runs[0]!, runs[1]!).abs().dataSync())).toBeGreaterThan(1e-3);
      expect(tf.mean(tf.stack(runs), 0)).toBeAllClose(exact, 0.3);
      const gradient = tf.grad(v => attentionWithDropout({...c.inputs, v: v as tf.Tensor4D}, c.attrs, 0.3))(c.inputs.v);
      expect(gradient.dataSync().every(Number.isFinite)).toBe(true);
    });

    test('leaks no tensors', () => {
      const c = attentionCase({...PLAIN, images: true, padding: true, attentionMask: true});
      const attrs: AttentionAttrs = {...c.attrs, logitSoftCap: 1};
      const before = tf.memory().numTensors;
      attention(c.inputs, attrs).dispose();
      attentionWithDropout(c.inputs, attrs, 0.5).dispose();
      expect(tf.memory().numTensors).toBe(before);
    });
  });
});
