/** Slices that are not contiguous, against tfjs' own kernel. */
import {ofTfjs} from '../support/tfjs_slice';
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {sliceKernel} from '../../src/backends/cpu/kernels/slice';
import {BACKENDS} from '../support/backends';
import {useBackend} from '../../src';

const settings = fc
  .array(fc.record({length: fc.integer({min: 1, max: 5}), from: fc.nat(4), count: fc.nat(5)}), {
    minLength: 1,
    maxLength: 5,
  })
  .map(axes =>
    axes.map(({length, from, count}) => {
      const begin = from % length;
      return {length, begin, size: count === 0 ? -1 : Math.min(count, length - begin)};
    }),
  );

test("this package's kernel is in use", () => {
  expect(tf.getKernel('Slice', 'cpu')!.kernelFunc).not.toBe(ofTfjs);
});

describe.each(BACKENDS)('on $name', ({name}) => {
  beforeAll(() => useBackend(name));

  test.each(['float32', 'int32', 'bool'] as const)('%s', dtype => {
    const before = tf.memory().numTensors;
    fc.assert(
      fc.property(settings, axes => {
        tf.tidy(() => {
          const shape = axes.map(({length}) => length);
          const values = Array.from({length: tf.util.sizeFromShape(shape)}, (_, i) => (dtype === 'bool' ? i % 2 : i));
          const x = tf.tensor(values, shape, dtype);
          const attrs = {begin: axes.map(({begin}) => begin), size: axes.map(({size}) => size)};
          const kernel = tf.getKernel('Slice', tf.getBackend())!;
          const run = (kernelFunc: tf.KernelFunc) => {
            tf.unregisterKernel('Slice', tf.getBackend());
            tf.registerKernel({...kernel, kernelFunc});
            return tf.slice(x, attrs.begin, attrs.size);
          };
          const [expected, found] = [run(ofTfjs), run(sliceKernel(ofTfjs))];
          expect(found.shape).toEqual(expected.shape);
          expect(found.dtype).toBe(dtype);
          expect(found.dataSync()).toEqual(expected.dataSync());
          const again = run(kernel.kernelFunc);
          expect(again.dataSync()).toEqual(expected.dataSync());
        });
      }),
      {numRuns: 100},
    );
    expect(tf.memory().numTensors).toBe(before);
  });

  test('strings, numbers for the only axis, and bad arguments are as in tfjs', () => {
    tf.tidy(() => {
      const words = tf.tensor2d(['a', 'b', 'c', 'd'], [2, 2]);
      expect(tf.slice(words, [0, 1], [2, 1]).arraySync()).toEqual([['b'], ['d']]);
      expect(tf.slice(tf.tensor1d([1, 2, 3]), 1, 1).arraySync()).toEqual([2]);
      expect(() => tf.slice(tf.zeros([2, 2]), [0, 1], [2, 2])).toThrow(/begin\[1\] \+ size\[1\]/);
    });
  });

  test('a slice is a copy', () => {
    tf.tidy(() => {
      const x = tf.tensor2d([1, 2, 3, 4], [2, 2]);
      const part = tf.slice(x, [0, 1], [2, 1]);
      (part.dataSync() as Float32Array).fill(9);
      expect(x.arraySync()).toEqual([
        [1, 2],
        [3, 4],
      ]);
    });
  });

  test('gradients pass', () => {
    const gradient = tf.tidy(() =>
      tf
        .grad(x => tf.sum(tf.slice(x, [0, 1], [2, 1])))(tf.ones([2, 3]))
        .arraySync(),
    );
    expect(gradient).toEqual([
      [0, 1, 0],
      [0, 1, 0],
    ]);
  });
});
