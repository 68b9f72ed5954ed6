/** Values from a stream: the next piece is read while one is packed, where the stream allows it. */
import type * as tf from '@tensorflow/tfjs';
import {packStream} from '../../src/weights/pack_values';
import {type PackingTarget} from '../../src/weights/packing';
import {type ValueStream} from '../../src/weights/value_stream';

const SHAPE = [5, 3];
const PIECE = 6;

/** A target and a stream that write down what happens to them. */
function recorded(readsAhead: boolean, {failsAt = -1} = {}) {
  const events: string[] = [];
  const placed: number[] = [];
  const target: PackingTarget = {
    multiple: 1,
    place: (values, first, count) => {
      events.push(`place ${first}`);
      if (first === failsAt) throw new Error('no memory');
      expect(values.length).toBe(count * SHAPE[1]!);
      placed.push(...values);
    },
    finish: () => {
      events.push('finish');
      return {} as tf.Tensor;
    },
    abandon: () => void events.push('abandon'),
  };
  const stream: ValueStream = {
    shape: SHAPE,
    readsAhead,
    readFloat32: () => Promise.reject(new Error('not asked for')),
    readBfloat16: async (start, count) => {
      const first = start / SHAPE[1]!;
      events.push(`read ${first}`);
      await new Promise(resolve => setTimeout(resolve));
      events.push(`has ${first}`);
      return Uint16Array.from({length: count}, (_, i) => start + i);
    },
  };
  const fill = () => packStream(target, stream, SHAPE, PIECE, () => void events.push('last'));
  return {events, placed, fill};
}

const all = Array.from({length: 15}, (_, i) => i);

test('a stream that reads ahead fetches the next piece before one is packed', async () => {
  const {events, placed, fill} = recorded(true);
  await fill();
  expect(placed).toEqual(all);
  expect(events).toEqual([
    ...['read 0', 'has 0', 'read 2', 'place 0', 'has 2', 'read 4', 'place 2', 'has 4'],
    ...['last', 'place 4', 'finish'],
  ]);
});

test('other streams are asked for a piece once the one before is packed', async () => {
  const {events, placed, fill} = recorded(false);
  await fill();
  expect(placed).toEqual(all);
  expect(events.join()).toBe('read 0,has 0,place 0,read 2,has 2,place 2,read 4,has 4,place 4,finish');
});

test('where packing fails, the read that has begun ends before the error is thrown', async () => {
  const {events, fill} = recorded(true, {failsAt: 0});
  await expect(fill()).rejects.toThrow('no memory');
  expect(events).toEqual(['read 0', 'has 0', 'read 2', 'place 0', 'has 2', 'abandon']);
});
