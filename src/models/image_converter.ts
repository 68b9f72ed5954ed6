/** Resizes and scales images for a vision encoder. */
import * as tf from '@tensorflow/tfjs';
import {camelKeys, snakeCase} from '../base/casing';
import {checkArgument, checkArguments} from '../base/checks';
import {show, ValueError} from '../base/errors';
import {arrayRank, isShapedArray, partsOf, type ShapedArray} from '../base/nested_array';
import {savePreset} from '../checkpoints/keras/on_demand';
import {type CheckpointLike} from '../checkpoints/open_checkpoint';
import {type PresetTarget} from '../files/open_folder';
import {type PresetEntry, presets} from '../hub/registry';
import {IMAGE_ORIENTATIONS, type ImageOrientation, type Interpolation, INTERPOLATIONS} from '../images/choices';
import {type ImageLike, type ImageReader, readPixels, tensorReaders} from '../images/image_like';
import {type Pixels} from '../images/pixels';
import {loadFromBase, type PresetOptions} from './preset_classes';

const BOX_FORMATS = ['xyxy', 'rel_xyxy', 'xywh', 'center_xywh', 'yxyx', 'rel_yxyx'] as const;

/** How Keras writes the corners of boxes. */
export type BoundingBoxFormat = (typeof BOX_FORMATS)[number];

/** Arguments of {@link ImageConverter}. */
export interface ImageConverterArgs {
  /** Height and width of the result. Null, the default: those of the image. */
  imageSize?: readonly [number, number] | null;
  /** Factor of all pixel values, or one factor per channel. Null, the default: no scaling. */
  scale?: number | readonly number[] | null;
  /** Number added to all values after scaling, or one number per channel. Null, the default: no offset. */
  offset?: number | readonly number[] | null;
  /**
   * Crop the image evenly on both sides to the aspect ratio of the result, instead of distorting it. Defaults to true.
   */
  cropToAspectRatio?: boolean;
  /** Pad the image with zeros to that aspect ratio instead. Defaults to false. */
  padToAspectRatio?: boolean;
  /** How pixels are interpolated when an image is resized. Defaults to "bilinear". */
  interpolation?: Interpolation;
  /** When an image is made smaller, use all of its pixels, not only the nearest ones. Defaults to false. */
  antialias?: boolean;
  /**
   * "from-image", the default: rotate and mirror image files as their EXIF metadata says, as browsers do. "none": read
   * the pixels as they are stored, as TensorFlow and Pillow do. Only files have this metadata.
   */
  imageOrientation?: ImageOrientation;
  /** Order of the axes of input tensors and of the result. Defaults to "channels_last". */
  dataFormat?: 'channels_last' | 'channels_first' | null;
  /** Kept only because Keras' configuration has it: bounding boxes are not supported. Defaults to "yxyx". */
  boundingBoxFormat?: BoundingBoxFormat;
  /** Name of the converter. Defaults to its class in snake case, "gemma3_image_converter". */
  name?: string;
}

/** The names of all arguments. */
export const CONVERTER_ARGUMENTS: readonly (keyof ImageConverterArgs)[] = [
  'imageSize',
  'scale',
  'offset',
  'cropToAspectRatio',
  'padToAspectRatio',
  'interpolation',
  'antialias',
  'imageOrientation',
  'dataFormat',
  'boundingBoxFormat',
  'name',
];
const DATA_FORMATS = ['channels_last', 'channels_first'] as const;

/** @throws ValueError unless the value is one of the choices. */
function checkChoice(owner: string, name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  throw new ValueError(`${owner} expected \`${name}\` to be one of ${choices.join(', ')}. Received: ${show(value)}.`);
}

/** @throws ValueError unless the value is null, a number or a list of numbers. */
function checkNumbers(owner: string, name: string, value: unknown): void {
  const numbers = Array.isArray(value) && value.length > 0 ? (value as unknown[]) : [value];
  if (value === null || numbers.every(number => Number.isFinite(number))) return;
  throw new ValueError(
    `${owner} expected \`${name}\` to be null, a number or one number per channel. Received: ${show(value)}.`,
  );
}

/**
 * Prepares images for a model, as `keras_hub.layers.ImageConverter`: resizes them, multiplies by `scale` and adds
 * `offset`.
 *
 * Images with integer values, such as those from files, are rounded after resizing, as KerasHub rounds images of an
 * integer dtype.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class ImageConverter {
  /** @nocollapse */
  static className = 'ImageConverter';
  readonly name: string;
  readonly scale: number | readonly number[] | null;
  readonly offset: number | readonly number[] | null;
  readonly cropToAspectRatio: boolean;
  readonly padToAspectRatio: boolean;
  readonly interpolation: Interpolation;
  readonly antialias: boolean;
  readonly imageOrientation: ImageOrientation;
  readonly dataFormat: 'channels_last' | 'channels_first';
  readonly boundingBoxFormat: BoundingBoxFormat;

  private size: readonly [number, number] | null = null;

  constructor(args: ImageConverterArgs = {}) {
    const owner = this.getClassName();
    checkArguments(owner, args, CONVERTER_ARGUMENTS);
    this.name = args.name ?? snakeCase(owner);
    this.imageSize = args.imageSize ?? null;
    this.scale = args.scale ?? null;
    this.offset = args.offset ?? null;
    this.cropToAspectRatio = args.cropToAspectRatio ?? true;
    this.padToAspectRatio = args.padToAspectRatio ?? false;
    this.interpolation = args.interpolation ?? 'bilinear';
    this.antialias = args.antialias ?? false;
    this.imageOrientation = args.imageOrientation ?? 'from-image';
    this.dataFormat = args.dataFormat ?? 'channels_last';
    this.boundingBoxFormat = args.boundingBoxFormat ?? 'yxyx';
    const {name, cropToAspectRatio, padToAspectRatio, antialias} = this;
    checkArgument(owner, 'name', name, 'text');
    for (const [key, flag] of Object.entries({cropToAspectRatio, padToAspectRatio, antialias})) {
      checkArgument(owner, key, flag, 'flag');
    }
    checkNumbers(owner, 'scale', this.scale);
    checkNumbers(owner, 'offset', this.offset);
    checkChoice(owner, 'interpolation', this.interpolation, INTERPOLATIONS);
    checkChoice(owner, 'imageOrientation', this.imageOrientation, IMAGE_ORIENTATIONS);
    checkChoice(owner, 'dataFormat', this.dataFormat, DATA_FORMATS);
    checkChoice(owner, 'boundingBoxFormat', this.boundingBoxFormat, BOX_FORMATS);
    if (cropToAspectRatio && padToAspectRatio) {
      throw new ValueError(
        'Only one of `cropToAspectRatio` or `padToAspectRatio` can be true. Received: both. ' +
          '`cropToAspectRatio` is true by default.',
      );
    }
  }

  getClassName(): string {
    return (this.constructor as typeof ImageConverter).className;
  }

  /** Height and width of the result; null: those of the image. Can be set. */
  get imageSize(): readonly [number, number] | null {
    return this.size;
  }
  set imageSize(size: readonly [number, number] | null) {
    const isSize = (side: unknown) => Number.isSafeInteger(side) && (side as number) > 0;
    if (size !== null && !(Array.isArray(size) && size.length === 2 && size.every(isSize))) {
      throw new ValueError(
        `${this.getClassName()} expected \`imageSize\` to be null or [height, width]. ` +
          `Received: imageSize=${show(size)}.`,
      );
    }
    this.size = size;
  }

  /**
   * Converts one image → (height, width, channels), or several → (images, height, width, channels); with
   * "channels_first", channels come before height. Images of different sizes are resized separately. The result is
   * float32, or int32 if the images have integer values and there is neither `scale` nor `offset`.
   *
   * @throws ValueError on anything that is not an image, and for results of different sizes.
   */
  async call(image: ImageLike): Promise<tf.Tensor3D>;
  async call(images: tf.Tensor4D | readonly ImageLike[]): Promise<tf.Tensor4D>;
  async call(images: ImageLike | tf.Tensor4D | readonly ImageLike[]): Promise<tf.Tensor3D | tf.Tensor4D> {
    const rank = images instanceof tf.Tensor ? (images as tf.Tensor).rank : arrayRank(images);
    const batch = rank === 4 || (Array.isArray(images) && rank !== 3);
    if (!batch) {
      const one = await this.convert(images as ImageLike);
      return tf.tensor(one.values, this.shapeOf(one), dtypeOf(one)) as tf.Tensor3D;
    }
    const given: readonly (ImageLike | ImageReader)[] = imagesIn(images as tf.Tensor4D | readonly ImageLike[]);
    const converted: Pixels[] = [];
    for (const image of given) converted.push(await this.convert(image));
    const [first] = converted;
    if (!first) throw new ValueError(`${this.getClassName()} expected at least one image. Received: none.`);
    const size = first.values.length;
    const other = converted.find(one => String(this.shapeOf(one)) !== String(this.shapeOf(first)));
    if (other) {
      throw new ValueError(
        `${this.getClassName()} expected images of one size, or an \`imageSize\` to resize them to. ` +
          `Received: [${this.shapeOf(first).join(', ')}] and [${this.shapeOf(other).join(', ')}].`,
      );
    }
    const dtype = converted.every(one => dtypeOf(one) === 'int32') ? 'int32' : 'float32';
    const values = new (dtype === 'int32' ? Int32Array : Float32Array)(size * converted.length);
    converted.forEach((one, i) => values.set(one.values, i * size));
    return tf.tensor(values, [converted.length, ...this.shapeOf(first)], dtype) as tf.Tensor4D;
  }

  /**
   * Converts one image without creating a tensor. If `image` is a function, it is called with `imageOrientation` to read
   * the image.
   *
   * @throws ValueError on anything that is not an image.
   */
  async convert(image: ImageLike | ImageReader): Promise<Pixels> {
    const channelsFirst = this.dataFormat === 'channels_first';
    const {imageOrientation} = this;
    let pixels = await (typeof image === 'function' ? image(imageOrientation) : readPixels(image, imageOrientation));
    if (channelsFirst && (typeof image === 'function' || isNumbers(image))) pixels = channelsLast(pixels);
    if (this.imageSize) {
      const {imageSize: size, interpolation, antialias, cropToAspectRatio, padToAspectRatio} = this;
      const {resizePixels} = await import('../images/resizing');
      pixels = resizePixels(pixels, {size, interpolation, antialias, cropToAspectRatio, padToAspectRatio});
    }
    pixels = this.scaled(pixels);
    return channelsFirst ? {...pixels, values: transposed(pixels.values, pixels.channels)} : pixels;
  }

  private shapeOf({height, width, channels}: Pixels): [number, number, number] {
    return this.dataFormat === 'channels_first' ? [channels, height, width] : [height, width, channels];
  }

  private scaled(pixels: Pixels): Pixels {
    const {scale, offset} = this;
    if (scale === null && offset === null) return pixels;
    const {channels} = pixels;
    const perChannel = (name: string, value: number | readonly number[] | null, neutral: number): Float32Array => {
      const numbers = typeof value === 'number' || value === null ? [value ?? neutral] : value;
      if (numbers.length !== 1 && numbers.length !== channels) {
        throw new ValueError(
          `${this.getClassName()} expected an image with ${numbers.length} channels, one per number of \`${name}\`. ` +
            `Received: ${channels} channels.`,
        );
      }
      return Float32Array.from({length: channels}, (_, c) => numbers[numbers.length === 1 ? 0 : c]!);
    };
    const factors = perChannel('scale', scale, 1);
    const added = perChannel('offset', offset, 0);
    const values = new Float32Array(pixels.values.length);
    for (let i = 0, c = 0; i < values.length; i++, c = c + 1 === channels ? 0 : c + 1) {
      values[i] = Math.fround(pixels.values[i]! * factors[c]!) + added[c]!;
    }
    return {...pixels, values};
  }

  /** All arguments, with Keras' names in camelCase. */
  getConfig(): Record<string, unknown> {
    const {name, imageSize, scale, offset, interpolation, antialias} = this;
    const {cropToAspectRatio, padToAspectRatio, boundingBoxFormat, imageOrientation, dataFormat} = this;
    return {
      name,
      imageSize,
      scale,
      offset,
      interpolation,
      antialias,
      cropToAspectRatio,
      padToAspectRatio,
      boundingBoxFormat,
      // KerasHub saves neither. The defaults are left out, so that files are the same as KerasHub's.
      ...(imageOrientation === 'none' && {imageOrientation}),
      ...(dataFormat === 'channels_first' && {dataFormat}),
    };
  }

  /**
   * Creates a converter from a result of `getConfig` or a configuration of KerasHub.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): ImageConverter {
    // `dtype` and `trainable` are ignored: a converter always computes in float32, and has no weights.
    const {dtype: _d, trainable: _t, ...rest} = camelKeys(config);
    return new this(rest);
  }

  /** All presets that KerasHub publishes, by name. */
  static get presets(): Readonly<Record<string, PresetEntry>> {
    return presets;
  }

  /**
   * Loads the image converter of a preset. Of a base class, the result has the class that fits the preset.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError if the preset is for text only, and on unusable files or options.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: PresetOptions & ImageConverterArgs = {},
  ): Promise<ImageConverter> {
    return loadFromBase<ImageConverter>(this, preset, options);
  }

  /** Saves the converter into a preset, next to existing files, as KerasHub does. */
  async saveToPreset(target: PresetTarget): Promise<void> {
    await savePreset(target, {}, writer => writer.imageConverter(this));
  }
}

const dtypeOf = ({values}: Pixels) => (values instanceof Float32Array ? 'float32' : 'int32');

/** Corrects the pixels of a tensor (channels, height, width) that were read as if the channels came last. */
function channelsLast({height: channels, width: height, channels: width, values}: Pixels): Pixels {
  return {height, width, channels, values: transposed(values, height * width)};
}

/** Transposes values (rows, columns). */
function transposed(values: Pixels['values'], columns: number): Pixels['values'] {
  const rows = values.length / columns;
  const output = values.slice();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) output[column * rows + row] = values[row * columns + column]!;
  }
  return output;
}

/** Whether an image is given as numbers, in the order that the arguments say. */
const isNumbers = (image: unknown) => image instanceof tf.Tensor || Array.isArray(image) || isShapedArray(image);

/** The images of a list, or along the first axis of a tensor or an array with a shape. */
function imagesIn(images: tf.Tensor4D | ShapedArray | readonly ImageLike[]): readonly (ImageLike | ImageReader)[] {
  if (images instanceof tf.Tensor) return tensorReaders(images);
  return isShapedArray(images) ? partsOf(images) : images;
}
