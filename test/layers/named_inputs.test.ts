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

test('takes arrays with a shape, and 64-bit integers', async () => {
  await expectNoLeak(() => {
    const {tensors, created} = inputTensors(TEXT, {
      token_ids: {data: BigInt64Array.of(2n, 5n, 7n, 8n), shape: [2, 2]},
      padding_mask: {data: [true, false, true, true], shape: [2, 2]},
      images: undefined,
    });
    expect(tensors.map(tensor => [tensor.dtype, tensor.shape, [...tensor.dataSync()]])).toEqual([
      ['int32', [2, 2], [2, 5, 7, 8]],
      ['int32', [2, 2], [1, 0, 1, 1]],
    ]);
    tf.dispose(created);
  });
});

test('takes one sample without the first axis, as a preprocessor returns it', async () => {
  const [ids, mask] = [tf.tensor1d([2, 5], 'int32'), tf.tensor1d([1, 1], 'bool')];
  await expectNoLeak(() => {
    const {tensors, created} = inputTensors(TEXT, {token_ids: ids, padding_mask: mask});
    expect(tensors.map(({shape}) => shape)).toEqual([
      [1, 2],
      [1, 2],
    ]);
    tf.dispose(created);
  });
  tf.dispose([ids, mask]);
});

test('a model with one input takes its numbers without a name', async () => {
  const model = modelOf({images: [[null, null, 2, 2, 3], 'float32']});
  const batch = tf.zeros([1, 1, 2, 2, 3]);
  await expectNoLeak(() => {
    for (const x of [
      batch,
      [batch],
      [[image]],
      [image],
      {images: [[image]]},
      {data: image.flat(2), shape: [1, 1, 2, 2, 3]},
    ]) {
      const {tensors, created} = inputTensors(model, x as ModelInputs);
      expect(tensors.map(({shape}) => shape)).toEqual([[1, 1, 2, 2, 3]]);
      tf.dispose(created);
    }
  });
  batch.dispose();
});

const ones = [[1, 1]];
describe('refuses', () => {
  test.each<[unknown, string]>([
    [
      {token_ids: [[1], [1, 2]], padding_mask: ones},
      'Received: token_ids[0] of length 1, but token_ids[1] of length 2. Make all rows equally long: pad token ids',
    ],
    [
      {token_ids: [[1, 2], 3], padding_mask: ones},
      'Received: 3 at token_ids[1], but an array at token_ids[0]. Pass each sample as one row.',
    ],
    [
      {token_ids: [[1, [2]]], padding_mask: ones},
      'Received: an array at token_ids[0][1], but a number at token_ids[0][0]. Pass all rows in one depth.',
    ],
    [{token_ids: ones, padding_mask: [[1, '1']]}, 'Expected `padding_mask` as a tensor, as nested arrays of whole'],
    [
      {token_ids: [[1, 1.5]], padding_mask: ones},
      'whole numbers, or as {data, shape}. Received: 1.5 at token_ids[0][1]. Pass only numbers.',
    ],
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
    [{token_ids: [], padding_mask: []}, 'one token in each. Received: token_ids [1,0]'],
    [
      {token_ids: {data: [1, 1, 1], shape: [1, 2]}, padding_mask: ones},
      'Received: 3 elements and the shape [1,2]. Pass as many elements as the shape has places.',
    ],
    [{token_ids: {data: Float32Array.of(1, 0.5), shape: [1, 2]}, padding_mask: ones}, 'Received: 0.5 at token_ids[1].'],
    [{token_ids: [BigInt64Array.of(1n, 2n ** 40n)], padding_mask: ones}, 'Pass only numbers of 32 bits.'],
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
