/** Tensors as images. */
import type * as tf from '@tensorflow/tfjs';
import {ValueError} from '../base/errors';
import {type Pixels} from './pixels';

/**
 * One reader per image of a tensor (height, width, channels) or (images, height, width, channels). The values are
 * fetched only once.
 *
 * @throws ValueError unless the tensor has pixels and is float32 or int32.
 */
export function tensorReaders(tensor: tf.Tensor): (() => Promise<Pixels>)[] {
  const {dtype, rank, shape} = tensor;
  const [height, width, channels] = shape.slice(-3) as [number, number, number];
  if (rank < 3 || height * width * channels === 0 || (dtype !== 'float32' && dtype !== 'int32')) {
    throw new ValueError(
      'Expected pixels as a float32 or int32 tensor (height, width, channels) with numbers from 0 to 255. ' +
        `Received: ${dtype} of shape [${shape.join(', ')}].`,
    );
  }
  let data: Promise<Pixels['values']> | undefined;
  const size = height * width * channels;
  return Array.from({length: tensor.size / size}, (_, i) => async () => {
    data ??= tensor.data() as Promise<Pixels['values']>;
    return {height, width, channels, values: (await data).subarray(i * size, (i + 1) * size)};
  });
}
