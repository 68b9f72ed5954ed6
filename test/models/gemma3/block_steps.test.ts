/** Decoder blocks in steps of a few tokens against whole blocks. */
import * as tf from '@tensorflow/tfjs';
import {KvCache} from '../../../src/generation/kv_cache';
import {finish, Pace} from '../../../src/generation/turns';
import {quantizeLayers} from '../../../src/layers/quantize';
import {Gemma3DecoderBlock} from '../../../src/models/gemma3/gemma3_decoder_block';
import {blockSteps} from '../../../src/models/gemma3/parts/block_steps';
import {onEachBackend} from '../../support/backends';
import {expectNoLeak} from '../../support/numbers';

/** Steps of up to a given number of rows. */
class Fixed extends Pace {
  steps = 0;
  constructor(private readonly most: number) {
    super();
  }
  override *divide(_: string, rows: number, __: number, run: (first: number, count: number) => void) {
    const size = Math.ceil(rows / Math.ceil(rows / this.most));
    for (let first = 0; first < rows; first += size) {
      if (first > 0) yield;
      run(first, Math.min(size, rows - first));
      this.steps += 1;
    }
  }
}

const HEADS = {numKeyValueHeads: 1, headDim: 32};

function newBlock(width: number, window: boolean): Gemma3DecoderBlock {
  const block = new Gemma3DecoderBlock({
    ...{
      hiddenDim: width,
      intermediateDim: 96,
      gateDimReduction: 1,
      numQueryHeads: 2,
      ...HEADS,
      useQueryKeyNorm: true,
    },
    ...{useSlidingWindowAttention: window, slidingWindowSize: 40, usePostFfwNorm: true, usePostAttentionNorm: true},
  });
  block.build([null, null, width]);
  // Initial values of layers this wide take seconds.
  tf.tidy(() => {
    const values = ({shape}: {shape: tf.Shape}, i: number) => {
      const size = tf.util.sizeFromShape(shape as number[]);
      return tf.reshape(tf.mul(tf.sin(tf.range(i, size + i)), 0.05), shape as number[]);
    };
    block.setWeights(block.weights.map(values));
  });
  return block;
}

onEachBackend(
  ({name, formats}) => {
    // Wide enough for several panels of a kernel.
    const width = name === 'simd' ? 672 : 32;
    test.each(['float32', ...formats] as const)(
      'weights as %s: the same, bit by bit',
      async format => {
        await expectNoLeak(async () => {
          for (const window of [false, true]) {
            const block = newBlock(width, window);
            if (format !== 'float32') await quantizeLayers('block', [block], format);
            // The second call continues, after 60 tokens: a ring is copied before tokens are written.
            const inputs = [60, 50].map((length, i) =>
              tf.randomNormal([2, length, width], 0, 1, 'float32', i),
            ) as tf.Tensor3D[];
            const image = (length: number) =>
              tf.tensor2d(
                Array.from({length: 2 * length}, (_, i) => +(i % 20 > 12)),
                [2, length],
              );
            const masks = inputs.map(({shape}) => image(shape[1]));
            const run = async (pace: Pace | null) => {
              const cache = new KvCache({batch: 2, maxLength: 120, ...HEADS, window: window ? 40 : null});
              const bits: Buffer[] = [];
              for (const [i, x] of inputs.entries()) {
                const args = {cache, counts: [x.shape[1], x.shape[1] - 3], ...(window && {visionMask: masks[i]!})};
                const y = pace ? finish(blockSteps(block, x, args, pace)) : block.call(x, args);
                bits.push(Buffer.from(((await y.data()) as Float32Array).slice().buffer));
                y.dispose();
              }
              cache.dispose();
              return bits;
            };
            const whole = await run(null);
            for (const rows of [16, 32]) {
              const pace = new Fixed(rows);
              const stepped = await run(pace);
              expect(stepped.map((bits, i) => bits.equals(whole[i]!))).toEqual([true, true]);
              expect(pace.steps).toBe(rows === 16 ? 24 : 12);
            }
            tf.dispose([inputs, masks]);
            block.dispose();
          }
        });
      },
      120_000,
    );

    test('tokens that nobody wants only add keys and values', async () => {
      await expectNoLeak(async () => {
        const block = newBlock(width, true);
        const inputs = [60, 50].map((length, i) =>
          tf.randomNormal([2, length, width], 0, 1, 'float32', i),
        ) as tf.Tensor3D[];
        const run = async (firstWanted: number) => {
          const cache = new KvCache({batch: 2, maxLength: 120, ...HEADS, window: 40});
          const states = [firstWanted, 0].map((first, i) => {
            const args = {cache, counts: [inputs[i]!.shape[1], inputs[i]!.shape[1] - 3], firstWanted: first};
            return finish(blockSteps(block, inputs[i]!, args, new Fixed(32)));
          });
          cache.dispose();
          return states as [tf.Tensor3D, tf.Tensor3D];
        };
        const all = await run(0);
        for (const [firstWanted, left] of [
          [3, 3],
          [59, 44],
          [60, 60],
        ] as const) {
          const some = await run(firstWanted);
          expect(some[0].shape).toEqual([2, 60 - left, width]);
          const expected = tf.slice(all[0], [0, left, 0]);
          expect(some[0].dataSync()).toEqual(expected.dataSync());
          expect(some[1].dataSync()).toEqual(all[1].dataSync());
          tf.dispose([some, expected]);
        }
        tf.dispose([all, inputs]);
        block.dispose();
      });
    });
  },
  {small: true},
);

describe('Pace', () => {
  /** Runs steps that take `perRow` milliseconds for each row, and returns their numbers of rows. */
  function divided(pace: Pace, rows: number, perRow: number): number[] {
    let clock = 0;
    const now = jest.spyOn(performance, 'now').mockImplementation(() => clock);
    const counts: number[] = [];
    const run = (first: number, count: number) => {
      expect(first).toBe(counts.reduce((sum, n) => sum + n, 0));
      counts.push(count);
      clock += count * perRow;
    };
    for (const step of pace.divide('some work', rows, 1000, run)) void step;
    now.mockRestore();
    return counts;
  }

  test('steps take about the same time, after the first', () => {
    const pace = new Pace();
    expect(divided(pace, 272, 0.125)).toEqual([16, 128, 128]);
    expect(divided(pace, 256, 0.125)).toEqual([128, 128]);
    // The machine becomes slower, which a single step shows, then faster.
    expect(divided(pace, 256, 0.5)).toEqual([128, 32, 32, 32, 32]);
    expect(divided(pace, 512, 1 / 1024).length).toBeLessThanOrEqual(4);
  });

  test('steps have at least 16 rows, or nearly half as many where these are left over', () => {
    expect(divided(new Pace(), 40, 100)).toEqual([14, 13, 13]);
    expect(divided(new Pace(), 17, 100)).toEqual([9, 8]);
  });

  test('other code may run before the first step: what comes before it may have taken long', () => {
    const steps = new Pace().divide('some work', 1, 1, () => {});
    expect(steps.next().done).toBe(false);
    expect(steps.next().done).toBe(true);
  });
});
