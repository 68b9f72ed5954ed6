/** The cache of keys and values against attention without a cache. */
import * as tf from '@tensorflow/tfjs';
import * as fc from 'fast-check';
import {KvCache} from '../../src/generation/kv_cache';
import {attention, type AttentionAttrs} from '../../src/ops/attention';
import {normal} from '../support/random';

const SHAPE = {numKeyValueHeads: 2, headDim: 3};

/** (rows, length, 2, 3) */
const tokens = (rows: number, length: number, seed: number) => normal([rows, length, 2, 3], seed) as tf.Tensor4D;

describe('KvCache', () => {
  const windows = fc.option(fc.integer({min: 1, max: 6}));
  const schedules = fc.integer({min: 1, max: 3}).chain(batch =>
    fc.array(fc.array(fc.integer({min: 0, max: 4}), {minLength: batch, maxLength: batch}), {
      minLength: 1,
      maxLength: 5,
    }),
  );

  test('gives each row the keys that it sees without a cache, however its tokens are split into calls', () => {
    const small = fc.integer({min: 0, max: 2});
    fc.assert(
      fc.property(windows, schedules, fc.integer({min: 1, max: 1e6}), small, small, (...settings) => {
        const [window, schedule, seed, padding, slack] = settings;
        const before = tf.memory().numTensors;
        tf.tidy(() => {
          const batch = schedule[0]!.length;
          const attrs: AttentionAttrs = {scale: 0.7, logitSoftCap: null, window, bidirectional: false};
          const totals = schedule[0]!.map((_, row) => schedule.reduce((sum, counts) => sum + counts[row]!, 0));
          const longest = Math.max(1, ...totals);
          const [q, k, v] = [1, 2, 3].map(i => tokens(batch, longest, seed + i)) as [
            tf.Tensor4D,
            tf.Tensor4D,
            tf.Tensor4D,
          ];
          const positions = tf.tensor2d([Array.from({length: longest}, (_, i) => i)], undefined, 'int32');
          const whole = attention({q, k, v, queryPositions: positions, keyPositions: positions}, attrs);

          const cache = new KvCache({batch, maxLength: longest + slack, ...SHAPE, window, slack});
          for (const counts of schedule) {
            const starts = [...cache.lengths];
            if (slack) {
              // A wrong guess that is removed again leaves no trace.
              const guess = tf.fill([batch, slack, 2, 3], 1e3) as tf.Tensor4D;
              cache.append(
                guess,
                guess,
                starts.map((_, row) => (row % 2 ? slack : 1)),
              );
              cache.truncate(starts);
            }
            const length = Math.max(1, ...counts) + padding;
            // Tokens after the counts are noise that must not be seen.
            const part = (x: tf.Tensor4D) =>
              tf.concat(
                starts.map((start, row) => {
                  const real = tf.slice(x, [row, start, 0, 0], [1, counts[row]!, 2, 3]);
                  const noise = tf.fill([1, length - counts[row]!, 2, 3], 1e3);
                  return counts[row]! === 0 ? noise : counts[row]! === length ? real : tf.concat([real, noise], 1);
                }),
                0,
              ) as tf.Tensor4D;
            const seen = cache.append(part(k), part(v), counts);
            expect(cache.lengths).toEqual(starts.map((start, row) => start + counts[row]!));
            const queryPositions = tf.tensor2d(
              starts.map(start => Array.from({length}, (_, t) => start + t)),
              undefined,
              'int32',
            );
            const {k: keys, v: values, keyPositions} = seen;
            const y = attention({q: part(q), k: keys, v: values, queryPositions, keyPositions}, attrs);
            starts.forEach((start, row) => {
              const count = counts[row]!;
              if (count === 0) return;
              expect(tf.slice(y, [row, 0, 0, 0], [1, count, 2, 3])).toBeAllClose(
                tf.slice(whole, [row, start, 0, 0], [1, count, 2, 3]),
              );
            });
          }
          cache.dispose();
        });
        expect(tf.memory().numTensors).toBe(before);
      }),
      {numRuns: 30},
    );
  });

  test('has only as many slots as the window is wide', () => {
    const cache = (maxLength: number, window: number | null) => new KvCache({batch: 1, maxLength, ...SHAPE, window});
    expect(cache(10, null).capacity).toBe(10);
    expect(cache(10, 4).capacity).toBe(4);
    expect(cache(3, 4).capacity).toBe(3);
  });

  test('returns the position of each key, and arranges numbers of tokens like the keys', () => {
    tf.tidy(() => {
      const cache = new KvCache({batch: 2, maxLength: 8, ...SHAPE, window: 3});
      const numbers = (values: number[][]) => tf.tensor2d(values, undefined, 'int32');
      const first = cache.append(tokens(2, 4, 1), tokens(2, 4, 2), [4, 2]);
      expect(first.keyPositions.arraySync()).toEqual([
        [0, 1, 2, 3],
        [0, 1, -1, -1],
      ]);
      const four = [
        [5, 6, 7, 8],
        [9, 1, 2, 3],
      ];
      expect(first.layOut(numbers(four)).arraySync()).toEqual(four);
      // Row 0 has no room for two more tokens next to those it still sees.
      const second = cache.append(tokens(2, 2, 3), tokens(2, 2, 4), [2, 1]);
      expect(second.keyPositions.arraySync()).toEqual([
        [3, 1, 2, 4, 5],
        [0, 1, -1, 2, -1],
      ]);
      expect(
        second
          .layOut(
            numbers([
              [5, 6],
              [7, 8],
            ]),
          )
          .arraySync(),
      ).toEqual([
        [0, 0, 0, 5, 6],
        [0, 0, 0, 7, 8],
      ]);
      const third = cache.append(tokens(2, 1, 5), tokens(2, 1, 6), [1, 0]);
      expect(third.keyPositions.arraySync()).toEqual([
        [6, 4, 5],
        [0, 1, 2],
      ]);
      expect(third.layOut(numbers([[5], [6]])).arraySync()).toEqual([
        [5, 0, 0],
        [0, 0, 0],
      ]);
      cache.dispose();
    });
  });

  test('returns its own slots, without copying them, if the new tokens fit', () => {
    tf.tidy(() => {
      for (const [window, slack] of [
        [null, 0],
        [3, 1],
      ] as const) {
        const cache = new KvCache({batch: 2, maxLength: 6, ...SHAPE, window, slack});
        cache.append(tokens(2, 3, 1), tokens(2, 3, 2), [3, 2]);
        const before = tf.memory().numBytes;
        const seen = cache.append(tokens(2, 2, 3), tokens(2, 2, 4), [1, 2]);
        expect(seen.k.shape[1]).toBe(cache.capacity);
        // Only the new tokens and one position per slot were allocated: no keys or values of old tokens.
        expect(tf.memory().numBytes - before).toBeLessThan(2 * 2 * 2 * 6 * 4 + 4 * 2 * 6 + 1);
        const images = seen.layOut(
          tf.tensor2d(
            [
              [7, 9],
              [8, 8],
            ],
            undefined,
            'int32',
          ),
        );
        expect(images.arraySync().map(row => row.slice(0, 4))).toEqual([
          [0, 0, 0, 7],
          [0, 0, 8, 8],
        ]);
        cache.dispose();
      }
    });
  });

  test('copies itself with its contents', () => {
    const before = tf.memory().numTensors;
    const cache = new KvCache({batch: 1, maxLength: 4, ...SHAPE, window: 2, slack: 1});
    tf.tidy(() => void cache.append(tokens(1, 2, 1), tokens(1, 2, 2), [2]));
    const copy = cache.copy();
    tf.tidy(() => void cache.append(tokens(1, 2, 5), tokens(1, 2, 6), [2]));
    expect([cache.lengths, copy.lengths]).toEqual([[4], [2]]);
    tf.tidy(() => {
      const {k, keyPositions} = copy.append(tokens(1, 1, 3), tokens(1, 1, 4), [1]);
      expect(keyPositions.arraySync()).toEqual([[0, 1, 2]]);
      expect(k).toBeAllClose(tf.concat([tokens(1, 2, 1), tokens(1, 1, 3)], 1), 1e-12);
    });
    cache.dispose();
    copy.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('outlives a tidy, and frees its two tensors when disposed', () => {
    const before = tf.memory().numTensors;
    const cache = new KvCache({batch: 1, maxLength: 4, ...SHAPE, window: null});
    tf.tidy(() => {
      cache.append(tokens(1, 2, 1), tokens(1, 2, 2), [2]);
    });
    tf.tidy(() => {
      const {k} = cache.append(tokens(1, 1, 3), tokens(1, 1, 4), [1]);
      expect(tf.slice(k, [0, 0, 0, 0], [1, 3, 2, 3])).toBeAllClose(
        tf.concat([tokens(1, 2, 1), tokens(1, 1, 3)], 1),
        1e-12,
      );
    });
    expect(tf.memory().numTensors).toBe(before + 2);
    cache.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('refuses more tokens than it has room for, and counts that do not match', () => {
    tf.tidy(() => {
      const cache = new KvCache({batch: 2, maxLength: 3, ...SHAPE, window: 2});
      cache.append(tokens(2, 2, 1), tokens(2, 2, 2), [1, 2]);
      expect(() => cache.append(tokens(2, 2, 1), tokens(2, 2, 2), [2, 2])).toThrow(
        'Expected at most 3 tokens per row. Received: 2 tokens for row 1, which already has 2.',
      );
      for (const counts of [[1], [1, 3], [-1, 1], [0.5, 1], [1, 1, 1]]) {
        expect(() => cache.append(tokens(2, 2, 1), tokens(2, 2, 2), counts)).toThrow(
          `for each row a count of new tokens from 0 to 2. Received: 2 rows, counts [${counts}].`,
        );
      }
      expect(() => cache.append(tokens(1, 2, 1), tokens(1, 2, 2), [1, 1])).toThrow('Expected tokens for 2 rows');
      expect(cache.lengths).toEqual([1, 2]);
      cache.dispose();
    });
  });

  test('refuses to truncate further than its ring allows', () => {
    const cache = new KvCache({batch: 2, maxLength: 9, ...SHAPE, window: 3, slack: 2});
    tf.tidy(() => void cache.append(tokens(2, 7, 1), tokens(2, 7, 2), [7, 6]));
    expect(cache.canTruncate([5, 4])).toBe(true);
    expect(cache.canTruncate([5, 0])).toBe(true);
    for (const lengths of [[4, 4], [5, 7], [5], [5, 4.5]]) {
      expect(cache.canTruncate(lengths)).toBe(false);
      expect(() => cache.truncate(lengths)).toThrow(/Expected lengths of 2 rows.*at most \[7,6\].*2 tokens below/);
    }
    cache.truncate([5, 4]);
    // The removed tokens had overwritten slots of the ring: shorter rows would need the overwritten keys.
    expect(cache.canTruncate([4, 4])).toBe(false);
    cache.dispose();
  });

  test('copies rows, which are then independent', () => {
    const before = tf.memory().numTensors;
    const cache = new KvCache({batch: 2, maxLength: 5, ...SHAPE, window: null});
    tf.tidy(() => void cache.append(tokens(2, 2, 1), tokens(2, 2, 2), [2, 1]));
    cache.select([1, 0, 1]);
    expect(cache.lengths).toEqual([1, 2, 1]);
    tf.tidy(() => {
      const {k, keyPositions} = cache.append(tokens(3, 1, 3), tokens(3, 1, 4), [1, 1, 0]);
      expect(keyPositions.arraySync()).toEqual([
        [0, 1, -1, -1, -1],
        [0, 1, 2, -1, -1],
        [0, -1, -1, -1, -1],
      ]);
      const given = tokens(2, 2, 1);
      expect(tf.slice(k, [2, 0, 0, 0], [1, 1, 2, 3])).toBeAllClose(tf.slice(given, [1, 0, 0, 0], [1, 1, 2, 3]));
      expect(tf.slice(k, [1, 0, 0, 0], [1, 2, 2, 3])).toBeAllClose(tf.slice(given, [0, 0, 0, 0], [1, 2, 2, 3]));
    });
    for (const rows of [[], [2, 3], [0.5]]) expect(() => cache.select(rows)).toThrow(/Expected rows from 0 to 2/);
    cache.dispose();
    expect(tf.memory().numTensors).toBe(before);
  });

  test('grows with its tokens, up to the largest length, and keeps them', () => {
    const before = tf.memory().numTensors;
    tf.tidy(() => {
      const schedule = [
        [200, 3],
        [50, 300],
        [1, 1],
        [0, 300],
        [30, 30],
      ];
      const sums = schedule.reduce<number[][]>(
        (all, counts) => [...all, counts.map((n, i) => n + all.at(-1)![i]!)],
        [[0, 0]],
      );
      const [k, v] = [tokens(2, 700, 1), tokens(2, 700, 2)];
      for (const [window, slack, capacities] of [
        [null, 0, [256, 512, 512, 700, 700]],
        [400, 100, [256, 500, 500, 500, 500]],
        [30, 2, [32, 32, 32, 32, 32]],
      ] as const) {
        const cache = new KvCache({batch: 2, maxLength: 700, ...SHAPE, window, slack});
        schedule.forEach((counts, i) => {
          const length = Math.max(...counts);
          const part = (x: tf.Tensor4D) =>
            tf.stack(
              sums[i]!.map((start, row) => {
                const real = tf.slice(x, [row, start, 0, 0], [1, counts[row]!, 2, 3]);
                return tf.reshape(
                  tf.pad4d(real as tf.Tensor4D, [
                    [0, 0],
                    [0, length - counts[row]!],
                    [0, 0],
                    [0, 0],
                  ]),
                  [length, 2, 3],
                );
              }),
            ) as tf.Tensor4D;
          const seen = cache.append(part(k), part(v), counts);
          expect(cache.capacity).toBe(capacities[i]);
          const [positions, keys] = [seen.keyPositions.arraySync(), tf.slice(seen.k, 0).arraySync()];
          const given = k.arraySync();
          // Each row has the keys of its last tokens, as many as its queries see.
          sums[i + 1]!.forEach((end, row) => {
            const from = Math.max(0, sums[i]![row]! - (window ?? Infinity) + 1);
            for (let p = from; p < end; p += 7) {
              expect(keys[row]![positions[row]!.indexOf(p)]).toEqual(given[row]![p]);
            }
            expect(Math.max(...positions[row]!)).toBe(end - 1);
          });
        });
        expect(cache.canTruncate([100, 200])).toBe(window === null);
        cache.dispose();
      }
    });
    expect(tf.memory().numTensors).toBe(before);
  });

  test('takes no memory for tokens that it does not have', () => {
    const before = tf.memory().numBytes;
    const cache = new KvCache({batch: 1, maxLength: Number.MAX_SAFE_INTEGER, ...SHAPE, window: null, slack: 1e9});
    expect(tf.memory().numBytes - before).toBe(2 * 256 * 6 * 4);
    cache.dispose();
  });

  test('refuses unusable arguments', () => {
    const args = {batch: 1, maxLength: 4, ...SHAPE, window: null};
    for (const [wrong, message] of [
      [{maxLength: 2.5}, '`maxLength` to be a positive integer. Received: maxLength=2.5'],
      [{maxLength: NaN}, 'maxLength=NaN'],
      [{maxLength: Infinity}, 'maxLength=Infinity'],
      [{maxLength: '4'}, 'maxLength="4"'],
      [{batch: 0}, '`batch` to be a positive integer'],
      [{window: 0}, '`window` to be null or a positive integer'],
      [{slack: -1}, '`slack` to be a positive integer'],
      [{length: 3}, 'KvCache has no argument "length"'],
    ] as const) {
      expect(() => new KvCache({...args, ...wrong} as never)).toThrow(message);
    }
  });
});
