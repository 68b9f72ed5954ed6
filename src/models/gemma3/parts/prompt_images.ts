/** Images of prompts: assigns them to their prompts, inserts their tokens, and creates the model's inputs. */
import * as tf from '@tensorflow/tfjs';
import {show, ValueError} from '../../../base/errors';
import {arrayRank, isShapedArray, partsOf, type ShapedArray} from '../../../base/nested_array';
import {type ImageLike, type ImageReader, readPixels, tensorReaders} from '../../../images/image_like';
import {type Pixels} from '../../../images/pixels';
import {type VisionTensors} from '../../vision_tensors';
import {type Gemma3ImageConverter} from '../gemma3_image_converter';
import {type Gemma3Tokenizer} from '../gemma3_tokenizer';

/**
 * Images of one prompt: one image, a list, numbers (images, height, width, 3) of several, or null for none. Numbers are
 * a tensor, nested arrays or {data, shape}.
 */
export type ImagesOfPrompt = ImageLike | tf.Tensor4D | readonly ImageLike[] | null;

/**
 * Images of all prompts: for one prompt, its images; for several prompts, a list with one entry per prompt, or numbers
 * (prompts, height, width, 3) with one image per prompt, or (prompts, images, height, width, 3) with several.
 */
export type PromptImages = ImagesOfPrompt | tf.Tensor5D | readonly ImagesOfPrompt[];

const isTensor = (value: unknown): value is tf.Tensor => value instanceof tf.Tensor;

/** The parts of a list, or of an array with a shape along its first axis. */
const listOf = (images: readonly unknown[] | ShapedArray): readonly unknown[] =>
  isShapedArray(images) ? partsOf(images) : images;

function readersOf(images: ImagesOfPrompt): ImageReader[] {
  if (images === null) return [];
  if (isTensor(images) && (images as tf.Tensor).rank === 4) return tensorReaders(images);
  const rank = arrayRank(images);
  const several = isShapedArray(images) ? rank === 4 : Array.isArray(images) && rank !== 3;
  const list = several ? (listOf(images as readonly ImageLike[] | ShapedArray) as ImageLike[]) : [images as ImageLike];
  return list.map(image => imageOrientation => readPixels(image, imageOrientation));
}

/**
 * Functions that read the images of each prompt.
 *
 * @param scalar whether the prompt is one string, not in a list.
 * @throws ValueError unless there is one entry per prompt.
 */
export function imageReaders(images: PromptImages, prompts: number, scalar: boolean): ImageReader[][] {
  if (scalar) {
    if (isTensor(images) ? images.rank === 5 : arrayRank(images) === 5) {
      const received = isTensor(images) || isShapedArray(images) ? `shape [${images.shape}]` : 'an array with 5 axes';
      throw new ValueError(`Expected the images of one prompt as (images, height, width, 3). Received: ${received}.`);
    }
    return [readersOf(images as ImagesOfPrompt)];
  }
  const expected = `Expected images for each of the ${prompts} prompts, in a list or along the first axis of a tensor.`;
  if (isTensor(images)) {
    const {rank, shape} = images;
    if ((rank !== 4 && rank !== 5) || shape[0] !== prompts) {
      throw new ValueError(`${expected} Received: a tensor of shape [${shape.join(', ')}].`);
    }
    const each = rank === 4 ? 1 : shape[1]!;
    const readers = tensorReaders(images);
    return Array.from({length: prompts}, (_, i) => readers.slice(i * each, (i + 1) * each));
  }
  const one = arrayRank(images) === 3;
  const list = !one && (Array.isArray(images) || isShapedArray(images)) ? listOf(images) : undefined;
  if (list?.length !== prompts) {
    throw new ValueError(`${expected} Received: ${list ? `a list of ${list.length}` : 'one image'}.`);
  }
  return (list as readonly ImagesOfPrompt[]).map(readersOf);
}

/** Replaces each `<start_of_image>` in a prompt with all tokens of an image, as the model was trained. */
export function expandImageTokens(prompt: string, tokenizer: Gemma3Tokenizer, tokensPerImage: number): string {
  const {startOfImageToken, endOfImageToken, imagePlaceholder} = tokenizer;
  const parts = imagePlaceholder.repeat(tokensPerImage);
  return prompt.replaceAll(startOfImageToken, `\n\n${startOfImageToken}${parts}${endOfImageToken}\n\n`);
}

/**
 * Checks that texts and images match.
 *
 * @param prompts as the user wrote them.
 * @param responses the texts that follow the prompts in training; they have no images.
 * @param readers images of each prompt; null if no images were passed.
 * @throws ValueError unless each prompt has one marker for each of its images, and each response none.
 */
export function checkImageCounts(
  {prompts, responses = []}: {prompts: readonly string[]; responses?: readonly string[]},
  readers: readonly (readonly ImageReader[])[] | null,
  {startOfImageToken: start, imagePlaceholder}: Gemma3Tokenizer,
  maxImages: number,
): void {
  prompts.forEach((prompt, i) => {
    const images = readers?.[i]!.length ?? 0;
    const tokens = prompt.split(start).length - 1;
    if (images > maxImages) {
      throw new ValueError(
        `Expected at most ${maxImages} images in a prompt. Received: ${images} in prompt ${i}. ` +
          'Pass fewer, or create a preprocessor with a larger `maxImagesPerPrompt`.',
      );
    }
    if (images !== tokens) {
      throw new ValueError(
        `Expected ${start} in a prompt, once for each of its images. ` +
          `Received: ${images} images, but ${start} ${tokens} times in prompt ${i}, ${show(prompt)}. ` +
          'Pass {prompts, images} with one image for each, or leave the others out.',
      );
    }
    // Without images, `<img>` is the tag of HTML.
    if (readers && prompt.includes(imagePlaceholder)) {
      throw new ValueError(
        `Expected prompts that mark images with ${start}. ` +
          `Received: ${imagePlaceholder} in prompt ${i}, which stands for a part of one. Leave it out.`,
      );
    }
  });
  responses.forEach((response, i) => {
    const token = [start, ...(readers ? [imagePlaceholder] : [])].find(marker => response.includes(marker));
    if (token === undefined) return;
    throw new ValueError(
      `Expected responses without images, which only prompts have. Received: ${token} in response ${i}, ` +
        `${show(response)}. Leave it out.`,
    );
  });
}

// === Tensors ===

interface Converted {
  /** Pixels of all images, one after another. */
  values: Float32Array;
  size: readonly [number, number];
}

/** Pixels of `slots[i]` images for prompt i. If it has fewer images, the other slots are black. */
async function convertAll(
  readers: readonly (readonly ImageReader[])[],
  slots: readonly number[],
  converter: Gemma3ImageConverter,
): Promise<Converted> {
  const size = converter.imageSize!;
  const each = size[0] * size[1] * 3;
  const values = new Float32Array(each * slots.reduce((sum, count) => sum + count, 0));
  const black = {height: 1, width: 1, channels: 3, values: new Int32Array(3)};
  let blank: Pixels | undefined;
  let at = 0;
  for (const [i, row] of readers.entries()) {
    for (let slot = 0; slot < slots[i]!; slot++, at += each) {
      const reader = row[slot];
      const {channels, values: pixels} = reader
        ? await converter.convert(reader)
        : (blank ??= await converter.convert(async () => black));
      if (channels !== 3) {
        throw new ValueError(
          `Expected images with 3 channels: red, green and blue. Received: ${channels} channels in image ${slot} of ` +
            `prompt ${i}.`,
        );
      }
      values.set(pixels, at);
    }
  }
  return {values, size};
}

/** Images of each prompt, (I, height, width, 3); null for prompts without images. */
export async function imagesOfPrompts(
  readers: readonly (readonly ImageReader[])[],
  converter: Gemma3ImageConverter,
): Promise<(tf.Tensor4D | null)[]> {
  const counts = readers.map(row => row.length);
  const {values, size} = await convertAll(readers, counts, converter);
  let at = 0;
  return counts.map(count => {
    const length = count * size[0] * size[1] * 3;
    at += length;
    return count === 0 ? null : tf.tensor4d(values.slice(at - length, at), [count, ...size, 3]);
  });
}

/**
 * The inputs of a model with vision, except token ids and padding mask.
 *
 * @param rows token ids.
 * @param readers images of each row; null for inputs without slots for images.
 */
export async function visionInputs(
  rows: readonly (readonly number[])[],
  readers: readonly (readonly ImageReader[])[] | null,
  options: {
    converter: Gemma3ImageConverter;
    placeholderId: number;
    maxImages: number;
    tokensPerImage: number;
    scalar: boolean;
  },
): Promise<VisionTensors> {
  const {converter, placeholderId, maxImages, tokensPerImage, scalar} = options;
  const slots = readers ? maxImages : 0;
  const {values, size} = await convertAll(
    readers ?? [],
    rows.map(() => slots),
    converter,
  );
  const mask = rows.map(ids => ids.map(id => readers !== null && id === placeholderId));
  const places = slots * tokensPerImage;
  const indices = mask.map(row => {
    const found = row.flatMap((part, t) => (part ? [t] : [])).slice(0, places);
    return [...found, ...Array.from({length: places - found.length}, () => 0)];
  });
  const shaped = (shape: number[]) => (scalar ? shape : [rows.length, ...shape]);
  return {
    images: tf.tensor(values, shaped([slots, ...size, 3]), 'float32'),
    vision_indices: tf.tensor(indices.flat(), shaped([places]), 'int32'),
    vision_mask: tf.tensor(mask.flat(), shaped([rows[0]!.length]), 'bool'),
  };
}
