/** Converts between the image processor of transformers and KerasHub's image converter. */
import {listed, show, ValueError} from '../../../base/errors';
import {isObject, type Json, type JsonObject} from '../../../base/json';
import {type HuggingFaceFiles, type WrittenParts} from '../../../checkpoints/huggingface/models';
import {dtypePolicy, hubObject} from '../../../checkpoints/keras/objects';

export const hasVision = ({config}: HuggingFaceFiles): boolean =>
  config.model_type === 'gemma3' && isObject(config.vision_config);

/** Pillow's filters in the order of their numbers, under Keras' names. */
const PILLOW_FILTERS: readonly string[] = ['nearest', 'lanczos3', 'bilinear', 'bicubic'];

/**
 * The image converter that computes what the image processor of transformers does: the image is resized to a square
 * with all of its pixels, and not cropped.
 */
export async function imageConverter(files: HuggingFaceFiles): Promise<JsonObject | null> {
  if (!hasVision(files)) return null;
  const {source, config} = files;
  const processor = await files.json('processor_config.json');
  const nested = processor?.image_processor;
  const settings = (await files.json('preprocessor_config.json')) ?? (isObject(nested) ? nested : null);
  if (settings === null) {
    throw new ValueError(
      `Expected "preprocessor_config.json" in "${source.name}", which says how images are prepared. Received: a ` +
        'folder without it. Fetch it, or pass `preprocessor: null` for a model that takes token ids.',
    );
  }
  const problems: string[] = [];
  const only = (key: string, expected: Json) => {
    const value = settings[key] ?? expected;
    if (value !== expected) problems.push(`${key}=${show(value)}, expected ${show(expected)}`);
  };
  for (const key of ['do_resize', 'do_rescale', 'do_normalize']) only(key, true);
  for (const key of ['do_pan_and_scan', 'do_center_crop', 'do_pad']) only(key, false);
  const numbers = (key: string): number[] => {
    const value = settings[key] ?? [0.5, 0.5, 0.5];
    if (Array.isArray(value) && value.length === 3 && value.every(item => typeof item === 'number')) {
      return value as number[];
    }
    problems.push(`${key}=${show(value)}, expected three numbers`);
    return [1, 1, 1];
  };
  const {image_size: imageSize = 224} = config.vision_config as JsonObject;
  const size = settings.size ?? {height: imageSize, width: imageSize};
  if (!isObject(size) || size.height !== imageSize || size.width !== imageSize) {
    problems.push(`size=${show(size)}, expected ${show(imageSize)} pixels on both sides, as in vision_config`);
  }
  const {resample = 2, rescale_factor: rescale = 1 / 255} = settings;
  const filter = PILLOW_FILTERS[resample as number];
  if (filter === undefined) problems.push(`resample=${show(resample)}, expected 0, 1, 2 or 3`);
  if (typeof rescale !== 'number') problems.push(`rescale_factor=${show(rescale)}, expected a number`);
  const [mean, std] = [numbers('image_mean'), numbers('image_std')];
  if (problems.length) {
    throw new ValueError(
      `Expected image settings that KerasHub's image converter supports in "${source.name}". Received: ` +
        `${listed(problems)}.`,
    );
  }
  return hubObject('Gemma3ImageConverter', {
    name: 'gemma3_image_converter',
    trainable: true,
    dtype: dtypePolicy('float32'),
    image_size: [imageSize, imageSize],
    scale: std.map(value => (rescale as number) / value),
    offset: mean.map((value, i) => -value / std[i]!),
    interpolation: filter!,
    antialias: true,
    crop_to_aspect_ratio: false,
    pad_to_aspect_ratio: false,
    bounding_box_format: 'yxyx',
  });
}

const PROCESSOR = 'Gemma3Processor';

/** KerasHub's constants for images, which are Google's. */
const USUAL: JsonObject = {scale: 1 / 127.5, offset: -1, interpolation: 'bilinear'};

/** Three numbers, of a number or a list. */
const three = (value: unknown, usual: number): number[] =>
  Array.isArray(value) && value.length === 3
    ? (value as number[])
    : Array(3).fill(typeof value === 'number' ? value : usual);

/**
 * The settings of the image processor. It resizes an image to a square with all of its pixels, and averages them when it
 * makes an image smaller. KerasHub's converter can do both differently.
 */
export function imageFiles(
  {imageConverter}: WrittenParts,
  {mm_tokens_per_image, vision_config}: JsonObject,
): [string, JsonObject][] {
  const {image_size: size} = vision_config as JsonObject;
  const converter = imageConverter?.config ?? {};
  const {scale, offset, interpolation} = {...USUAL, ...converter};
  const std = three(scale, 1 / 127.5).map(factor => 1 / 255 / factor);
  const mean = three(offset, -1).map((shift, i) => -shift * std[i]!);
  const filter = PILLOW_FILTERS.indexOf(interpolation as string);
  const differences = [
    ...(converter.crop_to_aspect_ratio === false || !imageConverter ? [] : ['crops images to a square']),
    ...(converter.pad_to_aspect_ratio === true ? ['pads images to a square'] : []),
    ...(converter.antialias === true || !imageConverter ? [] : ['resizes without antialiasing']),
    ...(filter < 0 ? [`resizes with "${String(interpolation)}"`] : []),
  ];
  if (differences.length) {
    console.warn(
      `The image converter of this model ${differences.join(', and ')}. The image processor of transformers resizes ` +
        'the whole image to a square, with antialiasing, as when the model was trained: its pixels differ.',
    );
  }
  return [
    [
      'preprocessor_config.json',
      {
        image_processor_type: 'Gemma3ImageProcessor',
        processor_class: PROCESSOR,
        do_convert_rgb: null,
        do_resize: true,
        size: {height: size!, width: size!},
        resample: filter < 0 ? 2 : filter,
        do_rescale: true,
        rescale_factor: 1 / 255,
        do_normalize: true,
        image_mean: mean,
        image_std: std,
        image_seq_length: mm_tokens_per_image!,
        do_pan_and_scan: null,
        pan_and_scan_min_crop_size: null,
        pan_and_scan_max_num_crops: null,
        pan_and_scan_min_ratio_to_activate: null,
      },
    ],
    ['processor_config.json', {processor_class: PROCESSOR, image_seq_length: mm_tokens_per_image!}],
  ];
}
