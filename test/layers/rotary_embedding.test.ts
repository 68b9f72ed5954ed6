/** `RotaryEmbedding` against its formula, for any order of axes. */
import * as tf from '@tensorflow/tfjs';
import {RotaryEmbedding, type RotaryEmbeddingArgs} from '../../src/layers/rotary_embedding';
import {normal} from '../support/random';

/** Rotates one pair of features at a position, with a wavelength of 100 and positions divided by 2. */
const turned = (a: number, b: number, position: number, pair: number, width: number): [number, number] => {
  const angle = position / 2 / 100 ** ((2 * pair) / width);
  return [a * Math.cos(angle) - b * Math.sin(angle), b * Math.cos(angle) + a * Math.sin(angle)];
};

describe('RotaryEmbedding', () => {
  const args = {maxWavelength: 100, scalingFactor: 2};
  const x = normal([2, 3, 2, 4], 1) as tf.Tensor4D;
  const expected = (starts: number[]) =>
    x.arraySync().flatMap((row, b) =>
      row.flatMap((heads, t) =>
        heads.flatMap(head => {
          const pairs = [0, 1].map(i => turned(head[i]!, head[i + 2]!, (starts[b] ?? starts[0]!) + t, i, 4));
          return [...pairs.map(pair => pair[0]), ...pairs.map(pair => pair[1])];
        }),
      ),
    );

  test.each<[number | number[] | undefined, number[]]>([
    [undefined, [0]],
    [5, [5]],
    [
      [0, 9],
      [0, 9],
    ],
  ])('rotates from position %j on', (startIndex, starts) => {
    const layer = new RotaryEmbedding(args);
    const before = tf.memory().numTensors;
    const y = layer.call(x, startIndex === undefined ? {} : {startIndex});
    expect(tf.memory().numTensors).toBe(before + 1);
    expect(y).toBeAllClose(expected(starts));
    y.dispose();
  });

  test('accepts its axes in any order', () => {
    tf.tidy(() => {
      const y = new RotaryEmbedding(args).call(x, {startIndex: [1, 2]});
      for (const [axes, sequenceAxis, featureAxis] of [
        [[0, 2, 1, 3], 2, -1],
        [[0, 3, 2, 1], 3, 1],
        [[0, 1, 3, 2], 1, 2],
        [[0, 3, 1, 2], 2, 1],
      ] as const) {
        const layer = new RotaryEmbedding({...args, sequenceAxis, featureAxis});
        expect(layer.call(tf.transpose(x, [...axes]), {startIndex: [1, 2]})).toBeAllClose(tf.transpose(y, [...axes]));
      }
      const flat = tf.reshape(tf.slice(x, [0, 0, 0, 0], [2, 3, 1, 4]), [2, 3, 4]);
      expect(new RotaryEmbedding(args).call(flat, {startIndex: [1, 2]}).reshape([2, 3, 1, 4])).toBeAllClose(
        tf.slice(y, [0, 0, 0, 0], [2, 3, 1, 4]),
      );
    });
  });

  test('survives a config round trip, and has nothing to dispose', () => {
    const config = new RotaryEmbedding({...args, name: 'rope'}).getConfig();
    const copy = new RotaryEmbedding(config as unknown as RotaryEmbeddingArgs);
    expect(copy.getConfig()).toEqual(config);
    expect(copy.weights).toEqual([]);
    expect(copy.dispose()).toMatchObject({numDisposedVariables: 0});
  });

  test('refuses inputs that it cannot rotate', () => {
    const layer = new RotaryEmbedding();
    expect(() => layer.call(tf.zeros([1, 2, 3]))).toThrow('Rotary dimension must be even');
    expect(() => layer.call(tf.zeros([2, 2, 4]), {startIndex: [1, 2, 3]})).toThrow(
      'Expected one startIndex, or one for each of the 2 rows. Received: [1,2,3].',
    );
    expect(() => new RotaryEmbedding({featureAxis: 1}).call(tf.zeros([1, 2, 4]))).toThrow('must be different');
    expect(() => new RotaryEmbedding({sequenceAxis: 3}).call(tf.zeros([1, 2, 4]))).toThrow('of rank 3. Received: 3.');
    expect(() => new RotaryEmbedding({wavelength: 1} as never)).toThrow('has no argument "wavelength"');
  });
});
