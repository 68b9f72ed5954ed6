/** Model inputs by name: conversion to tensors, and errors. */
import * as tf from '@tensorflow/tfjs';
import {ValueError} from '../../src/base/errors';
import {inputTensors, type ModelInputs} from '../../src/layers/named_inputs';
import {expectNoLeak} from '../support/numbers';

/** The parts of a model that `inputTensors` reads. */
const modelOf = (inputs: Record<string, [(number | null)[], 'int32' | 'float32']>) =>
  ({
    inputNames: Object.keys(inputs),
    inputs: Object.values(inputs).map(([shape, dtype]) => ({shape, dtype})),
  }) as unknown as tf.LayersModel;

const TEXT = modelOf({token_ids: [[null, null], 'int32'], padding_mask: [[null, null], 'int32']});
const VISION = modelOf({
  token_ids: [[null, null], 'int32'],
  padding_mask: [[null, null], 'int32'],
  images: [[null, null, 2, 2, 3], 'float32'],
  vision_indices: [[null, null], 'int32'],
  vision_mask: [[null, null], 'int32'],
});
const image = [
  [
    [0, 0.5, 1],
    [0, 0, 0],
  ],
  [
    [1, 1, 1],
    [0, 0, 0],
  ],
];

test('takes nested arrays, typed arrays and truth values', async () => {
  await expectNoLeak(() => {
    const {tensors, created} = inputTensors(TEXT, {
      padding_mask: [
        [true, false],
        [true, true],
      ],
      token_ids: [Int32Array.of(2, 5), Uint16Array.of(7, 8)] as never,
    });
    expect(created).toEqual(tensors);
    expect(tensors.map(tensor => [tensor.dtype, tensor.arraySync()])).toEqual([
      [
        'int32',
        [
          [2, 5],
          [7, 8],
        ],
      ],
      [
        'int32',
        [
          [1, 0],
          [1, 1],
        ],
      ],
    ]);
    tf.dispose(created);
  });
});

test('takes tensors as they are, and images or none', async () => {
  await expectNoLeak(() => {
    const ids = tf.tensor2d([[2, 5, 7]], undefined, 'int32');
    const text = {token_ids: ids, padding_mask: [[1, 1, 1]], vision_mask: [[0, 1, 0]]};
    const one = inputTensors(VISION, {...text, images: [[image]], vision_indices: [[1]]});
    expect(one.tensors[0]).toBe(ids);
    expect(one.created).toHaveLength(4);
    expect(one.tensors[2]!.shape).toEqual([1, 1, 2, 2, 3]);
    const none = inputTensors(VISION, {...text, images: tf.zeros([1, 0, 2, 2, 3]), vision_indices: [[]]});
    expect(none.tensors[3]!.shape).toEqual([1, 0]);
    tf.dispose([ids, one.created, none.tensors]);
  });
});

const ones = [[1, 1]];
describe('refuses', () => {
  test.each<[unknown, string]>([
    [
      {token_ids: [[1], [1, 2]], padding_mask: ones},
      'Received: 1 and 2 elements in rows along one axis. Pad all rows to the same length',
    ],
    [{token_ids: [[1, 2], 3], padding_mask: ones}, 'Received: rows of different depths. Pass each sample as one row.'],
    [{token_ids: [[1, [2]]], padding_mask: ones}, 'Received: rows of different depths. Pass only numbers.'],
    [{token_ids: ones, padding_mask: [[1, '1']]}, 'Expected `padding_mask` as a tensor or as nested arrays of whole'],
    [{token_ids: [[1, 1.5]], padding_mask: ones}, 'nested arrays of whole numbers. Received: 1.5. Pass only numbers.'],
    [{token_ids: ones, padding_mask: null}, 'Received: null. Pass only numbers.'],
    [{token_ids: ones, padding_mask: 'ab'}, 'Received: "ab".'],
    [
      {token_ids: [1, 1], padding_mask: ones},
      'of rank 2, (batch, any). Received: shape [2]. Pass one sample as a batch',
    ],
    [{token_ids: 3, padding_mask: ones}, 'Expected `token_ids` of rank 2, (batch, any). Received: shape [].'],
    [{token_ids: [ones], padding_mask: ones}, 'Received: shape [1,1,2].'],
    [
      {token_ids: [...ones, ...ones], padding_mask: ones},
      'batch size for all inputs. Received: token_ids [2,2], padding',
    ],
    [
      {token_ids: ones, padding_mask: [[1]]},
      'Expected token_ids, padding_mask with the same shape (batch, length). Received: ',
    ],
    [
      {token_ids: [[], []], padding_mask: [[], []]},
      'at least one row, and one token in each. Received: token_ids [2,0]',
    ],
    [{token_ids: [], padding_mask: []}, 'Received: shape [0]. Pass one sample as a batch of one'],
    [[ones, ones], 'Received: [[1,1]]. Pass numbers by name: {token_ids, padding_mask}.'],
    [[], 'Expected 2 inputs: token_ids, padding_mask. Received: 0.'],
    [{token_ids: ones}, 'Expected inputs token_ids, padding_mask. Received: token_ids.'],
    [{token_ids: ones, toString: ones}, 'Received: token_ids, toString.'],
    [undefined, 'Expected inputs token_ids, padding_mask. Received: undefined.'],
    [null, 'Received: null.'],
    ['text', 'Received: "text".'],
  ])('%j', async (x, message) => {
    await expectNoLeak(() => {
      expect(() => inputTensors(TEXT, x as ModelInputs)).toThrow(ValueError);
      expect(() => inputTensors(TEXT, x as ModelInputs)).toThrow(message);
    });
  });

  test.each<[object, string]>([
    [{images: [[[[0]]]]}, 'Expected `images` of rank 5, (batch, any, 2, 2, 3). Received: shape [1,1,1,1].'],
    [{images: tf.zeros([1, 1, 3, 2, 3])}, 'Received: shape [1,1,3,2,3].'],
    [
      {images: tf.zeros([2, 1, 2, 2, 3])},
      'the same batch size for all inputs. Received: token_ids [1,2], padding_mask [1,2],',
    ],
    [{vision_mask: [[0]]}, 'Expected token_ids, padding_mask, vision_mask with the same shape (batch, length).'],
  ])('images: %#', async (more, message) => {
    await expectNoLeak(() => {
      const x = {token_ids: ones, padding_mask: ones, images: [[image]], vision_indices: [[1]], vision_mask: ones};
      expect(() => inputTensors(VISION, {...x, ...more})).toThrow(message);
    });
    tf.dispose({...more});
  });

  test('tensors in the wrong order of size', async () => {
    const [ids, mask] = [tf.zeros([2, 3], 'int32'), tf.ones([2, 4], 'int32')];
    await expectNoLeak(() => {
      expect(() => inputTensors(TEXT, [ids, mask])).toThrow('Received: token_ids [2,3], padding_mask [2,4].');
      expect(() => inputTensors(TEXT, ids)).toThrow('Expected 2 inputs');
    });
    tf.dispose([ids, mask]);
  });
});
