/** Resizes and scales images for the vision encoder. */
import * as tf from '@tensorflow/tfjs';
import {camelKeys} from '../../base/casing';
import {checkArgument, checkArguments} from '../../base/checks';
import {checkKeys, show, ValueError} from '../../base/errors';
import {type CheckpointLike, withCheckpoint} from '../../checkpoints/open_checkpoint';
import {type ImageLike, readPixels, tensorReaders} from '../../images/image_like';
import {type Pixels} from '../../images/pixels';
import {type Interpolation, INTERPOLATIONS} from '../../images/resample';
import {resizePixels} from '../../images/resizing';

/** Arguments of {@link Gemma3ImageConverter}. */
export interface Gemma3ImageConverterArgs {
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
  /** When an image becomes smaller, use all of its pixels, not only the nearest ones. Defaults to false. */
  antialias?: boolean;
  /** Order of the axes of input tensors and of the result. Defaults to "channels_last". */
  dataFormat?: 'channels_last' | 'channels_first' | null;
  /** Kept only because Keras' configuration has it: bounding boxes are not supported. Defaults to "yxyx". */
  boundingBoxFormat?: string;
  /** Name of the converter. Defaults to "gemma3_image_converter". */
  name?: string;
}

const KNOWN: readonly (keyof Gemma3ImageConverterArgs)[] = [
  'imageSize',
  'scale',
  'offset',
  'cropToAspectRatio',
  'padToAspectRatio',
  'interpolation',
  'antialias',
  'dataFormat',
  'boundingBoxFormat',
  'name',
];
const DATA_FORMATS = ['channels_last', 'channels_first'] as const;
const BOX_FORMATS = ['xyxy', 'rel_xyxy', 'xywh', 'center_xywh', 'yxyx', 'rel_yxyx'] as const;
const OWNER = 'Gemma3ImageConverter';

/** @throws ValueError unless the value is one of the choices. */
function checkChoice(name: string, value: unknown, choices: readonly string[]): void {
  if (choices.includes(value as string)) return;
  throw new ValueError(`${OWNER} expected \`${name}\` to be one of ${choices.join(', ')}. Received: ${show(value)}.`);
}

/** @throws ValueError unless the value is null, a number or a list of numbers. */
function checkNumbers(name: string, value: unknown): void {
  const numbers = Array.isArray(value) && value.length > 0 ? (value as unknown[]) : [value];
  if (value === null || numbers.every(number => Number.isFinite(number))) return;
  throw new ValueError(
    `${OWNER} expected \`${name}\` to be null, a number or one number per channel. Received: ${show(value)}.`,
  );
}

/**
 * Prepares images for the model, as `keras_hub.layers.Gemma3ImageConverter`
 * (https://keras.io/keras_hub/api/models/gemma3/gemma3_image_converter/): resizes them, multiplies by `scale` and adds
 * `offset`.
 *
 * Images with integer values, such as those from files, are rounded after resizing, as KerasHub rounds images of an
 * integer dtype.
 *
 * @throws ValueError on unknown or unusable arguments.
 */
export class Gemma3ImageConverter {
  readonly name: string;
  readonly imageSize: readonly [number, number] | null;
  readonly scale: number | readonly number[] | null;
  readonly offset: number | readonly number[] | null;
  readonly cropToAspectRatio: boolean;
  readonly padToAspectRatio: boolean;
  readonly interpolation: Interpolation;
  readonly antialias: boolean;
  readonly dataFormat: 'channels_last' | 'channels_first';
  readonly boundingBoxFormat: string;

  constructor(args: Gemma3ImageConverterArgs = {}) {
    checkArguments(OWNER, args, KNOWN);
    this.name = args.name ?? 'gemma3_image_converter';
    this.imageSize = args.imageSize ?? null;
    this.scale = args.scale ?? null;
    this.offset = args.offset ?? null;
    this.cropToAspectRatio = args.cropToAspectRatio ?? true;
    this.padToAspectRatio = args.padToAspectRatio ?? false;
    this.interpolation = args.interpolation ?? 'bilinear';
    this.antialias = args.antialias ?? false;
    this.dataFormat = args.dataFormat ?? 'channels_last';
    this.boundingBoxFormat = args.boundingBoxFormat ?? 'yxyx';
    const {name, imageSize, cropToAspectRatio, padToAspectRatio, antialias} = this;
    checkArgument(OWNER, 'name', name, 'text');
    for (const [key, flag] of Object.entries({cropToAspectRatio, padToAspectRatio, antialias})) {
      checkArgument(OWNER, key, flag, 'flag');
    }
    const isSize = (size: unknown) => Number.isSafeInteger(size) && (size as number) > 0;
    if (imageSize !== null && !(Array.isArray(imageSize) && imageSize.length === 2 && imageSize.every(isSize))) {
      throw new ValueError(
        `${OWNER} expected \`imageSize\` to be null or [height, width]. Received: imageSize=${show(imageSize)}.`,
      );
    }
    checkNumbers('scale', this.scale);
    checkNumbers('offset', this.offset);
    checkChoice('interpolation', this.interpolation, INTERPOLATIONS);
    checkChoice('dataFormat', this.dataFormat, DATA_FORMATS);
    checkChoice('boundingBoxFormat', this.boundingBoxFormat, BOX_FORMATS);
    if (cropToAspectRatio && padToAspectRatio) {
      throw new ValueError(
        'Only one of `cropToAspectRatio` or `padToAspectRatio` can be true. Received: both. ' +
          '`cropToAspectRatio` is true by default.',
      );
    }
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
    const batch = Array.isArray(images) || (images instanceof tf.Tensor && (images as tf.Tensor).rank === 4);
    if (!batch) {
      const one = await this.convert(images as ImageLike);
      return tf.tensor(one.values, this.shapeOf(one), dtypeOf(one)) as tf.Tensor3D;
    }
    const given = images instanceof tf.Tensor ? tensorReaders(images) : (images as readonly ImageLike[]);
    const converted: Pixels[] = [];
    for (const image of given) converted.push(await this.convert(image));
    const [first] = converted;
    if (!first) throw new ValueError(`${OWNER} expected at least one image. Received: none.`);
    const size = first.values.length;
    const other = converted.find(one => String(this.shapeOf(one)) !== String(this.shapeOf(first)));
    if (other) {
      throw new ValueError(
        `${OWNER} expected images of one size, or an \`imageSize\` to resize them to. ` +
          `Received: [${this.shapeOf(first).join(', ')}] and [${this.shapeOf(other).join(', ')}].`,
      );
    }
    const dtype = converted.every(one => dtypeOf(one) === 'int32') ? 'int32' : 'float32';
    const values = new (dtype === 'int32' ? Int32Array : Float32Array)(size * converted.length);
    converted.forEach((one, i) => values.set(one.values, i * size));
    return tf.tensor(values, [converted.length, ...this.shapeOf(first)], dtype) as tf.Tensor4D;
  }

  /**
   * Converts one image without creating a tensor. If `image` is a function, it is called to read the image.
   *
   * @throws ValueError on anything that is not an image.
   */
  async convert(image: ImageLike | (() => Promise<Pixels>)): Promise<Pixels> {
    const channelsFirst = this.dataFormat === 'channels_first';
    let pixels = typeof image === 'function' ? await image() : await readPixels(image);
    if (channelsFirst && (typeof image === 'function' || image instanceof tf.Tensor)) pixels = channelsLast(pixels);
    if (this.imageSize) {
      const {imageSize: size, interpolation, antialias, cropToAspectRatio, padToAspectRatio} = this;
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
          `${OWNER} expected an image with ${numbers.length} channels, one per number of \`${name}\`. ` +
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
    const {cropToAspectRatio, padToAspectRatio, boundingBoxFormat, dataFormat} = this;
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
      // KerasHub does not save `dataFormat`. The default is left out, so that files are the same as KerasHub's.
      ...(dataFormat === 'channels_first' && {dataFormat}),
    };
  }

  /**
   * Creates a converter from a result of `getConfig` or a configuration of KerasHub.
   *
   * @throws ValueError on any other configuration.
   */
  static fromConfig(config: object): Gemma3ImageConverter {
    // `dtype` and `trainable` are ignored: a converter always computes in float32, and has no weights.
    const {dtype: _d, trainable: _t, ...rest} = camelKeys(config);
    return new Gemma3ImageConverter(rest);
  }

  /**
   * Loads the image converter of a preset.
   *
   * @param options arguments that override those of the preset.
   * @throws ValueError if the preset is for text only, and on unusable files or options.
   */
  static async fromPreset(
    preset: CheckpointLike,
    options: Gemma3ImageConverterArgs = {},
  ): Promise<Gemma3ImageConverter> {
    checkKeys('fromPreset', options, KNOWN);
    return withCheckpoint(preset, async checkpoint => {
      const saved = await checkpoint.config('imageConverter', 'Gemma3ImageConverter');
      if (saved) return Gemma3ImageConverter.fromConfig({...camelKeys(saved.config), ...options});
      throw new ValueError(
        `Expected a preset that takes images, with image_converter.json. Received: "${checkpoint.name}", a preset ` +
          'for text only.',
      );
    });
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
