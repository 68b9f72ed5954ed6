/** Image tensors that accompany token ids: outputs of a preprocessor, and inputs of generation without one. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../base/errors';
import {type Prompt} from '../generation/decoder';

/** Shapes are for a batch; the tensors of a single text have no first axis. */
export type VisionTensors = {
  /** float32 (B, images, S, S, 3). A row's images come first; its other slots are black and ignored. */
  images: tf.Tensor;
  /**
   * int32 (B, images · tokens per image): positions of the images' tokens, then 0 as padding. The mask already says
   * this, but Keras needs both.
   */
  vision_indices: tf.Tensor;
  /** bool (B, T): true for tokens that stand for parts of images. */
  vision_mask: tf.Tensor;
};

export const VISION_TENSORS: readonly string[] = ['images', 'vision_indices', 'vision_mask'];

/**
 * Images and mask of each row; null without images. The caller disposes the images.
 *
 * @param rows token ids, without padding.
 * @param length the length of a row, with padding.
 * @throws ValueError on tensors that do not match.
 */
export async function visionOfRows(
  {images, vision_indices: indices, vision_mask: mask}: Partial<VisionTensors>,
  rows: readonly (readonly number[])[],
  length: number,
): Promise<Pick<Prompt, 'images' | 'visionMask'>[] | null> {
  if (images === undefined && indices === undefined && mask === undefined) return null;
  const batch = rows.length;
  const all = [images, indices, mask];
  const [places, ...size] = images?.shape.slice(-4) ?? [];
  const fits =
    all.every(tensor => tensor instanceof tf.Tensor) &&
    size.length === 3 &&
    images!.size === batch * places! * size[0]! * size[1]! * size[2]! &&
    mask!.size === batch * length &&
    (places === 0 ? indices!.size === 0 : indices!.size % (batch * places!) === 0);
  if (!fits) {
    const received = all.map((tensor, i) => `${VISION_TENSORS[i]} ${tensor ? show(tensor.shape) : 'missing'}`);
    throw new ValueError(
      `Expected images (${batch}, images, S, S, 3), vision_indices (${batch}, images · tokens per image) and ` +
        `vision_mask (${batch}, ${length}), all or none, without the first axis for a single text. Received: ${received.join(', ')}.`,
    );
  }
  if (places === 0) return null;
  const values = await mask!.data();
  const tokensPerImage = indices!.size / (batch * places!);
  const masks = rows.map((row, i) => row.map((_, t) => values[i * length + t] !== 0));
  const counts = masks.map(row => row.filter(Boolean).length / tokensPerImage);
  const wrong = counts.findIndex(count => !Number.isInteger(count) || count > places!);
  if (wrong >= 0) {
    throw new ValueError(
      `Expected ${tokensPerImage} tokens in vision_mask for each of at most ${places} images. ` +
        `Received: ${counts[wrong]! * tokensPerImage} in row ${wrong}.`,
    );
  }
  const batched = tf.reshape(images!, [batch * places!, size[0]!, size[1]!, size[2]!]);
  const found = counts.map((count, i) => ({
    images: count > 0 ? (tf.slice(batched, [i * places!], [count]) as tf.Tensor4D) : null,
    visionMask: masks[i]!,
  }));
  batched.dispose();
  return found;
}
